"""What arms reach, and what may be said of their differences.

A comparison is that of two arms on one task with one part of the labels, over the
seeds that both have finished. All comparisons of all claims are judged together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import classification, comparison, delong
from mtpret_jax.report import measured, parts
from mtpret_jax.study import plan

# The measured cells of one task: by arm and fraction, then by seed.
Cells = Mapping[tuple[str, float], Mapping[int, measured.Measured]]
_SHORT = {
    comparison.BETTER: "better",
    comparison.WORSE: "worse",
    comparison.UNDECIDED: "undecided",
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """A comparison that is planned.

    Attributes:
      claim: Its name; see `plan.claims`.
      arm: The arm said to be better.
      baseline: The other arm.
      task: A row of `config.tasks`.
      fraction: The share of the labels.
      runs: Whose predictions are compared, the arm's and the baseline's, of the first
        seed; the same for claims that come to the same.
    """

    claim: str
    arm: str
    baseline: str
    task: str
    fraction: float
    runs: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Compared:
    """A comparison that was made.

    Attributes:
      pair: What was compared.
      metric: The task's primary value.
      seeds: The seeds that both arms have finished.
      estimate: The difference, arm less baseline, above zero where the arm is better:
        of a value of which lower is better, baseline less arm.
      images: Test examples.
      groups: Groups of these.
    """

    pair: Pair
    metric: str
    seeds: tuple[int, ...]
    estimate: comparison.Estimate
    images: int
    groups: int


def key(fraction: float) -> str:
    """A fraction as a key of the report."""
    return f"{fraction:g}"


def pairs(config: schema.ExperimentConfig) -> tuple[Pair, ...]:
    """Every comparison of every claim.

    None on a task that one of the arms lacks, and none of an arm with itself: where the
    control is arm contrastive.

    Args:
      config: Expanded.
    """
    runs = {
        (cell.arm, cell.task, cell.fraction): cell.run
        for cell in plan.cells(config)
        if cell.seed == 0
    }
    fractions = dict.fromkeys(fraction for _, _, fraction in runs)
    found = []
    for claim, arm, baseline in plan.claims(config):
        for task in config.study.tasks or config.tasks:
            for fraction in fractions:
                one, other = (
                    runs.get((side, task, fraction)) for side in (arm, baseline)
                )
                if one and other and one != other:
                    both = (one, other)
                    found.append(Pair(claim, arm, baseline, task, fraction, both))
    return tuple(found)


def resamples(config: schema.ExperimentConfig) -> int:
    """How many resamples judge the claims: as asked, or what they need if more."""
    count = len({pair.runs for pair in pairs(config)})
    return max(config.report.bootstrap, comparison.resamples_needed(count))


def values(cells: Cells) -> parts.ByArm[parts.Values]:
    """Every value by fraction, arm and name: mean over seeds, interval, spread."""
    found: parts.ByArm[parts.Values] = {}
    for (arm, fraction), by_seed in cells.items():
        each_seed = list(by_seed.values())
        row = {}
        for name in each_seed[0].values:
            one = comparison.over_seeds(
                [each.values[name] for each in each_seed],
                [each.draws[name] for each in each_seed],
            )
            row[name] = parts.Value(
                value=one.value,
                low=one.low,
                high=one.high,
                by_seed=one.by_seed,
                spread=one.spread,
                low_retrained=one.low_retrained,
                high_retrained=one.high_retrained,
                seeds=tuple(by_seed),
            )
        found.setdefault(key(fraction), {})[arm] = row
    return found


def compare(
    planned: Iterable[Pair], cells: Cells, metric: types.Metric
) -> list[Compared]:
    """Compares the arms of a task by its primary value, where both have a seed.

    Args:
      planned: Comparisons of this task.
      cells: All that are measured.
      metric: The metric of the task.
    """
    name, found = metric.primary, []
    for pair, seeds, one, other in _common(planned, cells):
        better, worse = (one, other) if metric.sign > 0 else (other, one)
        estimate = comparison.difference(
            [each.values[name] for each in better],
            [each.draws[name] for each in better],
            [each.values[name] for each in worse],
            [each.draws[name] for each in worse],
        )
        images, groups = len(one[0].record), len(np.unique(one[0].groups))
        found.append(Compared(pair, name, seeds, estimate, images, groups))
    return found


def _common(
    planned: Iterable[Pair], cells: Cells
) -> Iterator[
    tuple[Pair, tuple[int, ...], list[measured.Measured], list[measured.Measured]]
]:
    """Comparisons, the seeds that both arms have, and the cells of these.

    Those without such a seed are left out.
    """
    for pair in planned:
        one, other = (
            cells.get((arm, pair.fraction), {}) for arm in (pair.arm, pair.baseline)
        )
        if seeds := tuple(sorted(one.keys() & other.keys())):
            yield pair, seeds, [one[s] for s in seeds], [other[s] for s in seeds]


def areas(
    planned: Iterable[Pair], cells: Cells, metric: types.Metric
) -> list[parts.Area]:
    """DeLong's test of every class of a classification task; none of other tasks."""
    if not isinstance(metric, classification.ClassificationMetric):
        return []
    found = []
    for pair, seeds, one, other in _common(planned, cells):
        tested = delong.compare_classes(
            metric,
            [each.summary for each in one],
            [each.summary for each in other],
            one[0].groups,
        )
        for name, area in tested.items():
            row = parts.Area(
                **vars(area),
                name=pair.claim,
                task=pair.task,
                fraction=key(pair.fraction),
                class_name=name.partition("/")[2] or metric.class_names[-1],
                seeds=seeds,
            )
            found.append(row)
    return found


def claims(
    config: schema.ExperimentConfig, compared: Sequence[Compared]
) -> list[parts.Claim]:
    """Verdicts, all comparisons corrected together; equal ones count once."""
    differences = {" - ".join(one.pair.runs): one.estimate for one in compared}
    judged = comparison.judge(differences)
    fractions = dict.fromkeys(cell.fraction for cell in plan.cells(config))
    found = []
    for name, arm, baseline in plan.claims(config):
        rows = [
            _row(one, judged[" - ".join(one.pair.runs)])
            for one in compared
            if one.pair.claim == name
        ]
        summary = {key(each): dict.fromkeys(_SHORT.values(), 0) for each in fractions}
        for row in rows:
            summary[row.fraction][_SHORT[row.verdict]] += 1
        found.append(parts.Claim(name, arm, baseline, rows, summary))
    return found


def _row(one: Compared, claim: comparison.Claim) -> parts.Difference:
    estimate = one.estimate
    return parts.Difference(
        **vars(claim),
        task=one.pair.task,
        fraction=key(one.pair.fraction),
        metric=one.metric,
        difference=estimate.value,
        low=estimate.low,
        high=estimate.high,
        by_seed=estimate.by_seed,
        spread=estimate.spread,
        low_retrained=estimate.low_retrained,
        high_retrained=estimate.high_retrained,
        seeds=one.seeds,
        images=one.images,
        groups=one.groups,
    )
