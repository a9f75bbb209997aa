"""Every value for each level of a column: sex, view, age band.

A level that is small has a wide interval or none; no level is tested against another.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from mtpret_jax import types
from mtpret_jax.metrics import intervals

UNKNOWN = "not recorded"
AGES = (0, 6, 12, 18, 40, 60)  # years at which a band begins


@dataclasses.dataclass(frozen=True)
class Level:
    """One level of a column.

    Attributes:
      name: The level; `UNKNOWN` for examples whose entry is empty.
      images: How many examples it has.
      groups: How many groups these belong to.
      values: The metric's values on them; NaN where undefined.
      low: Percentile 2.5 of each value, whole groups resampled; NaN where undefined.
      high: Percentile 97.5.
    """

    name: str
    images: int
    groups: int
    values: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]


def table(
    metric: types.Metric,
    summary: Mapping[str, np.ndarray],
    groups: Sequence[str] | np.ndarray,
    column: Sequence[str] | np.ndarray,
    *,
    resamples: int,
    seed: int,
    draws: Callable[..., dict[str, np.ndarray]] = intervals.draws,
) -> tuple[Level, ...]:
    """Measures each level that occurs, in order of name, `UNKNOWN` last.

    A mean over classes is NaN where a level lacks a class that the whole set has, since
    it would be a mean of something else.

    Args:
      metric: Turns a summary into values.
      summary: What `metric.summarise` made; axis 0 of each array is the example.
      groups: The group of each example, [N].
      column: The entry of each example, empty where it is not known, [N].
      resamples: Number of draws of an interval.
      seed: Seed of the draws.
      draws: Called as `intervals.draws`, say one that keeps what it drew.
    """
    groups, entry = np.asarray(groups), np.asarray(column, str)
    if entry.shape != groups.shape:
        raise ValueError(
            f"Expected an entry for each of {len(groups)} examples, got {entry.shape}."
        )
    whole = metric.compute(summary)
    names = [*np.unique(entry[entry != ""]), *([""] if (entry == "").any() else [])]
    levels = []
    for name in names:
        index = np.flatnonzero(entry == name)
        part = {key: array[index] for key, array in summary.items()}
        found = intervals.comparable(metric.compute(part), whole)
        values = {key: float(value) for key, value in found.items()}
        drawn = draws(metric, part, groups[index], resamples=resamples, seed=seed)
        ends = {
            key: intervals.interval(drawn[key])
            if np.isfinite(value)
            else (float("nan"),) * 2
            for key, value in values.items()
        }
        levels.append(
            Level(
                name=str(name) or UNKNOWN,
                images=len(index),
                groups=len(np.unique(groups[index])),
                values=values,
                low={key: end[0] for key, end in ends.items()},
                high={key: end[1] for key, end in ends.items()},
            )
        )
    return tuple(levels)


def age_bands(years: Sequence[float] | np.ndarray) -> np.ndarray:
    """Names of age bands, such as `18-39` and `60+`, str [N].

    Names begin with two digits, so that they sort by age. The entry is empty for an age
    that is NaN or negative.
    """
    years = np.asarray(years, float)
    names = [f"{a:02}-{b - 1:02}" for a, b in itertools.pairwise(AGES)]
    names = np.array(["", *names, f"{AGES[-1]:02}+"])
    place = np.searchsorted(AGES, years, side="right")
    return names[np.where(np.isfinite(years), place, 0)]


def entries(column: str, rows: Iterable[Mapping[str, str]]) -> np.ndarray:
    """What rows of a set's index say of each example, str [N]; ages as bands."""
    found = np.array([row.get(column, "") for row in rows], str)
    if column != "age":
        return found
    return age_bands([float(entry or "nan") for entry in found])
