"""What a report says first, and what it cannot say, in plain words."""

from __future__ import annotations

from mtpret_jax.audit import exclusions
from mtpret_jax.report import parts, words

PAPER = (
    "training images that a validation or test split holds again, as copies or by the "
    "same patient, were not removed. Arms that start from it may have seen test "
    "images, without their labels, and their figures may be too good."
)
_STARTS = {
    "paper": f"which reproduces the published pool (contrastive.pool: paper): {PAPER}",
    "clean": "whose pool was kept from the evaluation images of that folder's sets. "
    "Whether it holds test images of this configuration was not examined.",
    "unknown": "which did not say what it was pre-trained on. Whether it has seen test "
    "images of this configuration is not known.",
}
_LEARNT = 5  # times as often as by guessing, a view must be picked out by stage 1


def opening(report: parts.Report) -> list[str]:
    """What was compared, and every claim; what is missing."""
    unfinished = words.plural(len(report.unfinished), "run")
    missing = [f"Not complete: {unfinished} not finished when this was written."]
    missing = missing if report.unfinished else []
    if not any(report.values.values()):
        return ["Nothing to compare yet: no fine-tuning run has finished.", *missing]
    tasks = report.tasks
    lines = [
        f"{words.counted(len(report.arms), 'way')} of starting a network (“arms”) "
        f"compared on {words.counted(len(tasks), 'X-ray task', capital=False)}. Within "
        f"a task {_alike(report)}. The model of each run "
        "was chosen on validation images; the test images below were used once, at the "
        "end."
    ]
    external = [name for name, task in tasks.items() if task.external]
    if external:
        verb = "is" if len(external) == 1 else "are"
        lines.append(
            f"{', '.join(external)} {verb} external: no pre-training read "
            f"{'its set' if len(external) == 1 else 'their sets'}."
        )
    for row in report.claims:
        lines += [claim(row, each, len(tasks)) for each in report.fractions]
    return lines + missing


def _alike(report: parts.Report) -> str:
    """Whether arms were fine-tuned by one recipe and for as many steps, by task."""
    compared: dict[tuple[str, float], dict[str, parts.Run]] = {}
    for cell in report.cells:
        run = report.runs.get(cell.run)
        if run and run.steps is not None:
            compared.setdefault((cell.task, cell.fraction), {})[cell.arm] = run
    longer, differing = set(), set()
    for runs in compared.values():
        least = min(run.steps or 0 for run in runs.values())
        longer |= {arm for arm, run in runs.items() if (run.steps or 0) > least}
        first, *others = (run.recipe for run in runs.values())
        differing |= {n for each in others for n in each if each[n] != first.get(n)}
    if differing:
        names = ", ".join(sorted(differing))
        alike = f"arms are not fine-tuned alike: they differ in {names}"
    else:
        alike = "every arm is fine-tuned alike"
    if longer:
        more = f"more were given to {', '.join(sorted(longer))}"
        return f"{alike}, but not for as many steps: {more}"
    if differing:
        return f"{alike}, which may be what makes a difference"
    return f"{alike}, with the same number of steps; what differs is where it starts"


def claim(row: parts.Claim, fraction: str, tasks: int) -> str:
    """On how many tasks an arm was better than another, worse, or neither."""
    found = row.summary.get(fraction, {})
    counts = {key: found.get(key, 0) for key in ("better", "worse")}
    undecided = found.get("undecided", 0)
    judged = sum(counts.values()) + undecided
    arm, baseline, share = row.arm, row.baseline, words.percent(fraction)
    if not judged:
        return f"{arm} against {baseline} with {share}: nothing to compare."
    text = (
        f"{arm} better than {baseline} on {counts['better']} of {judged} "
        f"task{'' if judged == 1 else 's'} with {share}, worse on "
        f"{counts['worse']}, not distinguishable on {undecided}."
    )
    missing = tasks - judged
    return text + (f" No comparison on {missing}." if missing > 0 else "")


def warnings(report: parts.Report) -> list[str]:
    """What the audit says against the figures."""
    paper = [
        f"Run {name} reproduces the published pool (contrastive.pool: paper): {PAPER}"
        for name, run in report.audit.pools.items()
        if run.pool == "paper"
    ]
    return [*paper, *_started(report), *_met_again(report)]


def _started(report: parts.Report) -> list[str]:
    """A warning for runs that start from a backbone of another work folder."""
    found: dict[tuple[str, str, str], list[str]] = {}
    key = report.audit.findings and report.audit.findings.key
    for name, run in report.runs.items():
        for pool in run.pools:
            is_same = pool.pool == "clean" and pool.audit == key
            if pool.start and not is_same:
                place = (pool.start, pool.run, pool.pool)
                found.setdefault(place, []).append(name)
    return [
        f"{', '.join(names)}: the backbone that "
        f"{'this run' if len(names) == 1 else 'these runs'} started from ({start}) was "
        f"made by run {run} of another work folder, {_STARTS[pool]}"
        for (start, run, pool), names in found.items()
    ]


def _met_again(report: parts.Report) -> list[str]:
    """A warning for each set whose training images validation or test holds again."""
    audit, found = report.audit, {}
    for row in audit.findings.overlaps if audit.findings else ():
        is_one_set = row.dataset == row.other_dataset and row.split != row.other_split
        if is_one_set and row.kind != exclusions.SAME_PATIENT:
            told = f"{words.plural(row.pairs, 'pair')} of {row.split} and "
            told += f"{row.other_split} ({row.kind})"
            found.setdefault(row.dataset, []).append(told)
    if audit.exclude_copies:
        end = "The training images among them were left out of all stages."
    else:
        end = (
            "Stages 2 and 3 train on such images, so its figures may be too good; "
            "exclude_copies leaves them out."
        )
    return [
        f"Caution: the audit found copies across splits of {name}: {', '.join(rows)}. "
        + end
        for name, rows in found.items()
    ]


def crossing(report: parts.Report) -> list[str]:
    """A warning for each set of a task that is not tested on unseen patients."""
    lines = []
    for name in dict.fromkeys(task.dataset for task in report.tasks.values()):
        used = report.splits.get(name)
        if used and (count := used.groups_in_several_splits):
            lines.append(
                f"Caution: {words.counted(count, 'patient', capital=False)} of {name} "
                f"{'has' if count == 1 else 'have'} images in several splits "
                f"(“{used.name}”), so its test is not of unseen patients."
            )
    return lines


def picked(report: parts.Report, run: str) -> str:
    """How well a run of stage 1 told views apart at its end; "" if it is not known."""
    curve = report.curves[run].get("train/accuracy")
    values = [value for value in curve.value if words.is_known(value)] if curve else []
    if not values:
        return ""
    last = values[-max(1, len(values) // 10) :]  # A batch alone says little.
    share, chance = sum(last) / len(last), 1 / (1 + report.runs[run].negatives)
    text = f"At its end it was picked out {share:.1%} of the time; "
    text += f"guessing gives {chance:.1%}."
    if share >= _LEARNT * chance:
        return text
    return (
        f"{text} So little was learnt here: try more steps, or a lower learning rate, "
        "before anything starts from this run."
    )


def batch_norm(report: parts.Report) -> str:
    """What was done to BatchNorm before frozen features were measured."""
    found = {run.batch_norm for run in report.runs.values()}
    batches = sorted(count for count in found if count is not None)
    if not batches:
        return ""
    if batches == [0]:
        return "The statistics of BatchNorm are left as they are, too."
    return (
        f"The statistics of BatchNorm are taken from {' or '.join(map(str, batches))} "
        "training batches of the task before, in every arm."
    )


def trained(report: parts.Report) -> str:
    """How often each cell was trained."""
    parts = [
        f"{words.counted(seeds, 'seed', capital=False)} with {words.percent(fraction)}"
        for fraction, seeds in zip(report.fractions, report.seeds, strict=True)
    ]
    return f"Each arm was trained with {', '.join(parts)}."


def detectable(report: parts.Report) -> str:
    """How large a difference has to be, to be found; "" if none was judged."""
    parts = []
    for fraction in report.fractions:
        found = [
            row.detectable
            for one in report.claims
            for row in one.rows
            if row.fraction == fraction and words.is_known(row.detectable)
        ]
        if found:
            ends = f"{words.number(min(found))} to {words.number(max(found))}"
            parts.append(f"{ends} with {words.percent(fraction)}")
    return ", ".join(parts)


def took(report: parts.Report) -> str:
    """Hours of training by stage, and what they were done on."""
    hours: dict[str, float] = {}
    for run in report.runs.values():
        if run.seconds is not None:
            hours[run.stage] = hours.get(run.stage, 0.0) + run.seconds
    made = report.versions or {}
    device = f"{made.get('devices', '?')} × {made.get('device', 'unknown device')}"
    cores = f", {made['cores']} cores" if made.get("cores") else ""
    parts = [f"{stage} {words.duration(taken)}" for stage, taken in hours.items()]
    total = words.duration(sum(hours.values()))
    return (
        f"Training took {total} in all ({'; '.join(parts) or 'no finished run'}), "
        f"without preparation and evaluation, on {device}{cores}."
    )
