"""What a comparison of encoders found, and what may be said: `compare.json` as a value.

The family that is corrected together: every encoder against the first, by the linear
probe from the largest share of the labels, on every task whose test split neither is
known to have seen. All other differences are told, and not judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from mtpret_jax.compare import features, judge, lists, sets
from mtpret_jax.metrics import calibration, comparison, intervals
from mtpret_jax.report import comparisons, parts, words

SEEN = "not judged"  # the verdict where a test split was seen
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


@dataclasses.dataclass(frozen=True)
class Described(features.About):
    """An encoder as the page has it.

    Attributes:
      features: D.
      listed: Images in its lists; None without a list.
      unknown: What is not known of its training images; "" where all is.
    """

    features: int = 0
    listed: int | None = None
    unknown: str = ""


@dataclasses.dataclass(frozen=True)
class Told:
    """A task as the page has it; images and groups of each split."""

    dataset: str
    fingerprint: str
    splits: str
    metric: str
    classes: list[str]
    images: dict[str, int]
    groups: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Probe:
    """How probes learnt: images, and the strength of the linear one's penalty."""

    images: int
    strength: float
    strength_from: str


@dataclasses.dataclass(frozen=True)
class Compared(parts.Difference):
    """An encoder less the baseline; `_retrained`: other training groups, too.

    `p`, `p_corrected` and `detectable` are NaN where it is not judged, and `verdict`
    is then "" or `SEEN`.
    """

    encoder: str
    baseline: str
    method: str


@dataclasses.dataclass(frozen=True)
class Findings:
    """Everything, in the order of the page.

    Attributes:
      baseline: The first encoder.
      encoders: What each is.
      tasks: What each task is.
      left_out: Tasks of the config that are not of classes, and their kind.
      seed: Seed of shares, halves and resamples.
      fractions: Shares of the training groups, rising; the last is judged.
      interval: How intervals are drawn.
      halves: How many halves of the training groups probes are fitted on again.
      values: By task, share, encoder, method and name.
      probes: By task, share and encoder.
      judged: The family.
      others: Differences that are not judged.
      leaks: What lists hold, by task and encoder, of those that have one.
      calibration: Of the linear probe from the largest share by task, encoder, class.
      subgroups: Of the same, by task and column.
      said: What may be said.
    """

    baseline: str
    encoders: dict[str, Described]
    tasks: dict[str, Told]
    left_out: dict[str, str]
    seed: int
    fractions: list[str]
    interval: parts.Bootstrap
    halves: int
    values: parts.Cells[dict[str, dict[str, parts.Range]]]
    probes: parts.Cells[Probe]
    judged: list[Compared]
    others: list[Compared]
    leaks: dict[str, dict[str, lists.Leak]]
    calibration: dict[str, dict[str, dict[str, calibration.Calibration]]]
    subgroups: dict[str, dict[str, list[parts.Level]]]
    said: list[str]


def build(
    tasks: Sequence[sets.Task],
    encoders: Mapping[str, Known],
    settings: judge.Settings,
    *,
    datasets: Sequence[str],
    left_out: Mapping[str, str],
    progress: Callable[[str], None] = lambda line: None,
) -> Findings:
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
    needed = comparison.resamples_needed(len(tasks) * len(others))
    settings = dataclasses.replace(settings, resamples=max(settings.resamples, needed))
    leaks = {
        task.name: {
            name: lists.against(known.listed, task, datasets)
            for name, known in encoders.items()
            if known.listed
        }
        for task in tasks
    }
    # All of them before any is judged: what does not fit is told at once.
    read = {
        task.name: {
            name: {part: known.encoder.features(task, part) for part in sets.SPLITS}
            for name, known in encoders.items()
        }
        for task in tasks
    }
    judged = []
    for task in tasks:
        progress(f"{task.name}: {', '.join(encoders)}")
        judged.append(judge.judge(task, read[task.name], settings))
    family, rest = _compare(judged, baseline, others, settings, leaks)
    described = {
        name: _describe(known, next(iter(read.values()))[name]["test"].shape[1])
        for name, known in encoders.items()
    }
    return Findings(
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
            each.task.name: {name: judge.calibrations(each, name) for name in encoders}
            for each in judged
        },
        subgroups={
            each.task.name: _levels(each, encoders, settings) for each in judged
        },
        said=_said(family, leaks, described),
    )


def _compare(
    judged: Sequence[judge.Judged],
    baseline: str,
    others: Sequence[str],
    settings: judge.Settings,
    leaks: Mapping[str, Mapping[str, lists.Leak]],
) -> tuple[list[Compared], list[Compared]]:
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
        no_claim = comparison.Claim(nan, nan, SEEN if is_seen(task, name) else "", nan)
        claim = claims.get(f"{task} {name}") if is_primary else None
        test = of_task[task].task.splits["test"]
        row = Compared(
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


def _describe(known: Known, width: int) -> Described:
    names = {name for each in known.listed for name in each.names}
    return Described(
        **vars(known.encoder.about),
        features=width,
        listed=len(names) if known.listed else None,
        unknown=known.why,
    )


def _told(task: sets.Task) -> Told:
    return Told(
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
            key: parts.Range(float(value), *intervals.interval(cell.draws[key]))
            for key, value in cell.values.items()
        }
    return found


def _probes(judged: judge.Judged) -> parts.ByArm[Probe]:
    found: parts.ByArm[Probe] = {}
    for (share, name, method), cell in judged.cells.items():
        if method == _PRIMARY:
            row = found.setdefault(comparisons.key(share), {})
            row[name] = Probe(cell.images, cell.strength, cell.strength_from)
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


def _said(
    family: Sequence[Compared],
    leaks: Mapping[str, Mapping[str, lists.Leak]],
    encoders: Mapping[str, Described],
) -> list[str]:
    """A sentence for each comparison, and one for each encoder that hides something."""
    found = []
    for row in family:
        pair = f"{row.encoder} and {row.baseline}"
        ends = words.signed_span(row.low, row.high)
        told = f"{words.metric(row.metric)} {words.signed(row.difference)} ({ends})"
        holm = f"Holm p = {words.p_value(row.p_corrected)}".replace("= <", "<")
        if row.verdict == SEEN:
            blame = [n for n in (row.encoder, row.baseline) if _leak(leaks, row, n)]
            counts = "; ".join(f"{n}: {_leak(leaks, row, n)}" for n in blame)
            found.append(
                f"Nothing is said of {pair} on {row.task}: images of the test split "
                f"were learnt from ({counts})."
            )
        elif row.verdict == comparison.UNDECIDED:
            least = ""
            if words.is_known(row.detectable):
                least = (
                    "; a true difference has to be about "
                    f"{words.number(row.detectable)} to be found in four of five "
                    "such comparisons"
                )
            found.append(
                f"Nothing was shown of {pair} on {row.task}: {told}, {holm}{least}."
            )
        else:
            found.append(
                f"{row.encoder} is {row.verdict} than {row.baseline} on {row.task}: "
                f"{told}, {holm}."
            )
    for name, one in encoders.items():
        if one.unknown:
            found.append(
                f"Whether {name} learnt from test images is not known: {one.unknown}."
            )
    return found


def _leak(
    leaks: Mapping[str, Mapping[str, lists.Leak]], row: Compared, name: str
) -> str:
    """What an encoder has seen of the test split of a comparison's task; or ""."""
    leak = leaks[row.task].get(name)
    return seen(leak) if leak is not None and leak.found else ""


def seen(leak: lists.Leak) -> str:
    """What of a test split was learnt from, in words."""
    return (
        f"{words.plural(leak.images, 'image')} of the test split, "
        f"{words.plural(leak.groups, 'of its groups', 'of its groups')}"
    )
