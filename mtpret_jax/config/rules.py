"""Rules that span several options of a config, and errors that give advice."""

from __future__ import annotations

import difflib
import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

from mtpret_jax.config import (
    objectives,
    parts,
    pixel_rules,
    schema,
    stages,
    task_rules,
)

# What people ask for that no option, or no choice of it, gives.
NOT_THERE = {
    "StudyConfig.imagenet": " Name any number of files as rows of config.encoders, "
    "`config.encoders.imagenet = schema.encoder(weights=FILE)`, and as arms.",
    "TaskConfig.kind": " Keypoints are landmarks here.",
}


def check_range(table: type, option: str, value: object, path: str) -> None:
    """Raises ValueError if `value` of an option of `table` is out of its range."""
    low, high = parts.bounds(table, option)
    if isinstance(value, (int, float)) and not low <= value <= high:
        wanted = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{path}: expected {wanted}, got {value}.")


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """A sentence that lists the known names and suggests the most similar."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    advice = f" Did you mean '{close[0]}'?" if close else ""
    return f"{advice} Known: {names}."


def require_known(name: str, known: typing.Iterable[str], what: str) -> None:
    """Raises ValueError, with advice, unless `name` is one of `known`."""
    known = list(known)
    if name not in known:
        raise ValueError(f"Unknown {what} '{name}'.{nearest(name, known)}")


def check(config: schema.ExperimentConfig) -> None:
    """Checks what spans several options."""
    pixel_rules.check(config)
    for name, row in config.tasks.items():
        path = f"config.tasks.{name}"
        require_known(row.dataset, config.datasets, f"set in {path}.dataset")
        _require_positive(row, path, "image_size", "batch_size", "microbatches")
        _require_multiple(row.batch_size, row.microbatches, f"{path}.batch_size")
        part = row.batch_size // row.microbatches
        _check_groups(part, row.batch_norm_rows, path)
        task_rules.check(row, path)
    earlier: list[str] = []
    for name, row in config.runs.items():
        if wrong := sorted(set(name) & set("/[]\\")):
            raise ValueError(
                f"config.runs: '{name}' names a folder, in whose path checkpoints "
                f"would be lost for its {' and '.join(wrong)}. Give it another name."
            )
        _check_run(config, name, row, earlier)
        earlier.append(name)
    arms = {row.arm for row in config.runs.values() if row.stage == "finetune"} - {""}
    if len(arms) > 1:
        require_known(config.report.baseline, arms, "arm in config.report.baseline")


def _check_run(
    config: schema.ExperimentConfig,
    name: str,
    row: schema.RunConfig,
    earlier: list[str],
) -> None:
    path = f"config.runs.{name}"
    _require_positive(row, path, "steps", "log_every", "checkpoint_every")
    if row.encoder:
        require_known(row.encoder, config.encoders, f"encoder in {path}.encoder")
    if is_weights(row.init_from):
        _check_weights(path, row)
    elif row.init_from and "/" not in row.init_from:
        require_known(row.init_from, earlier, f"earlier run in {path}.init_from")
        _check_parent(config, path, row, config.runs[row.init_from])
    curve = row.steps
    if row.stage == "continual" and not row.continual.cyclic:
        curve *= row.continual.rounds * len(row.continual.tasks)
    if row.optimizer.warmup_steps >= curve:
        raise ValueError(
            f"{path}.optimizer.warmup_steps: expected fewer than the {curve} "
            f"steps, got {row.optimizer.warmup_steps}."
        )
    _check_labels(config, path, row)
    _check_monitor(config, f"{path}.monitor", row)
    if row.stage in _STAGE_CHECKS:
        _STAGE_CHECKS[row.stage](config, path, row)


def _check_contrastive(
    config: schema.ExperimentConfig, path: str, row: schema.RunConfig
) -> None:
    stage = row.contrastive
    if not stage.datasets:
        raise ValueError(f"{path}.contrastive.datasets: name at least one set.")
    for entry, weight in stage.datasets.items():
        require_known(entry, config.datasets, f"set in {path}.contrastive")
        if not weight > 0:  # or no number at all
            raise ValueError(
                f"{path}.contrastive.datasets.{entry}: expected a weight above 0, "
                f"got {weight}. Leave the set out instead."
            )
    objectives.check(stage, f"{path}.contrastive")
    _require_positive(stage, f"{path}.contrastive", "batch_size", "queue_size")
    if stage.negatives:
        _require_multiple(
            stage.queue_size, stage.batch_size, f"{path}.contrastive.queue_size"
        )
    _check_groups(stage.batch_size, stage.batch_norm_rows, f"{path}.contrastive")
    _require_positive(stage, f"{path}.contrastive", "microbatches")
    if stage.microbatches > 1:
        rows = stage.batch_norm_rows or stage.batch_size
        _require_multiple(
            stage.batch_size,
            rows * stage.microbatches,
            f"{path}.contrastive.batch_size, for microbatches of whole groups",
        )
    if stage.temperature <= 0:
        raise ValueError(f"{path}.contrastive.temperature: expected above 0.")
    if stage.carry_memory and not row.init_from:
        raise ValueError(
            f"{path}.contrastive.carry_memory: needs init_from, an earlier run of "
            "the contrastive stage."
        )


def _check_continual(
    config: schema.ExperimentConfig, path: str, row: schema.RunConfig
) -> None:
    if not row.continual.tasks:
        raise ValueError(f"{path}.continual.tasks: name at least one task.")
    if len(set(row.continual.tasks)) < len(row.continual.tasks):
        raise ValueError(f"{path}.continual.tasks: a task comes twice.")
    for entry in row.continual.tasks:
        require_known(entry, config.tasks, f"task in {path}.continual.tasks")
    _require_positive(row.continual, f"{path}.continual", "rounds")


def _check_finetune(
    config: schema.ExperimentConfig, path: str, row: schema.RunConfig
) -> None:
    require_known(row.finetune.task, config.tasks, f"task in {path}.finetune.task")
    if row.finetune.head == "carried" and not row.init_from:
        raise ValueError(f"{path}.finetune.head: 'carried' needs init_from.")
    task = config.tasks[row.finetune.task]
    if row.finetune.frozen and not task.can_be_probed:
        raise ValueError(
            f"{path}.finetune.frozen: expected a task of classification, got "
            f"'{row.finetune.task}' of {task.kind}. Leave it out."
        )
    _check_recipe(row.finetune, f"{path}.finetune")


def _check_recipe(stage: stages.FinetuneConfig, path: str) -> None:
    """Refuses what means nothing for the part of the network that trains."""
    means_nothing = {
        "head": ("drop_path", "layer_decay", "lora_rank", "lora_alpha"),
        "lora": ("layer_decay",),
        "all": ("lora_rank", "lora_alpha"),
    }
    for option in means_nothing[stage.trains]:
        default = getattr(stages.FinetuneConfig, option)
        if getattr(stage, option) != default:
            raise ValueError(
                f"{path}.{option}: means nothing where trains is '{stage.trains}'. "
                f"Leave it out, or at its default, {default}."
            )


_STAGE_CHECKS: Mapping[
    str, Callable[[schema.ExperimentConfig, str, schema.RunConfig], None]
] = {
    "contrastive": _check_contrastive,
    "continual": _check_continual,
    "finetune": _check_finetune,
}


def _check_labels(
    config: schema.ExperimentConfig, path: str, row: schema.RunConfig
) -> None:
    """Refuses a label fraction that the start of the run has gone beyond."""
    if row.stage == "contrastive" and row.label_fraction < 1:
        raise ValueError(
            f"{path}.label_fraction: got {row.label_fraction}, but stage 1 reads no "
            "labels and all images. Leave it out."
        )
    earlier = row
    while row.label_fraction < 1 and earlier.init_from in config.runs:
        name, earlier = earlier.init_from, config.runs[earlier.init_from]
        shared = sorted(set(earlier.tasks) & set(row.tasks))
        within = earlier.label_fraction <= row.label_fraction and config.seed_of(
            earlier
        ) == config.seed_of(row)
        if shared and not within:
            raise ValueError(
                f"{path}.label_fraction: {row.label_fraction} of the labels of "
                f"{shared} with seed {config.seed_of(row)}, but it descends from run "
                f"'{name}', which learnt from {earlier.label_fraction} of them with "
                f"seed {config.seed_of(earlier)}. Give both the same seed, and that "
                "run no larger fraction; or start from another run."
            )


def _check_monitor(
    config: schema.ExperimentConfig, path: str, row: schema.RunConfig
) -> None:
    """Refuses a monitor where there is none, and tasks that it cannot look at."""
    if not row.options.is_monitored and row.monitor != stages.MonitorConfig():
        raise ValueError(
            f"{path}: means nothing in stage '{row.stage}', whose validation tells how "
            "good it is. Leave it out."
        )
    for name in row.monitor.tasks:
        require_known(name, config.tasks, f"task in {path}.tasks")
        task, sets = config.tasks[name], config.datasets_of(row)
        if not task.can_be_probed or task.dataset not in sets:
            raise ValueError(
                f"{path}.tasks: expected tasks of classification whose set the run "
                f"reads, of {list(sets)}; got '{name}' of {task.kind}, set "
                f"'{task.dataset}'. Leave it out."
            )


def shares(config: schema.ExperimentConfig, name: str) -> dict[str, int]:
    """What the devices of a run share at a time, by the option for it.

    Examples; in micro-batches of stage 1 whole groups of BatchNorm.
    """
    row = config.runs[name]
    if row.stage == "contrastive":
        path, part = f"config.runs.{name}.contrastive.batch_size", row.contrastive
        if part.microbatches == 1:
            return {path: part.batch_size}
        groups = part.batch_size // part.batch_norm_rows // part.microbatches
        return {f"{path} / batch_norm_rows / microbatches": groups}
    found = {}
    for task in row.tasks:
        settings = config.tasks[task]
        path = f"config.tasks.{task}.batch_size / microbatches"
        found[path] = settings.batch_size // settings.microbatches
    return found


def validation_batches(row: schema.RunConfig) -> int:
    """Largest number of a task's batches that stage 2 measures it on, each time.

    Where the config gives none, all tasks together have no more than there were steps
    since the last time, but each has one.
    """
    steps = max(row.evaluate_every // row.steps, 1) * row.steps
    share = max(steps // len(row.continual.tasks), 1)
    return row.continual.validation_batches or share


def is_weights(init_from: str) -> bool:
    """Whether a run starts from a file of weights, told by its ending."""
    return init_from.endswith((".safetensors", ".pth", ".pt"))


def _check_weights(path: str, row: schema.RunConfig) -> None:
    """Checks that a file of weights is not asked for what no file holds."""
    if row.stage == "contrastive" and row.contrastive.carry_memory:
        raise ValueError(
            f"{path}.contrastive.carry_memory: asks for key encoder and queue, but "
            f"init_from '{row.init_from}' is a file of weights and holds none."
        )


def _check_parent(
    config: schema.ExperimentConfig,
    path: str,
    row: schema.RunConfig,
    parent: schema.RunConfig,
) -> None:
    """Checks that an earlier run has what this one wants to carry on."""
    if row.encoder != parent.encoder:
        raise ValueError(
            f"{path}.encoder: got '{row.encoder}', but run '{row.init_from}', which it "
            f"starts from, has '{parent.encoder}'. Give both the same."
        )
    if row.options.carries_head and not set(row.tasks) <= set(parent.tasks):
        raise ValueError(
            f"{path}.finetune.head: 'carried', but run '{row.init_from}' trains no "
            f"head of task '{row.finetune.task}'."
        )
    if row.stage == "contrastive" and row.contrastive.carry_memory:
        wanted, found = row.contrastive, parent.contrastive
        same = (wanted.queue_size, wanted.embedding_size) == (
            found.queue_size,
            found.embedding_size,
        )
        if parent.stage != "contrastive" or not (same and found.negatives):
            raise ValueError(
                f"{path}.contrastive.carry_memory: run '{row.init_from}' has no key "
                f"encoder and queue of {wanted.queue_size} x {wanted.embedding_size}."
            )


def _require_positive(row: Any, path: str, *options: str) -> None:
    for option in options:
        if getattr(row, option) < 1:
            raise ValueError(
                f"{path}.{option}: expected at least 1, got {getattr(row, option)}."
            )


def _check_groups(examples: int, rows: int, path: str) -> None:
    """Checks that BatchNorm's groups divide what is normalised at once."""
    if rows and examples > rows and examples % rows:
        raise ValueError(
            f"{path}.batch_norm_rows: {examples} examples at a time do not divide into "
            f"groups of {rows}. Use a divisor of {examples}, for example "
            f"{math.gcd(examples, rows)}, or 0 for one group."
        )


def _require_multiple(value: int, unit: int, path: str) -> None:
    if unit < 1 or value % unit:
        down = value // max(unit, 1) * unit
        raise ValueError(
            f"{path}: got {value}, expected a multiple of {unit}, for example "
            f"{down or unit} or {down + unit}."
        )
