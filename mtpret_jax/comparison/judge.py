"""One task: probes on every encoder's features, values, intervals, differences.

Two things vary when a comparison of encoders is done again: which patients are in the
test split, and which patients the probe learns from. The first is the bootstrap of
groups, the same draws for all encoders. The second is told by probes that learn from
halves of the training groups, the same halves for all encoders; what the finite test
split adds to their spread is taken off. A difference counts where it is beyond both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import special

from mtpret_jax.comparison import sets
from mtpret_jax.data import subsets
from mtpret_jax.metrics import (
    behrens_fisher,
    calibration,
    comparison,
    intervals,
    probes,
    subgroups,
)

METHODS = ("linear", "knn")
COLUMNS = ("view", "sex", "age")  # of the set's index
_OWN_DRAWS = 100  # resamples that tell what the test split adds to halves' spread


@dataclasses.dataclass(frozen=True)
class Settings:
    """How encoders are judged.

    Attributes:
      fractions: Shares of the training groups that probes learn from, rising; the last
        is the one that is judged.
      seed: Seed of shares, halves and resamples.
      resamples: Draws of an interval.
      halves: How many halves of the training groups probes are fitted on again.
    """

    fractions: tuple[float, ...] = (0.1, 0.3, 1.0)
    seed: int = 0
    resamples: int = 2000
    halves: int = 16


def shares(given: Iterable[float]) -> tuple[float, ...]:
    """Shares of the labels, rising, each once.

    Raises:
      ValueError: If there is none, or one is not above 0 and at most 1.
    """
    found = tuple(sorted({*given}))
    if not found or not all(0 < share <= 1 for share in found):
        raise ValueError(
            "fractions: expected shares above 0 and at most 1, such as 0.1,0.3,1, got "
            f"{found}."
        )
    return found


@dataclasses.dataclass(frozen=True)
class Cell:
    """A method's predictions of the test split, measured.

    Attributes:
      images: Training images.
      strength: Weight of the linear probe's penalty; 0 for neighbours.
      strength_from: Where it comes from: `validation` or `fixed`; "" for neighbours.
      records: What the metric summarises.
      values: Every value by name.
      draws: The same on every resample.
    """

    images: int
    strength: float
    strength_from: str
    records: Mapping[str, np.ndarray]
    values: Mapping[str, float]
    draws: Mapping[str, np.ndarray]


Cells = dict[tuple[float, str, str], Cell]  # by share, encoder and method


@dataclasses.dataclass(frozen=True)
class Judged:
    """A task, and all that was measured of it.

    Attributes:
      task: The task.
      cells: What each encoder reached.
      halves: The primary value of each half's linear probe by encoder, [halves], and on
        some resamples, [halves, resamples].
    """

    task: sets.Task
    cells: Cells
    halves: Mapping[str, tuple[np.ndarray, np.ndarray]]


Features = Mapping[str, Mapping[str, np.ndarray]]  # by encoder and split


def judge(task: sets.Task, features: Features, settings: Settings) -> Judged:
    """Fits every probe and measures it on the test split.

    Args:
      task: The task.
      features: float32 [N, D] of each encoder and split, in the order of the split.
      settings: How.

    Raises:
      ValueError: If a share of the labels has no two classes.
    """
    cells: Cells = {}
    halves = {}
    for fraction in settings.fractions:
        chosen = _part(task, task.splits["train"].records, settings.seed, fraction)
        for name, of_split in features.items():
            found = _fit(task, of_split, chosen, settings)
            cells |= {(fraction, name, method): x for method, x in found.items()}
            if fraction == settings.fractions[-1]:
                halves[name] = _halves(
                    task, of_split, chosen, found["linear"].strength, settings
                )
    return Judged(task, cells, halves)


def _part(
    task: sets.Task, records: np.ndarray, seed: int, fraction: float
) -> np.ndarray:
    """Some of the training records, whole groups, of each class alike."""
    index = task.splits["train"].source.index
    subset = subsets.Subset(seed=seed, fraction=fraction)
    return subsets.choose(index, records, task.row, subset)


def _examples(
    task: sets.Task, feature: np.ndarray, chosen: np.ndarray
) -> probes.Examples:
    """What a probe learns from."""
    train = task.splits["train"]
    kept = np.isin(train.records, chosen)
    label, known = train.label[kept], train.known[kept]
    try:
        return probes.Examples(feature[kept], label, known, task.metric.exclusive)
    except ValueError as error:
        error.add_note(f"Here it is task '{task.name}': give larger --fractions.")
        raise


def _fit(
    task: sets.Task,
    feature: Mapping[str, np.ndarray],
    chosen: np.ndarray,
    settings: Settings,
) -> dict[str, Cell]:
    """Both methods from some of the training records."""
    train = _examples(task, feature["train"], chosen)
    validation = task.splits["validation"]
    blank = validation.records_of(np.zeros_like(validation.label))
    strength, source = probes.choose(
        task.metric, train, {**blank, "feature": feature["validation"]}
    )
    found = {
        "linear": probes.linear(train, feature["test"], strength=strength),
        "knn": probes.vote(train, feature["test"]),
    }
    cells = {}
    for method, probability in found.items():
        records = task.splits["test"].records_of(probability)
        summary = task.metric.summarise(records)
        is_linear = method == "linear"
        cells[method] = Cell(
            images=len(chosen),
            strength=strength if is_linear else 0.0,
            strength_from=source if is_linear else "",
            records=records,
            values=task.metric.compute(summary),
            draws=intervals.draws(
                task.metric,
                summary,
                task.splits["test"].groups,
                resamples=settings.resamples,
                seed=settings.seed,
            ),
        )
    return cells


def _halves(
    task: sets.Task,
    feature: Mapping[str, np.ndarray],
    chosen: np.ndarray,
    strength: float,
    settings: Settings,
) -> tuple[np.ndarray, np.ndarray]:
    """The primary value of probes from halves of the training groups, and its draws."""
    test, name = task.splits["test"], task.metric.primary
    values, drawn = [], []
    for number in range(settings.halves):
        part = _part(task, chosen, settings.seed + 1 + number, 0.5)
        train = _examples(task, feature["train"], part)
        probability = probes.linear(train, feature["test"], strength=strength)
        summary = task.metric.summarise(test.records_of(probability))
        values.append(task.metric.compute(summary)[name])
        draws = intervals.draws(
            task.metric,
            summary,
            test.groups,
            resamples=_OWN_DRAWS,
            seed=settings.seed,
        )
        drawn.append(draws[name])
    return np.array(values), np.array(drawn)


def difference(
    judged: Judged, encoder: str, baseline: str, fraction: float, method: str
) -> comparison.Estimate:
    """Of the primary value of two encoders, the same resamples for both.

    Where there are halves of the training groups, `spread` is the standard deviation
    that another draw of training groups would give, and all `_retrained` are of both.
    """
    one, other = (judged.cells[fraction, each, method] for each in (encoder, baseline))
    name = judged.task.metric.primary
    found = comparison.difference(
        [one.values[name]], [one.draws[name]], [other.values[name]], [other.draws[name]]
    )
    found = _of_groups(found, _groups(judged))
    last = max(share for share, _, _ in judged.cells)
    if method != "linear" or fraction != last or not np.isfinite(found.error):
        return found
    values, drawn = (
        np.subtract(*both)
        for both in zip(judged.halves[encoder], judged.halves[baseline], strict=True)
    )
    return _refitted(found, values, drawn)


def interval(judged: Judged, drawn: np.ndarray) -> tuple[float, float]:
    """Of a value's resamples."""
    return intervals.interval(drawn, groups=_groups(judged))


def _groups(judged: Judged) -> int:
    """How many a resample draws, at least 2."""
    return max(2, len(np.unique(judged.task.splits["test"].groups)))


def _of_groups(found: comparison.Estimate, groups: int) -> comparison.Estimate:
    """The difference with an interval by Student's t, as few groups ask for.

    `error` is then what gives the same interval by the normal distribution.
    """
    level = (1 + intervals.LEVEL) / 2
    error = found.error * np.sqrt(groups / (groups - 1))  # resamples vary too little
    half = float(error * special.stdtrit(groups - 1, level))
    return dataclasses.replace(
        found,
        low=found.value - half,
        high=found.value + half,
        error=half / float(special.ndtri(level)),
    )


def _refitted(
    found: comparison.Estimate, values: np.ndarray, drawn: np.ndarray
) -> comparison.Estimate:
    """Adds what another draw of training groups would change.

    Args:
      found: The difference of the probes that learnt from all.
      values: Differences of those that learnt from halves, [halves].
      drawn: The same on some resamples, [halves, resamples].

    Source:
      Half-samples: McCarthy 1969, "Pseudo-replication: half samples"; about the mean
      of a whole sample, that of a random half varies as that does about the truth.
    """
    own = drawn[:, np.isfinite(drawn).all(axis=0)]
    own = own - own.mean(axis=1, keepdims=True)
    added = own.var(axis=0, ddof=1).mean() if own.shape[1] > 1 else 0.0
    variance = max(0.0, float(values.var(ddof=1)) - float(added))
    if not np.isfinite(variance) or found.error**2 + variance == 0:
        return found
    both = behrens_fisher.Sum(found.error**2, variance, len(values) - 1)
    half = both.quantile(1 - intervals.LEVEL)
    return dataclasses.replace(
        found,
        spread=float(np.sqrt(variance)),
        low_retrained=found.value - half,
        high_retrained=found.value + half,
        retraining=both,
        p_retrained=both.tail(abs(found.value)),
    )


def calibrations(judged: Judged, encoder: str) -> dict[str, calibration.Calibration]:
    """Of the linear probe from the largest share, each class by itself."""
    cell = judged.cells[max(x for x, _, _ in judged.cells), encoder, "linear"]
    groups = judged.task.splits["test"].groups
    return {
        one.name: calibration.calibration(one.probability, one.truth, groups[one.known])
        for one in judged.task.metric.classes(cell.records)
    }


def levels(
    judged: Judged, encoder: str, settings: Settings
) -> dict[str, Sequence[subgroups.Level]]:
    """The linear probe from the largest share on each level of the columns known."""
    test, metric = judged.task.splits["test"], judged.task.metric
    cell = judged.cells[settings.fractions[-1], encoder, "linear"]
    summary, found = metric.summarise(cell.records), {}
    for column in COLUMNS:
        entries = subgroups.entries(column, test.rows)
        if (entries != "").any():
            found[column] = subgroups.table(
                metric,
                summary,
                test.groups,
                entries,
                resamples=settings.resamples,
                seed=settings.seed,
            )
    return found
