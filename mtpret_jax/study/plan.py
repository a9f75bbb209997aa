"""From a study to its runs: each arm on each task, for each label fraction and seed.

Pure, so that every process of a study finds the same runs in the same order: the seeds
one after the other, and a pre-training where it is first needed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from mtpret_jax import config as schema
from mtpret_jax.config import rules, study_rules
from mtpret_jax.study import arms as table

# Longest segment of interleaved tasks, steps.
INTERLEAVED = 10


@dataclasses.dataclass(frozen=True)
class Cell:
    """One arm on one task, with part of the labels and one seed.

    Attributes:
      arm: An arm of `config.study.arms`.
      task: A task of `config.study.tasks`; the run's own may be a variant of it.
      fraction: The share of the labels, (0, 1].
      seed: Number of the seed, from 0; the run's own is that of the config and this.
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
    runs: dict[str, schema.RunConfig] = {}
    planned = cells(config)
    for cell in planned:
        if changes := _task_changes(config, cell.arm):
            tasks[f"{cell.task}.{cell.arm}"] = dataclasses.replace(
                config.tasks[cell.task], **changes
            )
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
    rows = {n: r for n, r in config.runs.items() if r.options.is_tested and r.arm}
    fraction = max((row.label_fraction for row in rows.values()), default=1.0)
    found: dict[tuple[str, str], Cell] = {}
    for name, row in rows.items():
        arm, (task,) = row.arm, row.tasks
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
    row = table.arm(config, arm)
    if row.kinds and config.tasks[task].kind not in row.kinds:
        return False
    return (
        not row.needs
        or (row.needs == "not held out" and task not in config.study.hold_out)
        or (row.needs == "trained" and task in _continual_tasks(config))
    )


def _run_name(
    config: schema.ExperimentConfig, arm: str, task: str, fraction: float, seed: int
) -> str:
    other = table.arm(config, arm).untrained
    if other in table.ARMS and task not in _continual_tasks(config):
        arm = other
    return f"{arm}.{task}.{_suffix(fraction, seed)}"


def _suffix(fraction: float, seed: int) -> str:
    return f"f{100 * fraction:g}.s{seed}"


def _add(
    runs: dict[str, schema.RunConfig], config: schema.ExperimentConfig, cell: Cell
) -> None:
    """Adds the run of a cell, after those that it descends from."""
    study, template = config.study, config.study.finetune
    arm = cell.run.partition(".")[0]
    task = f"{cell.task}.{arm}" if _task_changes(config, arm) else cell.task
    rate = study.learning_rates.get(cell.task, template.optimizer.learning_rate)
    start = _start(runs, config, dataclasses.replace(cell, arm=arm))
    runs[cell.run] = dataclasses.replace(
        template,
        arm=arm,
        seed=config.seed + cell.seed,
        label_fraction=cell.fraction,
        encoder=arm if arm in config.encoders else "",
        init_from=start,
        steps=study.finetune_steps.get(cell.task, template.steps),
        optimizer=dataclasses.replace(template.optimizer, learning_rate=rate),
        finetune=dataclasses.replace(
            template.finetune,
            task=task,
            head=table.arm(config, arm).head,
            frozen=study.frozen and config.tasks[cell.task].can_be_probed,
        ),
    )


def _task_changes(config: schema.ExperimentConfig, arm: str) -> dict[str, Any]:
    """Options of a task that an arm changes, which makes a task of its own of it."""
    row = table.arm(config, arm)
    changes: dict[str, Any] = {}
    if row.is_network:
        changes["segmentation"] = getattr(config.study, arm)
    if row.image_size:
        changes["image_size"] = row.image_size
    return changes


def _start(
    runs: dict[str, schema.RunConfig], config: schema.ExperimentConfig, cell: Cell
) -> str:
    """What a cell's run starts from; adds the runs that make it."""
    row, suffix = table.arm(config, cell.arm), _suffix(cell.fraction, cell.seed)
    if row.start == "random":
        return ""
    if row.start == "file":
        return config.encoders[cell.arm].weights
    if row.start == "own set":
        dataset = config.tasks[cell.task].dataset
        name = f"{cell.arm}.{dataset}.s{cell.seed}"
        runs.setdefault(name, _contrastive(config, cell.seed, dataset))
        return name
    parent = ""
    if row.start != "stage 2 alone":
        parent = f"{table.STAGE_1}.s{cell.seed}"
        runs.setdefault(parent, _contrastive(config, cell.seed))
    if row.start == "stage 1":
        return parent
    if row.untrained and cell.task not in _continual_tasks(config):
        name = f"{cell.arm}.s{cell.seed}"
        runs.setdefault(name, _longer(config, runs[parent], parent))
        return name
    arm = row.stage_2_of or cell.arm
    name = f"{arm}.{suffix}"
    if row.trains != "all":
        name = f"{arm}.{cell.task}.{suffix}.extra"
    stage_2 = _continual(config, dataclasses.replace(cell, arm=arm))
    runs.setdefault(name, dataclasses.replace(stage_2, init_from=parent))
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
    """Stage 1 trained longer, for as many steps as stage 2 has."""
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
    """Stage 2 of an arm: as many steps of each task, whatever their order."""
    template, arm = config.study.continual, table.ARMS[cell.arm]
    steps, rounds = template.steps, template.continual.rounds
    tasks, every = _continual_tasks(config), template.evaluate_every
    if arm.trains != "all":
        rounds *= len(tasks) if arm.trains == "own for all" else 1
        tasks = (cell.task,)
    if arm.segments == "whole":
        steps, rounds = rounds * steps, 1
    elif arm.segments == "interleaved":
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
            **arm.changes,
        ),
    )
