"""The cells of one task, measured: arms by shares of the labels and seeds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import calibration, classification, detection, labels, subgroups
from mtpret_jax.report import comparisons, measured, parts
from mtpret_jax.study import plan

FROZEN = ("linear", "knn")  # `test.<method>.npz` beside `test.npz`
COLUMNS = ("view", "sex", "age")  # of the set's index
_TEST = f"{measured.SPLIT}.npz"


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
        by_run: dict[str, measured.Measured] = {}
        found: dict[tuple[str, float], dict[int, measured.Measured]] = {}
        for cell in self.cells:
            path = self.path(cell, file)
            if file != _TEST and not path.exists():
                continue
            if cell.run not in by_run:
                by_run[cell.run] = measured.measure(
                    path, self.metric, resamples=resamples, seed=self.config.seed
                )
            this = by_run[cell.run]
            measured.require_same_examples(this, next(iter(by_run.values())))
            found.setdefault((cell.arm, cell.fraction), {})[cell.seed] = this
        return found

    def describe(
        self,
        cells: comparisons.Cells,
        index: Sequence[Mapping[str, str]],
        resamples: int,
    ) -> parts.Parts:
        """What the report tells of the cells.

        Args:
          cells: What `measure` gave.
          index: Rows of the index of the test split, by record; none if unknown.
          resamples: Number of draws of an interval.
        """
        shown = plan.cells(self.config)[0].fraction  # Its cells are looked at closely.
        frozen: parts.ByArm[dict[str, parts.Values]] = {}
        for method in FROZEN:
            file = f"{measured.SPLIT}.{method}.npz"
            probed = comparisons.values(self.measure(resamples, file))
            for fraction, rows in probed.items():
                for arm, row in rows.items():
                    frozen.setdefault(fraction, {}).setdefault(arm, {})[method] = row
        decided: parts.ByArm[dict[str, parts.Decision]] = {}
        metric = self.metric
        if isinstance(metric, classification.ClassificationMetric):
            for cell in (cell for cell in self.cells if cell.seed == 0):
                this, share = cells[cell.arm, cell.fraction][0], cell.fraction
                validation, _ = measured.read_predictions(
                    self.path(cell, "validation.npz")
                )
                row = decided.setdefault(comparisons.key(share), {})
                row[cell.arm] = _decisions(metric, this, validation)
        return parts.Parts(
            values=comparisons.values(cells),
            frozen=frozen,
            calibration=decided,
            confusion=self._confusion(cells),
            froc=self._froc(cells),
            subgroups=self._levels(
                {
                    arm: by_seed[0]
                    for (arm, fraction), by_seed in cells.items()
                    if fraction == shown and 0 in by_seed
                },
                index,
                resamples,
            ),
            samples={
                cell.arm: cell.run
                for cell in self.cells
                if (cell.fraction, cell.seed) == (shown, 0)
            },
        )

    def _froc(self, cells: comparisons.Cells) -> parts.ByArm[dict[str, list[float]]]:
        """Curves of the first seed, of boxes alone."""
        found: parts.ByArm[dict[str, list[float]]] = {}
        if isinstance(self.metric, detection.DetectionMetric):
            for (arm, fraction), by_seed in cells.items():
                if 0 in by_seed:
                    row = found.setdefault(comparisons.key(fraction), {})
                    row[arm] = self.metric.curves(by_seed[0].summary)
        return found

    def _confusion(self, cells: comparisons.Cells) -> parts.ByArm[list[list[int]]]:
        """Counts of the first seed, where one class excludes the others."""
        found: parts.ByArm[list[list[int]]] = {}
        metric = self.metric
        if not isinstance(metric, labels.LabelMetric):
            return found
        for cell in (cell for cell in self.cells if cell.seed == 0):
            counts = metric.confusion(cells[cell.arm, cell.fraction][0].summary)
            if counts is not None:
                row = found.setdefault(comparisons.key(cell.fraction), {})
                row[cell.arm] = counts.tolist()
        return found

    def _levels(
        self,
        cells: Mapping[str, measured.Measured],
        index: Sequence[Mapping[str, str]],
        resamples: int,
    ) -> dict[str, list[parts.Level]]:
        """The primary value of each arm for each level of the columns that are known.

        Args:
          cells: The cell of each arm, all of the same examples.
          index: See `describe`.
          resamples: See `describe`.
        """
        found: dict[str, list[parts.Level]] = {}
        name = self.metric.primary
        for column in COLUMNS if index else ():
            rows: dict[str, parts.Level] = {}
            for arm, cell in cells.items():
                entries = subgroups.entries(
                    column, (index[record] for record in cell.record)
                )
                if not (entries != "").any():
                    break
                for level in subgroups.table(
                    self.metric,
                    cell.summary,
                    cell.groups,
                    entries,
                    resamples=resamples,
                    seed=self.config.seed,
                    draws=functools.partial(measured.draws, cell.folder),
                ):
                    about = parts.Level(level.name, level.images, level.groups, {})
                    rows.setdefault(level.name, about).values[arm] = parts.Range(
                        level.values[name], level.low[name], level.high[name]
                    )
            if rows:
                found[column] = list(rows.values())
        return found


def _decisions(
    metric: classification.ClassificationMetric,
    test: measured.Measured,
    validation: Mapping[str, np.ndarray],
) -> dict[str, parts.Decision]:
    """Calibration of each class on test; decisions at the best threshold of validation.

    Args:
      metric: The metric of the task.
      test: The cell.
      validation: Its predictions of that split.
    """
    fitted = {each.name: each for each in metric.classes(validation)}
    found = {}
    for each in metric.classes(test.records):
        groups, chosen = test.groups[each.known], fitted[each.name]
        curve = calibration.calibration(each.probability, each.truth, groups)
        threshold = calibration.youden_threshold(chosen.probability, chosen.truth)
        point = calibration.operating_point(
            each.probability, each.truth, groups, threshold=threshold
        )
        found[each.name] = parts.Decision(**vars(curve), **vars(point))
    return found
