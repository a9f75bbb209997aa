"""Gathers what a study's work folder holds into one dict, which is also `study.json`.

Works on a folder that is not finished, too: what is missing is listed, and verdicts
are on what is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import budget
from mtpret_jax.metrics import classification, intervals
from mtpret_jax.report import collect
from mtpret_jax.study import arms, comparing, forgetting, plan, profiles

FROZEN = ("linear", "knn")  # `test.<method>.npz` beside `test.npz`
_CURVES = ("loss", "accuracy")  # of training, that are kept
_TEST = f"{collect.SPLIT}.npz"


@dataclasses.dataclass(frozen=True)
class _Task:
    """What measuring the cells of one task takes.

    Attributes:
      folder: The work folder.
      config: Expanded.
      metric: Of the task.
      cells: Those that have ended.
      resamples: Number of draws.
    """

    folder: epath.Path
    config: schema.ExperimentConfig
    metric: types.Metric
    cells: Sequence[plan.Cell]
    resamples: int

    def path(self, cell: plan.Cell, file: str) -> epath.Path:
        """Where a cell's predictions are; its task may be a variant of this one."""
        task = self.config.runs[cell.run].finetune.task
        return collect.predictions(self.folder, cell.run, task, file)

    def measure(self, file: str) -> dict[tuple[str, float], dict[int, Any]]:
        """Every cell by one file of predictions, where the run has it."""
        measured: dict[str, collect.Measured] = {}
        found: dict[tuple[str, float], dict[int, Any]] = {}
        for cell in self.cells:
            path = self.path(cell, file)
            if file != _TEST and not path.exists():
                continue
            if cell.run not in measured:
                measured[cell.run] = collect.measure(
                    path,
                    self.metric,
                    resamples=self.resamples,
                    seed=self.config.seed,
                )
            first = next(iter(measured.values()))
            this = measured[cell.run]
            collect.require_same_examples(f"Run {cell.run!r}", this, first)
            found.setdefault((cell.arm, cell.fraction), {})[cell.seed] = this
        return found


def build(
    workdir: epath.PathLike,
    config: schema.ExperimentConfig,
    metrics: Mapping[str, types.Metric],
    indices: Mapping[str, Sequence[Mapping[str, str]]],
) -> dict[str, Any]:
    """Measures every finished cell, judges the claims and gathers the rest.

    Args:
      workdir: The work folder.
      config: What it was made from, expanded.
      metrics: The metric of each task.
      indices: Rows of the index of each set's test split, by record.

    Returns:
      What `study.json` holds; what is undefined is NaN. Fractions of the labels are
      keys such as "0.1". `values`, `efficiency`, `calibration`, `frozen`, `compute`,
      `subgroups` and `samples` are by task; the last two are of the cells that `shown`
      names.

    Raises:
      FileNotFoundError: If a finished run has no predictions.
      ValueError: If two arms were measured on different examples.
    """
    folder, study = epath.Path(workdir), config.study
    facts = collect.facts(folder, config)
    ended = [c for c in plan.cells(config) if c.run not in facts["unfinished"]]
    planned, drawn = comparing.pairs(config), comparing.resamples(config)
    compared: list[comparing.Compared] = []
    areas: list[dict[str, Any]] = []
    parts: dict[str, dict[str, Any]] = {}
    for name in study.tasks:
        metric, options = metrics[name], config.tasks[name]
        mine = [cell for cell in ended if cell.task == name]
        task = _Task(folder, config, metric, mine, drawn)
        measured = task.measure(_TEST)
        pairs = [pair for pair in planned if pair.task == name]
        compared += comparing.compare(pairs, measured, metric)
        areas += comparing.areas(pairs, measured, metric)
        found = _measured(task, measured, indices[options.dataset])
        found["tasks"] = _about(config, name, metric, mine, facts["runs"])
        for part, value in found.items():
            parts.setdefault(part, {})[name] = value
    remembered = forgetting.describe(config, facts["forgetting"])
    return {
        **facts,
        **parts,
        "interval": {"level": intervals.LEVEL, "resamples": drawn, "unit": "group"},
        "fractions": [comparing.key(fraction) for fraction in study.fractions],
        "seeds": list(study.seeds),
        "arms": {arm: arms.MEANING[arm] for arm in study.arms},
        "shown": {"fraction": comparing.key(study.fractions[0]), "seed": 0},
        "claims": comparing.claims(config, compared),
        "compute": compute(config),
        "areas": areas,
        "forgetting": remembered,
        "transfer": forgetting.transfer(remembered),
        "curves": {name: _kept(curves) for name, curves in facts["curves"].items()},
        "labels": {name: run["labels"] for name, run in facts["runs"].items()},
    }


def _measured(
    task: _Task, cells: comparing.Cells, index: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """The parts of `study.json` that are told of a task's cells."""
    config, metric = task.config, task.metric
    values = comparing.values(cells)
    first = {
        arm: by_seed[0]
        for (arm, fraction), by_seed in cells.items()
        if fraction == config.study.fractions[0] and 0 in by_seed
    }
    frozen: dict[str, dict[str, dict[str, Any]]] = {}
    for method in FROZEN:
        probed = comparing.values(task.measure(f"{collect.SPLIT}.{method}.npz"))
        for fraction, rows in probed.items():
            for arm, row in rows.items():
                frozen.setdefault(fraction, {}).setdefault(arm, {})[method] = row
    return {
        "values": values,
        "efficiency": comparing.efficiency(values, metric.primary),
        "calibration": _calibration(task, cells),
        "frozen": frozen,
        "subgroups": profiles.levels(
            metric, first, index, resamples=task.resamples, seed=config.seed
        ),
        "samples": {
            cell.arm: cell.run
            for cell in task.cells
            if (cell.fraction, cell.seed) == (config.study.fractions[0], 0)
        },
    }


def _calibration(task: _Task, cells: comparing.Cells) -> dict[str, dict[str, Any]]:
    """By fraction and arm, of the first seed; empty unless there are probabilities."""
    found: dict[str, dict[str, Any]] = {}
    metric = task.metric
    if not isinstance(metric, classification.ClassificationMetric):
        return found
    for cell in task.cells:
        if cell.seed == 0:
            found.setdefault(comparing.key(cell.fraction), {})[cell.arm] = (
                profiles.calibration(
                    metric,
                    cells[cell.arm, cell.fraction][0],
                    task.path(cell, "validation.npz"),
                )
            )
    return found


def _about(
    config: schema.ExperimentConfig,
    name: str,
    metric: types.Metric,
    cells: Sequence[plan.Cell],
    runs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What a task is; numbers of its test split once a cell has ended."""
    options = config.tasks[name]
    test = next((_tested(runs[cell.run]) for cell in cells), {})
    return {
        "kind": options.kind,
        "dataset": options.dataset,
        "external": name in config.study.hold_out,
        "primary": metric.primary,
        "class_names": list(metric.class_names),
        "image_size": options.image_size,
        "images": test.get("records"),
        "groups": test.get("groups"),
        "positives": test.get("positives"),
        # Arms that come to the same as another, such as the control of a task that is
        # held out.
        "same_as": {
            cell.arm: other
            for cell in plan.cells(config)
            if cell.task == name and (other := cell.run.partition(".")[0]) != cell.arm
        },
    }


def compute(config: schema.ExperimentConfig) -> dict[str, dict[str, dict[str, Any]]]:
    """What each cell takes, with all that it descends from, alike for every seed.

    Returns:
      By task, fraction and arm: `updates`, `images`, and `start`, the same of what its
      fine-tuning starts from.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in plan.cells(config):
        start = config.runs[cell.run].init_from
        none = budget.Compute(0, 0)
        before = budget.compute(config, start) if start in config.runs else none
        row = dataclasses.asdict(budget.compute(config, cell.run))
        row["start"] = dataclasses.asdict(before)
        by_fraction = found.setdefault(cell.task, {})
        by_fraction.setdefault(comparing.key(cell.fraction), {})[cell.arm] = row
    return found


def _tested(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a run of stage 3 says of its test split."""
    return run["labels"][run["task"]]["test"]


def _kept(curves: Mapping[str, Any]) -> dict[str, Any]:
    """The curves that are shown: all of validation, and how training went."""
    return {
        name: curve
        for name, curve in curves.items()
        if name.startswith("validation/") or name.rpartition("/")[2] in _CURVES
    }
