"""The cells of one task, measured: arms by shares of the labels and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import classification, intervals
from mtpret_jax.report import comparisons, measured, profiles
from mtpret_jax.study import plan

FROZEN = ("linear", "knn")  # `test.<method>.npz` beside `test.npz`
# What `Grid.describe` tells.
PARTS = ("values", "efficiency", "calibration", "confusion", "frozen", "subgroups")
PARTS = (*PARTS, "samples")
_TEST = f"{measured.SPLIT}.npz"
_RUN = ("best_step", "best_value", "steps", "seconds", "parent", "compute")
Measured = measured.Measured


@dataclasses.dataclass(frozen=True)
class Grid:
    """What measuring the cells of one task takes.

    Attributes:
      folder: The work folder.
      config: Expanded.
      metric: The metric of the task.
      cells: The cells of the task that have ended.
    """

    folder: epath.Path
    config: schema.ExperimentConfig
    metric: types.Metric
    cells: Sequence[plan.Cell]

    def path(self, cell: plan.Cell, file: str) -> epath.Path:
        """Where a cell's predictions are; its task may be a variant of this one."""
        task = self.config.runs[cell.run].finetune.task
        return measured.predictions(self.folder, cell.run, task, file)

    def measure(self, resamples: int, file: str = _TEST) -> comparisons.Cells:
        """Every cell by one file of predictions, where the run has it.

        Raises:
          FileNotFoundError: If a run that has ended has no predictions.
          ValueError: If two were measured on different examples.
        """
        by_run: dict[str, Measured] = {}
        found: dict[tuple[str, float], dict[int, Measured]] = {}
        for cell in self.cells:
            path = self.path(cell, file)
            if file != _TEST and not path.exists():
                continue
            if cell.run not in by_run:
                by_run[cell.run] = measured.measure(
                    path, self.metric, resamples=resamples, seed=self.config.seed
                )
            this = by_run[cell.run]
            measured.require_same_examples(
                f"Run {cell.run!r}", this, next(iter(by_run.values()))
            )
            found.setdefault((cell.arm, cell.fraction), {})[cell.seed] = this
        return found

    def describe(
        self,
        cells: comparisons.Cells,
        index: Sequence[Mapping[str, str]],
        resamples: int,
    ) -> dict[str, Any]:
        """The `PARTS` of a report that are told of a task's cells.

        Args:
          cells: What `measure` gave.
          index: Rows of the index of the test split, by record; none if unknown.
          resamples: Number of draws of an interval.
        """
        values = comparisons.values(cells)
        shown = plan.cells(self.config)[0].fraction  # Its cells are looked at closely.
        first = {
            arm: by_seed[0]
            for (arm, fraction), by_seed in cells.items()
            if fraction == shown and 0 in by_seed
        }
        frozen: dict[str, dict[str, dict[str, Any]]] = {}
        for method in FROZEN:
            file = f"{measured.SPLIT}.{method}.npz"
            probed = comparisons.values(self.measure(resamples, file))
            for fraction, rows in probed.items():
                for arm, row in rows.items():
                    frozen.setdefault(fraction, {}).setdefault(arm, {})[method] = row
        return {
            "values": values,
            "efficiency": comparisons.efficiency(values, self.metric.primary),
            **self._decisions(cells),
            "frozen": frozen,
            "subgroups": profiles.levels(
                self.metric, first, index, resamples=resamples, seed=self.config.seed
            ),
            "samples": {
                cell.arm: cell.run
                for cell in self.cells
                if (cell.fraction, cell.seed) == (shown, 0)
            },
        }

    def _decisions(self, cells: comparisons.Cells) -> dict[str, Any]:
        """Decisions of the first seed, by fraction and arm; none but of classification.

        `calibration`, and `confusion` where one class excludes the others: images by
        true and likeliest class.
        """
        found: dict[str, Any] = {"calibration": {}, "confusion": {}}
        metric = self.metric
        if not isinstance(metric, classification.ClassificationMetric):
            return found
        for cell in (cell for cell in self.cells if cell.seed == 0):
            this = cells[cell.arm, cell.fraction][0]
            told = {
                "calibration": profiles.calibration(
                    metric, this, self.path(cell, "validation.npz")
                ),
                "confusion": metric.confusion(this.summary),
            }
            for part, value in told.items():
                row = found[part].setdefault(comparisons.key(cell.fraction), {})
                row[cell.arm] = value
        return found


def run_of(cell: Measured) -> str:
    """The name of the run whose predictions were measured."""
    return cell.folder.parent.parent.name


def one_by_one(
    cells: comparisons.Cells, baseline: str, runs: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Each arm of a config of runs, with all its values less the baseline's.

    Args:
      cells: The cells of one task, with one fraction and one seed.
      baseline: The arm that the others are compared with.
      runs: The `run.json` of each run, with `compute`.
    """
    found = {}
    arms = {arm: by_seed[0] for (arm, _), by_seed in cells.items()}
    for arm, this in arms.items():
        name = run_of(this)
        row: dict[str, Any] = {
            "run": name,
            "images": len(this.record),
            "groups": len(np.unique(this.groups)),
            "studies": this.studies,
            "values": {
                key: _with_ends("value", value, this.draws[key])
                for key, value in this.values.items()
            },
        }
        other = arms.get(baseline, this)
        if other is not this:
            row["difference"] = {
                key: _with_ends(
                    "difference",
                    value - other.values[key],
                    this.draws[key] - other.draws[key],
                )
                for key, value in this.values.items()
            }
        found[arm] = row | {key: runs[name].get(key) for key in _RUN}
    return found


def _with_ends(name: str, value: float, drawn: np.ndarray) -> dict[str, float]:
    """A value, its interval, and how many resamples the interval rests on."""
    low, high = intervals.interval(drawn)
    resamples = int(np.isfinite(drawn).sum())
    return {name: value, "low": low, "high": high, "resamples": resamples}
