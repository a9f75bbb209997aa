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


def draws(
    metric: types.Metric,
    summary: Mapping[str, np.ndarray],
    groups: Sequence[str] | np.ndarray,
    *,
    resamples: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Every value on every bootstrap resample, float64 [resamples].

    Two models are compared on the same resamples: draw both with one seed and take the
    difference of the draws. A value is NaN where a resample does not define it. A mean
    over classes is also NaN where the resample lacks a class that the whole set has
    (its `value/<class>` is NaN), since it would be a mean of something else.

    Args:
      metric: Turns a summary into values.
      summary: What `metric.summarise` made; axis 0 of each array is the example.
      groups: The group of each example, [N]. Whole groups are drawn.
      resamples: Number of draws.
      seed: Of the draws.

    Source:
      Efron and Tibshirani 1993, chapter 13; groups after Field and Welsh 2007.
    """
    whole = metric.compute(summary)
    drawn = {name: np.full(resamples, np.nan) for name in whole}
    indices = _resampled(groups, resamples=resamples, seed=seed)
    for number, index in enumerate(indices):
        resampled = {name: array[index] for name, array in summary.items()}
        for name, value in comparable(metric.compute(resampled), whole).items():
            drawn[name][number] = value
    return drawn


def comparable(
    values: Mapping[str, float], whole: Mapping[str, float]
) -> dict[str, float]:
    """Values of some of the examples, NaN where they mean something else than of all.

    That is a mean over classes (`value`, beside its `value/<class>`) where some class
    is defined on all examples but not on these.
    """
    result = dict(values)
    for name, value in values.items():
        parent, _, part = name.partition("/")
        if part and parent in result and np.isnan(value) and np.isfinite(whole[name]):
            result[parent] = float("nan")
    return result


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
