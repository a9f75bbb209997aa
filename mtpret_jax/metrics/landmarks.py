"""How far landmarks are from where they should be: radial error, shares within reach.

Over all known points of all images, in per cent of the longer side of the stored image,
and in millimetres where the size of a pixel is known. Lower errors are better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mtpret_jax.metrics import ratios, weighing

PER_CENT = 2.0  # of the longer side, within which a point counts as found
# Source: Wang et al. 2016, "A benchmark for comparison of dental radiography analysis
# algorithms" (ISBI 2015), where shares within these are "success detection rates".
MILLIMETRES = (2.0, 2.5, 3.0, 4.0)


@dataclasses.dataclass(frozen=True)
class LandmarksMetric:
    """Values of a landmarks task.

    `radial_error` is the mean distance of a point from its truth, in per cent of the
    longer side of the stored image, and `point_error/<name>` that of each landmark;
    `within_2_percent` is the share of points that are no farther than that.
    `radial_error_mm` and `within_2_mm` to `within_4_mm` are the same of images whose
    pixels have a known size, and are there if there are any.

    Attributes:
      class_names: What each of the P landmarks is.
      primary: The value by which a model is chosen.
      sign: See `types.Metric`.
      titles: Names of values as people write them, where they are not the same.
      meaning: A sentence on what the primary value says.
      positives: What images are counted as positives of a split.
      drawn: What a report draws on sample images, of `report.images.DRAWINGS`.
    """

    class_names: Sequence[str]
    primary: str = dataclasses.field(default="radial_error", init=False)
    sign: ClassVar[int] = -1
    titles: ClassVar[Mapping[str, str]] = {
        "radial_error": "radial error in % (lower is better)",
        "point_error": "radial error of one landmark in % (lower is better)",
        "within_2_percent": "points within 2 % of the longer side",
        "radial_error_mm": "radial error in mm (lower is better)",
    } | {f"within_{x:g}_mm": f"points within {x:g} mm" for x in MILLIMETRES}
    meaning: ClassVar[str] = (
        "Mean distance of a point from its true place, in per cent of the longer side "
        "of the image: lower is better."
    )
    positives: ClassVar[str] = "with landmarks"
    drawn: ClassVar[str] = "points"

    def __post_init__(self) -> None:
        if not self.class_names:
            raise ValueError(
                "Landmarks need at least one name. Check landmark_names of the data "
                "set."
            )

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Measures distances; padding is kept, for the caller to drop.

        Args:
          outputs: `landmark` float [B, P, 2] as y, x, fractions of the square.
          batch: `landmark` float32 [B, P, 2], `landmark_known` bool [B, P], `extent`
            float32 [B, 2], height and width of the square, and `longer_side` float32
            [B], both in pixels of the stored image; `spacing` float32 [B], mm of such a
            pixel, NaN where unknown; `record` int32 [B].

        Returns:
          `distance` float32 [B, P], pixels of the stored image, NaN where the truth is
          unknown and infinite where only the prediction is no finite number;
          `longer_side`, `spacing` float32 [B]; `record` int32 [B].
        """
        truth = np.asarray(batch["landmark"], np.float64)
        away = np.asarray(outputs["landmark"], np.float64) - truth
        away *= np.asarray(batch["extent"])[:, np.newaxis]
        distance = np.nan_to_num(np.hypot(*away.T).T, nan=np.inf, posinf=np.inf)
        distance[~np.asarray(batch["landmark_known"], bool)] = np.nan
        return {
            "distance": distance.astype(np.float32),
            "longer_side": np.asarray(batch["longer_side"], np.float32),
            "spacing": np.asarray(batch["spacing"], np.float32),
            "record": np.asarray(batch["record"], np.int32),
        }

    def summarise(self, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Distances in both units.

        Returns:
          `percent` and `mm` float64 [N, P], NaN where unknown; `record` int32 [N].

        Raises:
          ValueError: If any distance is infinite.
        """
        distance = np.asarray(records["distance"], np.float64)
        if np.isinf(distance).any():
            raise ValueError(
                "landmark holds NaN or infinity; the model has diverged. Lower the "
                "learning rate."
            )
        side, spacing = (
            np.asarray(records[name], np.float64)[:, np.newaxis]
            for name in ("longer_side", "spacing")
        )
        return {
            "percent": 100 * distance / side,
            "mm": distance * spacing,
            "record": np.asarray(records["record"], np.int32),
        }

    def error(self, records: Mapping[str, np.ndarray]) -> np.ndarray:
        """Mean error of an image in per cent of its side, [N]; NaN where unknown."""
        distance = np.asarray(records["distance"], np.float64)
        known = ~np.isnan(distance)
        total = np.where(known, distance, 0).sum(axis=1)
        return 100 * ratios.ratio(total, known.sum(axis=1)) / records["longer_side"]

    def compute(self, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
        """All values: errors in their unit, shares in [0, 1], or NaN."""
        return weighing.once(self, summary)

    def weighted(
        self, summary: Mapping[str, np.ndarray], weight: np.ndarray
    ) -> dict[str, np.ndarray]:
        """All with every example counted `weight` times; see `types.Metric`."""
        percent, mm = summary["percent"], summary["mm"]
        values = {
            "radial_error": _mean(percent, percent, weight),
            "within_2_percent": _mean(percent <= PER_CENT, percent, weight),
        }
        if np.isfinite(mm).any():
            values["radial_error_mm"] = _mean(mm, mm, weight)
            for reach in MILLIMETRES:
                values[f"within_{reach:g}_mm"] = _mean(mm <= reach, mm, weight)
        if len(self.class_names) > 1:
            for place, name in enumerate(self.class_names):
                one = percent[:, [place]]
                # `radial_error/...` would make radial_error a mean over landmarks.
                values[f"point_error/{name}"] = _mean(one, one, weight)
        return values


def _mean(values: np.ndarray, of: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean over the points that are known, of every resample.

    Args:
      values: [N, P].
      of: What is not a number where a point is unknown, [N, P].
      weight: float64 [N, R].

    Returns:
      float64 [R]; NaN where none is known.
    """
    known = np.isfinite(of)
    total = np.where(known, values, 0.0).sum(axis=1)
    return ratios.ratio(
        weighing.totals(total, weight), weighing.totals(known.sum(axis=1), weight)
    )
