"""From a study to its runs: each arm on each task, for each label fraction and seed.

Pure, so that every process of a study finds the same runs in the same order: the seeds
one after the other, and a pre-training where it is first needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mtpret_jax import config as schema
from mtpret_jax.config import rules, study_rules

# Longest segment of interleaved tasks, steps.
INTERLEAVED = 10
_FORGETFUL = dict(anchor_previous=0.0, anchor_pretrained=0.0, feature_memory=0.0)
_UNSCHEDULED = dict(reshuffle=False, cyclic=False)
# Or the last task would learn at the end of a curve that the first one began.
_ONE_PASS = dict(reshuffle=False, cyclic=True)
# What stage 2 of an arm changes of the study's own; see `_continual` for the steps.
_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "mtpret": {},
    "control": _FORGETFUL,
    "control_updates": _FORGETFUL,
    "joint_supervised": {**_FORGETFUL, **_UNSCHEDULED},
    "continual_plain": {**_FORGETFUL, **_ONE_PASS},
    "memorization_only": _ONE_PASS,
    "schedule_only": _FORGETFUL,
    "anchor_previous_only": dict(anchor_pretrained=0.0, feature_memory=0.0),
    "anchor_pretrained_only": dict(anchor_previous=0.0, feature_memory=0.0),
}
CONTROLS = ("control", "control_updates")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm on one task, with part of the labels and one seed.

    Attributes:
      arm: Of `config.study.arms`.
      task: Of `config.study.tasks`; the run's own may be a variant of it.
      fraction: Of the labels, (0, 1].
      seed: From 0; the run's own is that of the config and this.
      run: Whose predictions are the cell's. Of another arm where the two come to the
        same: the control of a task that stage 2 did not train is arm contrastive.
    """

    arm: str
    task: str
    fraction: float
    seed: int
    run: str


def expand(config: schema.ExperimentConfig) -> schema.ExperimentConfig:
    """Makes the runs of the config's study, and the task variants they need.

    A config without a study, or one that was expanded before, comes back as it is.

    Raises:
      ValueError: If the config has runs of its own besides, if an arm has nothing to
        do, or if a run that was made breaks a rule.
    """
    study = config.study
    if not study.tasks:
        return config
    tasks = dict(config.tasks)
    if "unetplusplus" in study.arms:
        for name in study.tasks:
            if config.tasks[name].kind == "segmentation":
                tasks[_variant(name)] = dataclasses.replace(
                    config.tasks[name], segmentation=study.unetplusplus
                )
    runs: dict[str, schema.RunConfig] = {}
    planned = cells(config)
    for cell in planned:
        _add(runs, config, cell)
    idle = sorted(set(study.arms) - {cell.arm for cell in planned})
    if idle:
        raise ValueError(
            f"config.study.arms: {idle} have no task among {list(study.tasks)} "
            f"(held out: {list(study.hold_out)}). Leave them out."
        )
    if config.runs and dict(config.runs) != runs:
        raise ValueError(
            f"config.runs: has {sorted(config.runs)[:4]}, but config.study makes all "
            "runs of its config. Leave config.runs empty, or config.study.tasks."
        )
    expanded = dataclasses.replace(config, tasks=tasks, runs=runs)
    rules.check(expanded)
    return expanded


def cells(config: schema.ExperimentConfig) -> tuple[Cell, ...]:
    """Every cell of the config's study, in the order of its runs.

    A config of runs is a study of one seed and one fraction of the labels.
    """
    study = config.study
    if not study.tasks:
        return _cells_of_runs(config)
    return tuple(
        Cell(arm, task, fraction, seed, _run_name(config, arm, task, fraction, seed))
        for seed in range(max(study.seeds))
        for fraction, seeds in zip(study.fractions, study.seeds, strict=True)
        if seed < seeds
        for arm in study.arms
        for task in study.tasks
        if _has_cell(config, arm, task)
    )


def _cells_of_runs(config: schema.ExperimentConfig) -> tuple[Cell, ...]:
    """The fine-tuning runs that name an arm; a second of one arm also names itself."""
    rows = {n: r for n, r in config.runs.items() if r.stage == "finetune" and r.arm}
    fraction = max((row.label_fraction for row in rows.values()), default=1.0)
    found: dict[tuple[str, str], Cell] = {}
    for name, row in rows.items():
        arm, task = row.arm, row.finetune.task
        arm = f"{arm} ({name})" if (arm, task) in found else arm
        found[arm, task] = Cell(arm, task, fraction, 0, name)
    return tuple(found.values())


def same_as(config: schema.ExperimentConfig, task: str) -> dict[str, str]:
    """Arms of a task that come to the same as another, and that other."""
    if not config.study.tasks:
        return {}
    found = {c.arm: c.run.partition(".")[0] for c in cells(config) if c.task == task}
    return {arm: other for arm, other in found.items() if arm != other}


def claims(config: schema.ExperimentConfig) -> tuple[tuple[str, str, str], ...]:
    """The name, arm and baseline of each difference to judge.

    In a config of runs, each arm against the baseline of the report.
    """
    study, baseline = config.study, config.report.baseline
    pairs = study_rules.claims(study)
    if not study.tasks:
        planned = cells(config)
        tasks = {cell.task for cell in planned if cell.arm == baseline}
        arms = dict.fromkeys(cell.arm for cell in planned if cell.task in tasks)
        pairs = [(arm, baseline) for arm in arms if arm != baseline]
    return tuple((f"{arm} - {other}", arm, other) for arm, other in pairs)


def _has_cell(config: schema.ExperimentConfig, arm: str, task: str) -> bool:
    """Whether an arm can be had for a task."""
    if arm == "unetplusplus":
        return config.tasks[task].kind == "segmentation"
    if arm == "contrastive_single":  # It would be pre-trained on a set held out.
        return task not in config.study.hold_out
    if arm == "head_carried":
        return task in _continual_tasks(config)
    return True


def _run_name(
    config: schema.ExperimentConfig, arm: str, task: str, fraction: float, seed: int
) -> str:
    # A task that stage 2 does not train gets no steps more.
    if arm == "control" and task not in _continual_tasks(config):
        arm = "contrastive"
    return f"{arm}.{task}.{_suffix(fraction, seed)}"


def _suffix(fraction: float, seed: int) -> str:
    return f"f{100 * fraction:g}.s{seed}"


def _variant(task: str) -> str:
    return f"{task}.unetplusplus"


def _add(
    runs: dict[str, schema.RunConfig], config: schema.ExperimentConfig, cell: Cell
) -> None:
    """Adds the run of a cell, after those that it descends from."""
    study, template = config.study, config.study.finetune
    arm = cell.run.partition(".")[0]
    task = _variant(cell.task) if arm == "unetplusplus" else cell.task
    rate = study.learning_rates.get(cell.task, template.optimizer.learning_rate)
    start = _start(runs, config, dataclasses.replace(cell, arm=arm))
    runs[cell.run] = dataclasses.replace(
        template,
        arm=arm,
        seed=config.seed + cell.seed,
        label_fraction=cell.fraction,
        init_from=start,
        steps=study.finetune_steps.get(cell.task, template.steps),
        optimizer=dataclasses.replace(template.optimizer, learning_rate=rate),
        finetune=dataclasses.replace(
            template.finetune,
            task=task,
            head="carried" if arm == "head_carried" else "new",
            frozen=study.frozen and config.tasks[cell.task].kind == "classification",
        ),
    )


def _start(
    runs: dict[str, schema.RunConfig], config: schema.ExperimentConfig, cell: Cell
) -> str:
    """What a cell's run starts from; adds the runs that make it."""
    arm, suffix = cell.arm, _suffix(cell.fraction, cell.seed)
    if arm in ("scratch", "unetplusplus"):
        return ""
    if arm == "imagenet":
        return config.study.imagenet
    if arm == "contrastive_single":
        dataset = config.tasks[cell.task].dataset
        name = f"{arm}.{dataset}.s{cell.seed}"
        runs.setdefault(name, _contrastive(config, cell.seed, dataset))
        return name
    parent = f"contrastive.s{cell.seed}"
    if arm == "joint_supervised":
        parent = ""
    else:
        runs.setdefault(parent, _contrastive(config, cell.seed))
    if arm == "contrastive":
        return parent
    name = f"{arm}.{suffix}"
    if arm == "control_updates" and cell.task not in _continual_tasks(config):
        name = f"{arm}.s{cell.seed}"
        runs.setdefault(name, _longer(config, runs[parent], parent))
        return name
    if arm in CONTROLS:
        name = f"{arm}.{cell.task}.{suffix}.extra"
    if arm == "head_carried":
        arm, name = "mtpret", f"mtpret.{suffix}"
    row = _continual(config, dataclasses.replace(cell, arm=arm))
    runs.setdefault(name, dataclasses.replace(row, init_from=parent))
    return name


def _contrastive(
    config: schema.ExperimentConfig, seed: int, only: str = ""
) -> schema.RunConfig:
    """Stage 1 on every set that is not held out, or on one alone."""
    study, template = config.study, config.study.contrastive
    held = {config.tasks[task].dataset for task in study.hold_out}
    datasets = {
        name: weight
        for name, weight in template.contrastive.datasets.items()
        if name not in held
    }
    stage = dataclasses.replace(template.contrastive, datasets=datasets)
    if only:
        queue = study.single_queue_size or stage.queue_size
        stage = dataclasses.replace(stage, datasets={only: 1.0}, queue_size=queue)
    return dataclasses.replace(template, seed=config.seed + seed, contrastive=stage)


def _longer(
    config: schema.ExperimentConfig, row: schema.RunConfig, name: str
) -> schema.RunConfig:
    """Stage 1 that goes on, for as many steps as stage 2 has."""
    stage_2 = config.study.continual
    steps = stage_2.steps * stage_2.continual.rounds * len(_continual_tasks(config))
    return dataclasses.replace(
        row,
        init_from=name,
        steps=steps,
        optimizer=dataclasses.replace(row.optimizer, warmup_steps=0),
        contrastive=dataclasses.replace(row.contrastive, carry_memory=True),
    )


def _continual_tasks(config: schema.ExperimentConfig) -> tuple[str, ...]:
    """The tasks of stage 2: none whose set is held out."""
    study = config.study
    held = {config.tasks[task].dataset for task in study.hold_out}
    names = study.continual.continual.tasks or study.tasks
    for name in names:
        rules.require_known(
            name, config.tasks, "task in config.study.continual.continual.tasks"
        )
    return tuple(name for name in names if config.tasks[name].dataset not in held)


def _continual(config: schema.ExperimentConfig, cell: Cell) -> schema.RunConfig:
    """Stage 2 of an arm: as many steps of each task, whatever their order.

    But of `control_updates`: as many in all.
    """
    template = config.study.continual
    steps, rounds = template.steps, template.continual.rounds
    tasks, every = _continual_tasks(config), template.evaluate_every
    if cell.arm in CONTROLS:
        rounds *= len(tasks) if cell.arm == "control_updates" else 1
        tasks = (cell.task,)
    elif cell.arm in ("continual_plain", "memorization_only"):
        steps, rounds = rounds * steps, 1
    elif cell.arm == "joint_supervised":
        # Measured as often as if segments were as long as elsewhere.
        every = max(every, steps)
        short = max(n for n in range(1, INTERLEAVED + 1) if steps % n == 0)
        steps, rounds = short, rounds * steps // short
    return dataclasses.replace(
        template,
        seed=config.seed + cell.seed,
        label_fraction=cell.fraction,
        steps=steps,
        evaluate_every=every,
        continual=dataclasses.replace(
            template.continual,
            tasks=tasks,
            rounds=rounds,
            **_CHANGES[cell.arm],
        ),
    )
