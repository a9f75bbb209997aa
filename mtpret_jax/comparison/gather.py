"""Judges every encoder on every task, and says of which differences something holds.

The family that is corrected together: every encoder against the first, by the linear
probe from the largest share of the labels, on every task whose test split neither is
known to have seen. All other differences are told, and not judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from mtpret_jax.comparison import features, findings, judge, lists, sentences, sets
from mtpret_jax.metrics import comparison, intervals
from mtpret_jax.report import comparisons, parts

_PRIMARY = "linear"


@dataclasses.dataclass(frozen=True)
class Known:
    """An encoder, and the images that it is known to have learnt from.

    Attributes:
      encoder: Gives its features.
      listed: Its lists; none where it has none.
      why: What is not known of its training images; "" where all is.
    """

    encoder: features.Encoder
    listed: Sequence[lists.List]
    why: str


def build(
    tasks: Sequence[sets.Task],
    encoders: Mapping[str, Known],
    settings: judge.Settings,
    *,
    datasets: Sequence[str],
    left_out: Mapping[str, str],
    progress: Callable[[str], None] = lambda line: None,
) -> findings.Findings:
    """Judges encoders on tasks.

    Args:
      tasks: The tasks.
      encoders: By name; the first is what others are compared with.
      settings: How; resamples are more where the family needs it.
      datasets: Names of all sets of the config.
      left_out: Tasks that are not judged, and their kind.
      progress: Told what is done.

    Raises:
      ValueError: If features do not fit, or a share of the labels has no two classes.
    """
    baseline, *others = encoders
    settings = _enough(settings, len(tasks) * len(others))
    leaks = {task.name: _leaks(task, encoders, datasets) for task in tasks}
    # All of them before any is judged: what does not fit is told at once.
    read = {task.name: _features(task, encoders) for task in tasks}
    judged = []
    for task in tasks:
        progress(f"{task.name}: {', '.join(encoders)}")
        judged.append(judge.judge(task, read[task.name], settings))
    family, rest = _compare(judged, baseline, others, settings, leaks)
    described = {
        name: _describe(known, next(iter(read.values()))[name]["test"].shape[1])
        for name, known in encoders.items()
    }
    return findings.Findings(
        baseline=baseline,
        encoders=described,
        tasks={task.name: _told(task) for task in tasks},
        left_out=dict(left_out),
        seed=settings.seed,
        fractions=[comparisons.key(share) for share in settings.fractions],
        interval=parts.Bootstrap(
            intervals.LEVEL, settings.resamples, settings.resamples, "group"
        ),
        halves=settings.halves,
        values={each.task.name: _values(each) for each in judged},
        probes={each.task.name: _probes(each) for each in judged},
        judged=family,
        others=rest,
        leaks=leaks,
        calibration={
            one.task.name: {name: judge.calibrations(one, name) for name in encoders}
            for one in judged
        },
        subgroups={one.task.name: _levels(one, encoders, settings) for one in judged},
        said=sentences.say(family, leaks, described),
    )


def _enough(settings: judge.Settings, count: int) -> judge.Settings:
    """As many resamples as so many comparisons need, where fewer were asked for."""
    needed = comparison.resamples_needed(count)
    return dataclasses.replace(settings, resamples=max(settings.resamples, needed))


def _leaks(
    task: sets.Task, encoders: Mapping[str, Known], datasets: Sequence[str]
) -> dict[str, lists.Leak]:
    """What the lists of those encoders that have one hold of a task's set."""
    return {
        name: lists.against(known.listed, task, datasets)
        for name, known in encoders.items()
        if known.listed
    }


def _features(task: sets.Task, encoders: Mapping[str, Known]) -> judge.Features:
    """Every encoder's features of every split."""
    return {
        name: {part: known.encoder.features(task, part) for part in sets.SPLITS}
        for name, known in encoders.items()
    }


def _compare(
    judged: Sequence[judge.Judged],
    baseline: str,
    others: Sequence[str],
    settings: judge.Settings,
    leaks: Mapping[str, Mapping[str, lists.Leak]],
) -> tuple[list[findings.Compared], list[findings.Compared]]:
    """The family with its verdicts, what of it was seen included; and the rest."""
    estimates: dict[tuple[str, str, float, str], comparison.Estimate] = {}
    of_task = {each.task.name: each for each in judged}
    for task, each in of_task.items():
        for name in others:
            for share in settings.fractions:
                for method in judge.METHODS:
                    estimates[task, name, share, method] = judge.difference(
                        each, name, baseline, share, method
                    )

    def is_seen(task: str, name: str) -> bool:
        found = (leaks[task].get(each) for each in (name, baseline))
        return any(leak is not None and leak.found for leak in found)

    last = (settings.fractions[-1], _PRIMARY)
    family = {
        f"{task} {name}": one
        for (task, name, *cell), one in estimates.items()
        if tuple(cell) == last and not is_seen(task, name)
    }
    claims = comparison.judge(family)
    nan = float("nan")
    primary, rest = [], []
    for (task, name, share, method), one in estimates.items():
        is_primary = (share, method) == last
        no_claim = comparison.Claim(
            nan, nan, findings.SEEN if is_seen(task, name) else "", nan
        )
        claim = claims.get(f"{task} {name}") if is_primary else None
        test = of_task[task].task.splits["test"]
        row = findings.Compared(
            **vars(claim or no_claim),
            task=task,
            fraction=comparisons.key(share),
            metric=of_task[task].task.metric.primary,
            difference=one.value,
            low=one.low,
            high=one.high,
            by_seed=one.by_seed,
            spread=one.spread,
            low_retrained=one.low_retrained,
            high_retrained=one.high_retrained,
            seeds=(settings.seed,),
            images=len(test.records),
            groups=len(set(test.groups.tolist())),
            encoder=name,
            baseline=baseline,
            method=method,
        )
        (primary if is_primary else rest).append(row)
    return primary, rest


def _describe(known: Known, width: int) -> findings.Described:
    names = {name for each in known.listed for name in each.names}
    return findings.Described(
        **vars(known.encoder.about),
        features=width,
        listed=len(names) if known.listed else None,
        unknown=known.why,
    )


def _told(task: sets.Task) -> findings.Told:
    return findings.Told(
        dataset=task.row.dataset,
        fingerprint=task.made["fingerprint"],
        splits=task.made.get("splits_in_use", {}).get("name", ""),
        metric=task.metric.primary,
        classes=list(task.metric.class_names),
        images={name: len(part.records) for name, part in task.splits.items()},
        groups={
            name: len(set(part.groups.tolist())) for name, part in task.splits.items()
        },
    )


def _values(
    judged: judge.Judged,
) -> parts.ByArm[dict[str, dict[str, parts.Range]]]:
    """Every value with its interval by share, encoder and method."""
    found: parts.ByArm[dict[str, dict[str, parts.Range]]] = {}
    for (share, name, method), cell in judged.cells.items():
        row = found.setdefault(comparisons.key(share), {}).setdefault(name, {})
        row[method] = {
            key: parts.Range(float(value), *judge.interval(judged, cell.draws[key]))
            for key, value in cell.values.items()
        }
    return found


def _probes(judged: judge.Judged) -> parts.ByArm[findings.Probe]:
    found: parts.ByArm[findings.Probe] = {}
    for (share, name, method), cell in judged.cells.items():
        if method == _PRIMARY:
            row = found.setdefault(comparisons.key(share), {})
            row[name] = findings.Probe(cell.images, cell.strength, cell.strength_from)
    return found


def _levels(
    judged: judge.Judged, encoders: Mapping[str, Known], settings: judge.Settings
) -> dict[str, list[parts.Level]]:
    """The primary value of every encoder on each level of each column."""
    found: dict[str, dict[str, parts.Level]] = {}
    key = judged.task.metric.primary
    for name in encoders:
        for column, levels in judge.levels(judged, name, settings).items():
            rows = found.setdefault(column, {})
            for level in levels:
                about = parts.Level(level.name, level.images, level.groups, {})
                rows.setdefault(level.name, about).values[name] = parts.Range(
                    level.values[key], level.low[key], level.high[key]
                )
    return {column: list(rows.values()) for column, rows in found.items()}
