"""How far a value could be off: percentile bootstrap over whole groups.

Images of one patient (or one group of near copies) are drawn together, since they
are not independent. The draws depend on the groups and the seed alone, so two models
measured on the same examples are resampled alike, which is what makes a difference
paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mtpret_jax import types

LEVEL = 0.95


def bootstrap(
    metric: types.Metric,
    summary: Mapping[str, np.ndarray],
    groups: Sequence[str] | np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """95 % interval of every value of a metric.

    Args:
      metric: Turns a summary into values.
      summary: What `metric.summarise` made; axis 0 of each array is the example.
      groups: The group of each example, [N]. Whole groups are drawn.
      resamples: Number of draws.
      seed: Of the draws.

    Returns:
      Low and high end by value: percentiles 2.5 and 97.5 of the resamples. See
      `interval` for when both are NaN.

    Source:
      Efron and Tibshirani 1993, chapter 13; groups after Field and Welsh 2007.
    """
    drawn = draws(metric, summary, groups, resamples=resamples, seed=seed)
    return {name: interval(values) for name, values in drawn.items()}


def paired_bootstrap(
    metric: types.Metric,
    summary_a: Mapping[str, np.ndarray],
    summary_b: Mapping[str, np.ndarray],
    groups: Sequence[str] | np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float, float]]:
    """Difference a - b of every value, with its 95 % interval.

    Args:
      metric: Turns a summary into values.
      summary_a: Of one model.
      summary_b: Of the other, on the same examples in the same order.
      groups: The group of each example, [N].
      resamples: Number of draws, the same ones for both models.
      seed: Of the draws.

    Returns:
      Difference, low and high end, by value.

    Raises:
      ValueError: If the two summaries are not of the same examples in one order.
    """
    a, b = (np.asarray(s.get("record", ())) for s in (summary_a, summary_b))
    if not a.size or not np.array_equal(a, b):
        raise ValueError(
            "A paired bootstrap needs two summaries with the same `record` array, got "
            f"{a.size} and {b.size} records. Sort both by record, and keep only what "
            "both have."
        )
    options = {"resamples": resamples, "seed": seed}
    drawn_a = draws(metric, summary_a, groups, **options)
    drawn_b = draws(metric, summary_b, groups, **options)
    value_a, value_b = metric.compute(summary_a), metric.compute(summary_b)
    return {
        name: (value_a[name] - value_b[name], *interval(drawn_a[name] - drawn_b[name]))
        for name in value_a
    }


def draws(
    metric: types.Metric,
    summary: Mapping[str, np.ndarray],
    groups: Sequence[str] | np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Every value on every resample, float64 [resamples].

    A value is NaN where a resample does not define it. A mean over classes is also NaN
    where the resample lacks a class that the whole set has (its `value/<class>` is
    NaN), since it would be a mean of something else.
    """
    whole = metric.compute(summary)
    drawn = {name: np.full(resamples, np.nan) for name in whole}
    indices = _resampled(groups, resamples=resamples, seed=seed)
    for number, index in enumerate(indices):
        resampled = {name: array[index] for name, array in summary.items()}
        for name, value in metric.compute(resampled).items():
            drawn[name][number] = value
    for name, value in whole.items():
        parent, _, part = name.partition("/")
        if part and parent in drawn and np.isfinite(value):
            drawn[parent][np.isnan(drawn[name])] = np.nan
    return drawn


def interval(drawn: np.ndarray) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 of the draws that are defined.

    Both are NaN when fewer than half of the draws are defined.
    """
    defined = drawn[np.isfinite(drawn)]
    if not defined.size or 2 * defined.size < drawn.size:
        return float("nan"), float("nan")
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def _resampled(
    groups: Sequence[str] | np.ndarray, *, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """Indices of examples, one array for each draw; none when there is one group."""
    names, code = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return
    order = np.argsort(code, kind="stable")
    size = np.bincount(code)
    start = np.cumsum(size) - size
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = rng.integers(len(names), size=len(names))
        length = size[drawn]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        yield order[np.repeat(start[drawn], length) + within]
