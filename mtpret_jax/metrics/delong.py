"""The nonparametric test of two areas under the ROC curve, without resampling.

Examples of one group (patient) count as one unit, as in the bootstrap. Where every
example is its own group this is DeLong's test; else its extension to clusters by
Obuchowski. The areas may be means over seeds of training; what is tested is then the
difference of the means, test examples varying and the models as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from mtpret_jax.metrics import classification, intervals


@dataclasses.dataclass(frozen=True)
class AreaDifference:
    """Two areas on the same examples, and what sets them apart; NaN if undefined.

    Attributes:
      area: Area of the first arm, mean over seeds, in [0, 1].
      other_area: Area of the arm it is compared with.
      difference: First minus other.
      error: Standard error of the difference; 0 where the models rank alike.
      low: Lower end of the normal 95 % interval of the difference.
      high: Upper end.
      p: Two-sided p-value of no difference; NaN where `error` is 0.
      positives: Examples of the class.
      negatives: Other examples.
    """

    area: float
    other_area: float
    difference: float
    error: float
    low: float
    high: float
    p: float
    positives: int
    negatives: int


def covariance(
    score: np.ndarray, positive: np.ndarray, groups: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Areas of several models on the same examples, and how these vary together.

    Args:
      score: Higher means more likely positive, finite, [models, N]; ties count
        one half.
      positive: bool [N].
      groups: The group of each example, [N].

    Returns:
      AUROC float64 [models], NaN unless both classes are there; covariance float64
      [models, models], NaN unless two groups have positives and two have negatives.

    Source:
      DeLong, DeLong and Clarke-Pearson 1988, with mid-ranks as Sun and Xu 2014;
      clusters: Obuchowski 1997, equations for S10, S01 and S11.
    """
    area, deviation = _deviations(score, positive, groups)
    return area, _clustered(deviation, positive, groups)


def _deviations(
    score: np.ndarray, positive: np.ndarray, groups: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Areas [models], and what each example adds to them [models, N].

    An example adds the share of the other class that it is ranked rightly against, less
    the area.
    """
    score, positive = np.asarray(score, float), np.asarray(positive, bool)
    if score.ndim != 2 or not (score.shape[1] == len(positive) == len(groups)):
        raise ValueError(
            "Expected scores [models, N] with N labels and N groups, got "
            f"{score.shape}, {positive.shape} and {np.shape(groups)}."
        )
    if not np.isfinite(score).all():
        raise ValueError(
            "Scores hold NaN or infinity, which have no rank. Leave these examples out "
            "of all models."
        )
    if positive.all() or not positive.any():
        return np.full(len(score), np.nan), np.full(score.shape, np.nan)
    rank = stats.rankdata(score, axis=1)
    right = np.empty(score.shape)
    for one, other in ((positive, ~positive), (~positive, positive)):
        within = stats.rankdata(score[:, one], axis=1)
        right[:, one] = (rank[:, one] - within) / other.sum()
    right[:, ~positive] = 1 - right[:, ~positive]
    area = right[:, positive].mean(axis=1)
    return area, right - area[:, np.newaxis]


def _clustered(
    deviation: np.ndarray, positive: np.ndarray, groups: Sequence[str] | np.ndarray
) -> np.ndarray:
    """Covariance of areas from deviations [models, N]; NaN with too few groups."""
    positive = np.asarray(positive, bool)
    names, code = np.unique(np.asarray(groups), return_inverse=True)
    parts, units = [], []
    for is_class in (positive, ~positive):
        total = np.zeros((len(names), len(deviation)))
        np.add.at(total, code[is_class], deviation[:, is_class].T)
        parts.append(total / max(1, is_class.sum()))
        units.append(len(np.unique(code[is_class])))
    if min(units) < 2:
        return np.full((len(deviation),) * 2, np.nan)
    of_class = [n / (n - 1) * p.T @ p for p, n in zip(parts, units, strict=True)]
    both = len(names) / (len(names) - 1) * parts[0].T @ parts[1]
    return of_class[0] + of_class[1] + both + both.T


def compare(
    score: np.ndarray,
    other_score: np.ndarray,
    positive: np.ndarray,
    groups: Sequence[str] | np.ndarray,
) -> AreaDifference:
    """Tests two arms on the same examples.

    Args:
      score: Scores of the first arm, a row for each seed of training, [seeds, N].
      other_score: Scores of the arm it is compared with, [other seeds, N].
      positive: bool [N].
      groups: The group of each example, [N].
    """
    seeds, others = len(score), len(other_score)
    weight = np.repeat([1 / seeds, -1 / others], [seeds, others])
    area, deviation = _deviations(
        np.concatenate([score, other_score]), positive, groups
    )
    # Of the difference itself, so that models which rank alike have none but rounding.
    variance = _clustered((weight @ deviation)[np.newaxis], positive, groups).item()
    error = 0.0 if variance < 1e-20 else float(np.sqrt(variance))
    found = float(weight @ area)
    half = float(stats.norm.ppf((1 + intervals.LEVEL) / 2)) * error
    positives = int(np.sum(positive))
    return AreaDifference(
        area=float(area[:seeds].mean()),
        other_area=float(area[seeds:].mean()),
        difference=found,
        error=error,
        low=found - half,
        high=found + half,
        p=float(2 * stats.norm.sf(abs(found) / error)) if error else float("nan"),
        positives=positives,
        negatives=len(positive) - positives,
    )


def compare_classes(
    metric: classification.ClassificationMetric,
    summaries: Sequence[Mapping[str, np.ndarray]],
    other_summaries: Sequence[Mapping[str, np.ndarray]],
    groups: Sequence[str] | np.ndarray,
) -> dict[str, AreaDifference]:
    """Tests two arms on each class against the rest.

    Args:
      metric: Metric of the task.
      summaries: What `metric.summarise` made of each seed of the first arm.
      other_summaries: Those of the other arm, the same examples in the same
        order.
      groups: The group of each example, [N].

    Returns:
      By name of the value, as `metric.compute` has it: `auroc` where one class speaks
      for both, else `auroc/<class>`. There is none for a mean over classes.
    """
    first = summaries[0]
    for other in (*summaries, *other_summaries):
        same = ("record", "positive", "known")
        if not all(np.array_equal(first[name], other[name]) for name in same):
            raise ValueError(
                "Two runs were measured on different examples or labels: "
                f"{len(first['record'])} and {len(other['record'])} examples. Run both "
                "in one work folder on the same prepared data."
            )
    names = [f"auroc/{name}" for name in metric.class_names]
    columns = dict(zip(names, range(len(names)), strict=True))
    if metric.one_area:
        columns = {"auroc": 1}
    elif len(names) == 1:
        columns = {"auroc": 0}
    found = {}
    for name, c in columns.items():
        keep = first["known"][:, c]
        found[name] = compare(
            np.stack([summary["rank"][keep, c] for summary in summaries]),
            np.stack([summary["rank"][keep, c] for summary in other_summaries]),
            first["positive"][keep, c],
            np.asarray(groups)[keep],
        )
    return found
