"""How far a value could be off: percentile bootstrap over whole groups.

Images of one patient (or one group of near copies) are drawn together, since they
are not independent. The draws depend on the groups and the seed alone, so two models
measured on the same examples are resampled alike, which is what makes a difference
paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import special

from mtpret_jax import types

LEVEL = 0.95
_AT_ONCE = 128  # resamples whose values are computed together, at most
_BLOCK_BYTES = 2**25  # of the weights of these


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
      seed: Seed of the draws.

    Source:
      Efron and Tibshirani 1993, chapter 13; groups after Field and Welsh 2007.
    """
    whole = metric.compute(summary)
    names, code = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        return {name: np.full(resamples, np.nan) for name in whole}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in whole}
    for count in _counts(len(names), len(code), resamples=resamples, seed=seed):
        values = metric.weighted(summary, count[code])
        for name, value in comparable(values, whole).items():
            drawn[name].append(value)
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def comparable(
    values: Mapping[str, np.ndarray] | Mapping[str, float], whole: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Values of some of the examples, NaN where they mean something else than of all.

    That is a mean over classes (`value`, beside its `value/<class>`) where some class
    is defined on all examples but not on these.

    Args:
      values: By name, arrays of one shape or numbers.
      whole: Values of all examples, by the same names.
    """
    result = {name: np.asarray(value, float) for name, value in values.items()}
    for name, value in values.items():
        parent, _, part = name.partition("/")
        if part and parent in result and np.isfinite(whole[name]):
            result[parent] = np.where(np.isnan(value), np.nan, result[parent])
    return result


def interval(drawn: np.ndarray, *, groups: int | None = None) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 of the draws that are defined.

    Both are NaN when fewer than half of the draws are defined.

    Args:
      drawn: Values of the resamples.
      groups: How many groups, at least 2, each resample draws. Given, the percentiles
        lie as much farther out as an interval by Student's t is wider than one by the
        normal distribution, since resamples of few groups vary too little.

    Source:
      Hesterberg 2015, "What Teachers Should Know About the Bootstrap": the expanded
      percentile interval.
    """
    defined = drawn[np.isfinite(drawn)]
    if not defined.size or 2 * defined.size < drawn.size:
        return float("nan"), float("nan")
    tail = 50 * (1 - LEVEL)
    if groups is not None:
        distance = special.stdtrit(groups - 1, (1 + LEVEL) / 2)
        tail = 100 * special.ndtr(-distance * np.sqrt(groups / (groups - 1)))
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)


def _counts(
    groups: int, examples: int, *, resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """How often each resample draws each group, float64 [groups, some resamples]."""
    rng = np.random.default_rng(seed)
    at_once = max(1, min(_AT_ONCE, _BLOCK_BYTES // (8 * examples)))
    for first in range(0, resamples, at_once):
        drawn = [
            np.bincount(rng.integers(groups, size=groups), minlength=groups)
            for _ in range(min(at_once, resamples - first))
        ]
        yield np.stack(drawn, axis=1).astype(float)
