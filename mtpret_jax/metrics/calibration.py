"""Whether a probability of 0.8 comes true in 8 of 10, and decisions at a threshold.

One label at a time: its probability against whether it is there. Bins hold the same
number of images rather than the same width of probability, since a trained model puts
nearly all of it near 0 and 1: bins of one width would be empty in the middle, and the
error of a bin of three images would count as much as it happens to be off. Bins of one
mass also overstate the error less (Roelofs et al. 2022).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from mtpret_jax.metrics import intervals

BINS = 10  # at most
LEAST_IN_BIN = 10  # images, where there are as many at all


@dataclasses.dataclass(frozen=True)
class Proportion:
    """How often something was so, with its interval.

    Attributes:
      value: In [0, 1]; NaN of nothing.
      low: Lower end of the 95 % interval.
      high: Upper end.
      images: What `value` was counted over.
      groups: How many groups these are of; the interval counts each as one trial.
    """

    value: float
    low: float
    high: float
    images: int
    groups: int


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Probabilities of one label against what came true.

    Attributes:
      error: Expected calibration error in [0, 1]: mean over images of the distance
        between their bin's mean probability and observed frequency. NaN of no image.
      floor: What a perfectly calibrated model with these probabilities would show on
        average, by chance; an error near it is no evidence of bad calibration.
      confidence: Mean probability in each bin that is not empty, rising.
      observed: Observed frequency in the same bins.
    """

    error: float
    floor: float
    confidence: tuple[float, ...]
    observed: tuple[Proportion, ...]


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """Decisions at a threshold that was fitted elsewhere.

    Attributes:
      threshold: Positive is decided at this probability and above; NaN if undefined.
      sensitivity: Share of the images with the label that are positive.
      specificity: Share of the images without it that are negative.
    """

    threshold: float
    sensitivity: Proportion
    specificity: Proportion


def proportion(is_so: np.ndarray, groups: Sequence[str] | np.ndarray) -> Proportion:
    """A share of images, its interval counting groups as trials.

    Images of one group may all agree, so a group is worth one trial: the careful end.
    The interval does not shrink to a point when all images agree, as a bootstrap's
    does.

    Args:
      is_so: bool [N].
      groups: The group of each image, [N].

    Source:
      Wilson 1927.
    """
    images, trials = len(is_so), len(np.unique(groups))
    if not images:
        return Proportion(*(float("nan"),) * 3, images=0, groups=0)
    value = float(np.mean(is_so))
    z = float(stats.norm.ppf((1 + intervals.LEVEL) / 2))
    centre = (value + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials)
    half *= np.sqrt(value * (1 - value) / trials + z**2 / (4 * trials**2))
    low = max(0.0, min(value, float(centre - half)))
    high = min(1.0, max(value, float(centre + half)))
    return Proportion(value, low, high, images, trials)


def calibration(
    probability: np.ndarray,
    positive: np.ndarray,
    groups: Sequence[str] | np.ndarray,
) -> Calibration:
    """Compares probabilities with frequencies in bins of as many images each.

    Equal probabilities share a bin, so bins may be uneven or fewer. There are at most
    `BINS`, and fewer where each would hold less than `LEAST_IN_BIN` images.

    Args:
      probability: Probability of the label, in [0, 1], finite, [N].
      positive: Whether it is there, bool [N].
      groups: The group of each image, [N].

    Source:
      Naeini et al. 2015 for the error; Nixon et al. 2019 for bins of equal mass.
    """
    probability, positive = _checked(probability, positive)
    groups, count = np.asarray(groups), len(probability)
    if not count:
        return Calibration(float("nan"), float("nan"), (), ())
    bins = min(BINS, max(1, count // LEAST_IN_BIN))
    middle = stats.rankdata(probability) - 0.5  # ties share one
    place = np.floor(middle / count * bins).astype(int)
    error = floor = 0.0
    confidence, observed = [], []
    for b in np.unique(place):
        inside = place == b
        mean = float(probability[inside].mean())
        seen = proportion(positive[inside], groups[inside])
        variance = np.mean(probability[inside] * (1 - probability[inside]))
        error += inside.mean() * abs(mean - seen.value)
        # The mean distance of a normal deviate from its centre.
        floor += inside.mean() * np.sqrt(2 / np.pi * variance / seen.groups)
        confidence.append(mean)
        observed.append(seen)
    return Calibration(float(error), float(floor), tuple(confidence), tuple(observed))


def youden_threshold(probability: np.ndarray, positive: np.ndarray) -> float:
    """The threshold with the largest sensitivity + specificity.

    It lies halfway between two neighbouring probabilities. Of several that are equally
    good the lowest is taken, which misses the fewest positives. Fit it on validation.

    Args:
      probability: Probability of the label, in [0, 1], finite, [N].
      positive: Whether it is there, bool [N].

    Returns:
      NaN unless both classes and two different probabilities are there.

    Source:
      Youden 1950.
    """
    probability, positive = _checked(probability, positive)
    step, place = np.unique(probability, return_inverse=True)
    if len(step) < 2 or positive.all() or not positive.any():
        return float("nan")
    # Share of each class below the threshold between two steps.
    missed = np.cumsum(np.bincount(place[positive], minlength=len(step)))[:-1]
    spared = np.cumsum(np.bincount(place[~positive], minlength=len(step)))[:-1]
    # In whole numbers, so that ties are ties.
    index = spared * positive.sum() - missed * (~positive).sum()
    best = int(np.argmax(index))
    return float(step[best] + step[best + 1]) / 2


def operating_point(
    probability: np.ndarray,
    positive: np.ndarray,
    groups: Sequence[str] | np.ndarray,
    *,
    threshold: float,
) -> OperatingPoint:
    """Sensitivity and specificity at a threshold, for test.

    Args:
      probability: Probability of the label, in [0, 1], finite, [N].
      positive: Whether it is there, bool [N].
      groups: The group of each image, [N].
      threshold: Fitted on validation; with NaN nothing is measured.
    """
    probability, positive = _checked(probability, positive)
    groups = np.asarray(groups)
    decided = probability >= threshold
    defined = np.full(len(positive), np.isfinite(threshold))
    with_label, without = positive & defined, ~positive & defined
    return OperatingPoint(
        threshold=threshold,
        sensitivity=proportion(decided[with_label], groups[with_label]),
        specificity=proportion(~decided[without], groups[without]),
    )


def _checked(
    probability: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As float64 and bool [N]."""
    probability = np.asarray(probability, float)
    positive = np.asarray(positive, bool)
    if probability.ndim != 1 or probability.shape != positive.shape:
        raise ValueError(
            "Expected probabilities [N] and labels [N] of one label, got "
            f"{probability.shape} and {positive.shape}."
        )
    # NaN is in no range.
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError(
            "Probabilities must lie in [0, 1], got "
            f"{probability.min()} to {probability.max()}. Leave out examples without a "
            "known label, and give probabilities, not logits."
        )
    return probability, positive
