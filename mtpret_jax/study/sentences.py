"""What a study says, and what it cannot say, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtpret_jax.report import audit, words

Study = Mapping[str, Any]

CALIBRATION = (
    "A probability is well calibrated if, of the images given 0.8, eight in ten show "
    "the finding: points then lie on the dashed line. Each point holds as many images "
    "as the next; its bar is the 95 % interval. The calibration error is the mean "
    "distance to that line. Beside it stands what chance alone would give at this "
    "number of images: an error near it is no sign of bad calibration."
)
OPERATING = (
    "The threshold is where sensitivity + specificity is largest on validation images; "
    "sensitivity and specificity are then measured on test images. In brackets: 95 % "
    "intervals, and how many images each is of."
)
FROZEN = (
    "How good are the features before any fine-tuning? The starting network's weights "
    "are left as they are, and its features are told apart by a linear layer (linear "
    "probe) or by the labels of the nearest training images (kNN)."
)
EFFICIENCY = (
    "How good a model gets with part of the labels. An arm whose line lies higher at "
    "the left needs fewer labels. Bars: 95 % intervals."
)
LEARNING = (
    "Each arm in fine-tuning; with several seeds, each is a thin line and their mean a "
    "thick one."
)
FORGETTING = (
    "Every task met so far is measured on validation images, always the same, after "
    "each segment of the continual stage, with statistics of BatchNorm that are taken "
    "from its own training images. A row that fades to the right is a task being "
    "forgotten. The rest is of all validation images, and of tasks that have at least "
    "30 positives among them. “Lost” is a task's best value after segments of its own "
    "less that at the end. Backward transfer: a task's value at the end less that "
    "after its own last segment; below zero, later tasks made it forgotten. "
    "Forward transfer: its value after its first segment less that of the "
    "control after as many steps; below zero, what came before kept it from being "
    "learnt. Memorization means the anchors and the feature memory that hold a network "
    "to what it has learnt; reshuffling, that each round has its own order of tasks."
)
SAMPLES = (
    "First, test images taken by their place in the file, not by how well they turned "
    "out. Then the worst: for each arm the test images that it got most wrong, the "
    "worst first."
)
ATTENTION = (
    "Where in the image the evidence for the model's first choice lies (Grad-CAM of "
    "the last features; yellow is most). The map is as coarse as the network's last "
    "grid and says nothing about why, or whether the place is right."
)
SUBGROUPS = (
    "Each value within a part of the test images. Small parts have wide intervals, and "
    "no part is tested against another."
)
AREAS = (
    "Areas under the ROC curve of each class (means over seeds) compared without "
    "resampling, all images of a patient counted as one: a check on the bootstrap "
    "above, not corrected for the number of comparisons, and not a second verdict."
)


def frozen(study: Study) -> str:
    """How the features of starting networks were measured, BatchNorm's part too."""
    facts = [run.get("frozen") for run in study["runs"].values()]
    batches = sorted(
        {one["batch_norm"] for one in facts if one and "batch_norm" in one}
    )
    if not batches:
        return FROZEN
    if batches == [0]:
        return f"{FROZEN} The statistics of BatchNorm are left as they are, too."
    return (
        f"{FROZEN} The statistics of BatchNorm are taken from "
        f"{' or '.join(map(str, batches))} training batches of the task before, in "
        "every arm."
    )


def share(fraction: str | float) -> str:
    """A fraction as a share in percent."""
    return f"{100 * float(fraction):g} %"


def percent(fraction: str | float) -> str:
    """A share of labels."""
    return f"{share(fraction)} of labels"


def claim(row: Mapping[str, Any], fraction: str, tasks: int) -> str:
    """On how many tasks an arm was better than another, worse, or neither."""
    found = row["summary"].get(fraction, {})
    counts = {key: found.get(key, 0) for key in ("better", "worse")}
    undecided = found.get("undecided", 0)
    judged = sum(counts.values()) + undecided
    arm, baseline = row["arm"], row["baseline"]
    if not judged:
        return f"{arm} against {baseline} with {percent(fraction)}: nothing to compare."
    text = (
        f"{arm} better than {baseline} on {counts['better']} of {judged} "
        f"task{'' if judged == 1 else 's'} with {percent(fraction)}, worse on "
        f"{counts['worse']}, not distinguishable on {undecided}."
    )
    missing = tasks - judged
    return text + (f" No comparison on {missing}." if missing > 0 else "")


def verdict(said: str) -> str:
    """A verdict, without its reminder of n, which stands beside it."""
    return said.removesuffix(" at this n")


def opening(study: Study) -> list[str]:
    """The first sentences of the page: what was compared, and every claim."""
    tasks = study["tasks"]
    external = [name for name, task in tasks.items() if task.get("external")]
    lines = [
        f"{words.counted(len(study['arms']), 'way')} of starting a network (“arms”) "
        f"compared on {words.counted(len(tasks), 'X-ray task', capital=False)}, each "
        "fine-tuned alike from each start."
    ]
    if external:
        verb = "is" if len(external) == 1 else "are"
        lines.append(
            f"{', '.join(external)} {verb} external: no pre-training read "
            f"{'its set' if len(external) == 1 else 'their sets'}."
        )
    for row in study["claims"]:
        lines += [claim(row, f, len(tasks)) for f in study["fractions"]]
    if study["unfinished"]:
        count = len(study["unfinished"])
        lines.append(
            f"Not complete: {count} run{'' if count == 1 else 's'} not finished when "
            "this was written."
        )
    return [*lines, *audit.opening(study), *words.crossing(study)]


def judged(study: Study) -> str:
    """How a verdict comes about."""
    made = study["interval"]
    return (
        "“Better” and “worse” are said only if the difference would be rare by chance "
        "(p below 0.05 after Holm's correction for all differences judged together), "
        "both over other test patients "
        f"({made['resamples']} bootstrap resamples of whole {made['unit']}s, such as "
        "all images of a patient, the same ones for both arms) and, where there are "
        "several seeds, over other trainings. “Not distinguishable” does not mean "
        "equal: the difference may be anywhere in its interval. Beside each verdict "
        "stands the smallest true difference that such a comparison would find in 8 of "
        "10 studies, by the same two rules."
    )


def limits(study: Study) -> list[str]:
    """What the evidence does not show."""
    tasks = study["tasks"]
    sizes = [task["images"] for task in tasks.values() if task.get("images")]
    found = [_seeds(study), _width(study)]
    if sizes:
        found.append(
            f"Test sets are of {min(sizes)} to {max(sizes)} images. What holds for "
            "them need not hold for other hospitals, devices or patients."
        )
    pixels = sorted({task["image_size"] for task in tasks.values()})
    found.append(
        f"Images are {' or '.join(str(size) for size in pixels)} pixels wide, far "
        "fewer than a radiologist sees. Larger images, other networks or longer "
        "training may change the order of the arms."
    )
    found.append(
        "Fine-tuning settings are the same for every arm, not tuned for each; budgets "
        "of pre-training differ between arms, as the table of runs says."
    )
    if any(task.get("external") for task in tasks.values()):
        found.append(
            "“External” rests on the audit: it finds copies and shared patients, not "
            "mirrored or cropped copies or patients whose ids differ between sets."
        )
    else:
        found.append(
            "No task was held out: whether anything carries over to tasks never seen "
            "was not examined."
        )
    return [line for line in found if line]


def _seeds(study: Study) -> str:
    """How often each cell was trained."""
    parts = [
        f"{words.counted(seeds, 'seed', capital=False)} with {percent(fraction)}"
        for fraction, seeds in zip(study["fractions"], study["seeds"], strict=True)
    ]
    text = f"Each arm was trained with {', '.join(parts)}."
    if min(study["seeds"]) == 1:
        text += (
            " With one seed a verdict is about two trained models, not about two ways "
            "of training: another training may come out otherwise."
        )
    return text


def _width(study: Study) -> str:
    """How large a difference has to be, to be found."""
    parts = []
    for fraction in study["fractions"]:
        found = [
            row["detectable"]
            for one in study["claims"]
            for row in one["rows"]
            if row["fraction"] == fraction and words.is_known(row["detectable"])
        ]
        if found:
            ends = f"{words.number(min(found))} to {words.number(max(found))}"
            parts.append(f"{ends} with {percent(fraction)}")
    if not parts:
        return ""
    return (
        "The smallest true differences that would be found in 8 of 10 such studies, "
        f"seeds and correction included, are {', '.join(parts)}, by comparison: "
        "smaller ones are missed more often than that, in either direction."
    )


def size(task: Mapping[str, Any]) -> str:
    """Test images of a task, and of how many groups."""
    images, groups = task.get("images"), task.get("groups")
    if images is None:
        return "not measured"
    text = f"n = {images}"
    if groups is not None and groups != images:
        text += f" of {groups} groups"
    positives = task.get("positives")
    return (
        text if positives is None else f"{text}, {_positives(task['kind'], positives)}"
    )


def _positives(kind: str, count: Any) -> str:
    if isinstance(count, Mapping):
        return ", ".join(f"{number} {name}" for name, number in count.items())
    what = {
        "classification": "of the rarest class",
        "detection": "with boxes",
    }
    return f"{count} {what.get(kind, 'with a mask')}"


def seeds(value: Mapping[str, Any]) -> str:
    """The value of each seed and their spread; empty with one seed."""
    each: Sequence[float] = value.get("by_seed") or ()
    if len(each) < 2:
        return ""
    numbers = ", ".join(words.number(one) for one in each)
    return f"seeds {numbers}; SD {words.number(value.get('spread'))}"


def proportion(found: Mapping[str, Any]) -> str:
    """A share with its interval and the number of images it is of."""
    if not words.is_known(found["value"]):
        return f"– (n = {found.get('images', 0)})"
    ends = words.span(found["low"], found["high"])
    return f"{words.number(found['value'])} ({ends}; n = {found['images']})"


def compute(study: Study) -> str:
    """Hours of training by stage, and what they were done on."""
    hours: dict[str, float] = {}
    for run in study["runs"].values():
        if words.is_known(run.get("seconds")):
            stage = run["stage"]
            hours[stage] = hours.get(stage, 0.0) + run["seconds"]
    made = study["versions"] or {}
    device = f"{made.get('devices', '?')} × {made.get('device', 'unknown device')}"
    cores = f", {made['cores']} cores" if made.get("cores") else ""
    parts = [f"{stage} {words.duration(taken)}" for stage, taken in hours.items()]
    total = words.duration(sum(hours.values()))
    return (
        f"Training took {total} in all ({'; '.join(parts) or 'no finished run'}), "
        f"without preparation and evaluation, on {device}{cores}."
    )
