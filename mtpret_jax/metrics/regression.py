"""How far numbers are off: absolute and squared error, bias, correlation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mtpret_jax.metrics import ratios, weighing


@dataclasses.dataclass(frozen=True)
class Scale:
    """What the numbers of a value column are worth, and what is told beside images.

    Attributes:
      mean: Over the training split, in the unit.
      deviation: Standard deviation over the training split.
      unit: For people; "" where none is told.
      second: Classes of what a head is told beside the image; none: nothing is.
    """

    mean: float = 0.0
    deviation: float = 1.0
    unit: str = ""
    second: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RegressionMetric:
    """Values of a regression task, but for the correlation in the unit of the numbers.

    `mae` is the mean absolute error, `rmse` the root of the mean squared one, `bias`
    the mean of prediction less truth, `pearson` their correlation.

    Attributes:
      class_names: Name of the number.
      unit: What the number is in, for people; "" where none is told.
      primary: The value by which a model is chosen.
      sign: See `types.Metric`.
      titles: Names of values as people write them, where they are not the same.
      meaning: A sentence on what the primary value says.
      positives: What images are counted as positives of a split.
      drawn: What a report draws on sample images, of `report.images.DRAWINGS`.
    """

    class_names: Sequence[str]
    unit: str = ""
    primary: str = dataclasses.field(default="mae", init=False)
    sign: ClassVar[int] = -1
    titles: ClassVar[Mapping[str, str]] = {
        "mae": "mean absolute error (lower is better)",
        "rmse": "root mean square error (lower is better)",
        "bias": "bias, prediction less truth (best: 0)",
        "pearson": "Pearson's r",
    }
    meaning: ClassVar[str] = (
        "How far a prediction is off, on average, in the unit of the values: lower is "
        "better, 0 is perfect."
    )
    positives: ClassVar[str] = "with a value"
    drawn: ClassVar[str] = "numbers"

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Keeps both numbers; padding is kept, for the caller to drop.

        Args:
          outputs: `value` float32 [B].
          batch: `value` float32 [B], `record` int32 [B].

        Returns:
          `value`, the prediction, and `truth`, float32 [B]; `record` int32 [B].
        """
        return {
            "value": np.asarray(outputs["value"], np.float32),
            "truth": np.asarray(batch["value"], np.float32),
            "record": np.asarray(batch["record"], np.int32),
        }

    def error(self, records: Mapping[str, np.ndarray]) -> np.ndarray:
        """Absolute error of each example, [N]."""
        return np.abs(np.asarray(records["value"], float) - records["truth"])

    def summarise(self, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same as float64, less the mean of the truth: squares lose no digits."""
        value, truth = (np.asarray(records[n], np.float64) for n in ("value", "truth"))
        if not np.isfinite(value).all():
            raise ValueError(
                "value holds NaN or infinity; the model has diverged. Lower the "
                "learning rate."
            )
        middle = truth.mean() if truth.size else 0.0
        return {
            "value": value - middle,
            "truth": truth - middle,
            "record": np.asarray(records["record"], np.int32),
        }

    def compute(self, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
        """All values; NaN of no examples."""
        return weighing.once(self, summary)

    def weighted(
        self, summary: Mapping[str, np.ndarray], weight: np.ndarray
    ) -> dict[str, np.ndarray]:
        """All values with every example counted `weight` times; see `types.Metric`."""
        value, truth = summary["value"], summary["truth"]
        gap = value - truth
        columns = [np.abs(gap), gap**2, gap, value, truth]
        columns += [value**2, truth**2, value * truth]
        totals = weighing.totals(np.stack(columns, axis=1), weight)
        means = ratios.ratio(totals, np.broadcast_to(weight.sum(axis=0), totals.shape))
        absolute, squared, bias, x, y, xx, yy, xy = means
        spread = np.sqrt(_variance(x, xx) * _variance(y, yy))
        return {
            "mae": absolute,
            "rmse": np.sqrt(squared),
            "bias": bias,
            "pearson": np.clip(ratios.ratio(xy - x * y, spread), -1, 1),
        }


def _variance(mean: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Variance by mean and mean square; 0 where only rounding parts it from 0."""
    found = square - mean**2
    return np.where(found > 1e-12 * square, found, 0.0)
