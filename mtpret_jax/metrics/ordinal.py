"""How well grades are told: agreement that counts how far two of them are apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mtpret_jax.metrics import labels, ratios, weighing


def grade(probability: np.ndarray) -> np.ndarray:
    """The predicted grade: how many are passed with a chance above one half.

    Args:
      probability: That of each grade, the lowest first, [..., L].

    Returns:
      Index of the grade, int64 [...]: the median, of which the absolute error is least.

    Source:
      Shi, Cao and Raschka 2021 (CORN).
    """
    above = 1 - np.cumsum(np.asarray(probability, float), axis=-1)
    return (above[..., :-1] > 0.5).sum(axis=-1)


@dataclasses.dataclass(frozen=True)
class OrdinalMetric(labels.LabelMetric):
    """Values of a task of grades; images with an unknown one are left out.

    `kappa_quadratic` is Cohen's kappa with the squared distance of two grades as their
    disagreement, `accuracy` the share of the right ones, `grades_off` the mean distance
    of the predicted grade from the true one.

    Attributes:
      class_names: Names of the L grades, the lowest first.
      exclusive: An image has one.
      primary: The value by which a model is chosen.
      sign: See `types.Metric`.
      titles: Names of values as people write them, where they are not the same.
      meaning: A sentence on what the primary value says.
      positives: What images are counted as positives of a split.
      drawn: What a report draws on sample images, of `report.images.DRAWINGS`.
    """

    class_names: Sequence[str]
    exclusive: bool = True
    primary: str = dataclasses.field(default="kappa_quadratic", init=False)
    sign: ClassVar[int] = 1
    titles: ClassVar[Mapping[str, str]] = {
        "kappa_quadratic": "quadratic kappa",
        "grades_off": "mean absolute error in grades (lower is better)",
    }
    meaning: ClassVar[str] = (
        "How far grades agree with the true ones beyond chance, two grades apart "
        "counting four times as much as one: 0 is chance, 1 is perfect."
    )
    positives: ClassVar[str] = "of the rarest grade"
    drawn: ClassVar[str] = "bars"

    def summarise(self, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Takes the decisions.

        Returns:
          `positive`, `decided` and `known` bool [N, L]; `record` int32 [N].
        """
        positive, known = self.truth(records)
        decided = grade(self.finite(records))[:, np.newaxis]
        return {
            "positive": positive,
            "decided": decided == np.arange(len(self.class_names)),
            "known": known,
            "record": np.asarray(records["record"], np.int32),
        }

    def error(self, records: Mapping[str, np.ndarray]) -> np.ndarray:
        """Distance of the predicted grade from the true one, [N]; NaN if unknown."""
        positive, known = self.truth(records)
        away = np.abs(grade(records["probability"]) - positive.argmax(axis=1))
        return np.where(known.all(axis=1), away, np.nan)

    def compute(self, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
        """All values, or NaN."""
        return weighing.once(self, summary)

    def weighted(
        self, summary: Mapping[str, np.ndarray], weight: np.ndarray
    ) -> dict[str, np.ndarray]:
        """All values with every example counted `weight` times; see `types.Metric`.

        Source:
          Cohen 1968, "Weighted kappa". NaN unless two grades are true somewhere.
        """
        positive, decided = summary["positive"], summary["decided"]
        pairs = positive[:, :, np.newaxis] & decided[:, np.newaxis]
        pairs &= summary["known"].all(axis=1)[:, np.newaxis, np.newaxis]
        seen = weighing.totals(pairs, weight)  # [true, decided, R]
        count = seen.sum(axis=(0, 1))
        true, chosen = seen.sum(axis=1), seen.sum(axis=0)
        places = np.arange(len(self.class_names))
        away = np.abs(places[:, np.newaxis] - places)
        apart = (away**2)[..., np.newaxis]
        by_chance = np.einsum("ij,ir,jr->r", away**2, true, chosen)
        several = (true > 0).sum(axis=0) >= 2
        ratio = ratios.ratio(
            (apart * seen).sum(axis=(0, 1)) * count, np.where(several, by_chance, 0)
        )
        return {
            "kappa_quadratic": 1 - ratio,
            "accuracy": ratios.ratio(np.einsum("iir->r", seen), count),
            "grades_off": ratios.ratio(
                (away[..., np.newaxis] * seen).sum(axis=(0, 1)), count
            ),
        }
