"""Numbers and findings of the report in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mtpret_jax.report import audit

Report = Mapping[str, Any]

_METRICS = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "dice": "Dice",
    "dice_per_image": "Dice per image",
    "mean_iou": "mean IoU",
    "hd95": "HD95 of outlines, pixels of the stored picture (lower is better)",
    "masks_missed": "regions where nothing is drawn (not in HD95)",
    "masks_made_up": "absent regions where something is drawn (not in HD95)",
    "coco_ap": "COCO AP",
    "ap50": "AP50",
    "froc": "FROC, sensitivity at 1/8 to 8 false alarms an image",
    "auroc_study": "AUROC per study",
    "kappa_study": "kappa per study",
}
_LEARNT = 5  # times as often as by guessing, a view must be picked out by stage 1
PER_STUDY = ("auroc", "auroc_study", "kappa", "kappa_study")
STUDIES = (
    "A study is all test pictures of one visit; its probability is the mean over them. "
    "Cohen's kappa is agreement with the truth beyond chance, at the likeliest class "
    "(at 0.5 where classes do not exclude each other): 0 is chance, 1 is perfect."
)
_MEANINGS = {
    "auroc": "How often a picture that shows the finding gets a higher score than one "
    "that does not: 0.5 is guessing, 1 is perfect.",
    "dice": "Overlap of the drawn and the true region, over all pixels of the set: 0 "
    "is none, 1 is the same.",
    "ap50": "Average precision of boxes that overlap the true one by at least half: 0 "
    "finds nothing, 1 finds all and nothing else.",
}


def metric(name: str) -> str:
    """A metric's name as people write it; that of a class keeps the class."""
    head, slash, part = name.partition("/")
    return f"{_METRICS.get(head, head)}{': ' if slash else ''}{part}"


def meaning(name: str) -> str:
    """A sentence on what the metric says."""
    return _MEANINGS.get(name, "Higher is better.")


def is_known(*values: float | None) -> bool:
    """Whether all are numbers; what is undefined is NaN, in a file None."""
    return all(value is not None and math.isfinite(value) for value in values)


def number(value: float | None) -> str:
    """Three digits after the point; a dash where there is nothing to measure."""
    if value is None or not is_known(value):
        return "–"
    return f"{value:.3f}".replace("-", "−")


def signed(value: float | None) -> str:
    """As `number`, with its sign."""
    text = number(value)
    rises = is_known(value) and not text.startswith("−")
    return f"+{text}" if rises else text


def span(low: float | None, high: float | None) -> str:
    """An interval, or that there is none."""
    if not is_known(low, high):
        return "no interval"
    return f"{number(low)} to {number(high)}"


def signed_span(low: float | None, high: float | None) -> str:
    """An interval of a difference, or that there is none."""
    if not is_known(low, high):
        return "no interval"
    return f"{signed(low)} to {signed(high)}"


def verdict(low: float, high: float) -> tuple[str, str]:
    """What an interval of a difference says, and its class in the style sheet."""
    if not math.isfinite(low):
        return "cannot be told", "soft"
    if low > 0:
        return "better", "up"
    if high < 0:
        return "worse", "down"
    return "no clear difference", "soft"


def size(task: Mapping[str, Any]) -> str:
    """How many test images, and of how many groups."""
    row = next(iter(task["arms"].values()))
    images = f"n = {row['images']} image{'s' if row['images'] != 1 else ''}"
    if row.get("studies"):
        images += f", {row['studies']} stud{'ies' if row['studies'] != 1 else 'y'},"
    if row["groups"] == row["images"]:
        return images.rstrip(",")
    return f"{images} of {row['groups']} group{'s' if row['groups'] != 1 else ''}"


def opening(report: Report) -> list[str]:
    """The first sentences of the page."""
    tasks = report["tasks"]
    warnings = audit.opening(report)
    if not tasks:
        nothing = "Nothing to compare yet: no fine-tuning run has finished."
        return [*warnings, nothing]
    arms = {arm for task in tasks.values() for arm in task["arms"]}
    longer = sorted(
        {
            arm
            for task in tasks.values()
            for arm, row in task["arms"].items()
            if row["steps"] > min(other["steps"] for other in task["arms"].values())
        }
    )
    budget = ", with the same number of steps; only the weights it starts from differ."
    if longer:
        names = ", ".join(longer)
        budget = f", but not for as many steps: more were given to {names}."
    lines = [
        f"{counted(len(arms), 'way')} of starting a network (“arms”) compared on "
        f"{counted(len(tasks), 'X-ray task', capital=False)}. Within a task every arm "
        f"is fine-tuned alike{budget} The model of each run was chosen on validation "
        "images; the test images below were used once, at the end."
    ]
    lines += warnings
    lines += findings(report)
    return lines + crossing(report)


def crossing(report: Report) -> list[str]:
    """A warning for each set of a task that is not tested on unseen patients."""
    used = splits_in_use(report)
    lines = []
    for name in dict.fromkeys(task["dataset"] for task in report["tasks"].values()):
        count = used.get(name, {}).get("groups_in_several_splits", 0)
        if count:
            lines.append(
                f"Caution: {counted(count, 'patient', capital=False)} of {name} "
                f"{'has' if count == 1 else 'have'} pictures in several splits "
                f"(“{used[name]['name']}”), so its test is not of unseen patients."
            )
    return lines


def splits_in_use(report: Report) -> dict[str, Mapping[str, Any]]:
    """The manifest by which each set was read; sets without one are left out."""
    found = (report["datasets"] or {}).items()
    return {n: s["splits_in_use"] for n, s in found if s.get("splits_in_use")}


def split(name: str, used: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a set's row: which splits, how many pictures, which manifest."""
    images = used["images"]
    return (
        name,
        f"{used['name']}, version {used['version']}",
        *(str(images.get(part, 0)) for part in ("train", "validation", "test")),
        str(used["groups_in_several_splits"]),
        used["sha256"][:12],
    )


def findings(report: Report) -> list[str]:
    """For each arm, in how many tasks it beat the baseline."""
    tally: dict[str, dict[str, list[str]]] = {}
    for name, task in report["tasks"].items():
        for arm, row in task["arms"].items():
            if "difference" in row:
                gap = row["difference"][task["primary"]]
                word, _ = verdict(gap["low"], gap["high"])
                tally.setdefault(arm, {}).setdefault(word, []).append(name)
    lines = []
    for arm, found in tally.items():
        parts = [
            f"{word} on {', '.join(found[word])}"
            for word in ("better", "worse")
            if word in found
        ]
        for word in ("no clear difference", "cannot be told"):
            if word in found:
                parts.append(f"{word} on {', '.join(found[word])}")
        lines.append(f"{arm} against {report['baseline']}: {'; '.join(parts)}.")
    return lines


def interval(report: Report) -> str:
    """How the intervals were made and what they leave out."""
    made = report["interval"]
    return (
        f"In each cell: the value, and below it its 95 % interval ({made['resamples']} "
        "bootstrap resamples of whole groups, such as all images of a patient; "
        "percentiles 2.5 and 97.5). It says how far the value could move with other "
        "test images. It does not cover the luck of a training run, since each arm was "
        "trained once, with one seed."
    )


def paired(report: Report) -> str:
    """How the differences were made."""
    return (
        "Differences on the same resampled test images for both arms. An interval that "
        "holds zero shows no clear difference. Many comparisons at once will throw "
        "up a lucky one now and then, and one seed cannot rank arms: "
        f"{report['baseline']} and the others would each move a little if trained "
        "again."
    )


def picked(report: Report, run: str) -> str:
    """How well a run of stage 1 told views apart at its end; "" if it is not known."""
    values = report["curves"][run].get("train/accuracy", {}).get("value", [])
    values = [value for value in values if is_known(value)]
    row = ((report["config"] or {}).get("runs") or {}).get(run)
    if not values or not row:
        return ""
    last = values[-max(1, len(values) // 10) :]  # A batch alone says little.
    share, chance = sum(last) / len(last), 1 / (1 + row["contrastive"]["queue_size"])
    text = f"At its end it was picked out {share:.1%} of the time; "
    text += f"guessing gives {chance:.1%}."
    if share >= _LEARNT * chance:
        return text
    return (
        f"{text} So little was learnt here: try more steps, or a lower learning rate, "
        "before anything starts from this run."
    )


def start(report: Report, arm: str) -> str:
    """Where an arm's weights come from, through all parents."""
    rows = [t["arms"][arm] for t in report["tasks"].values() if arm in t["arms"]]
    parent, chain = rows[0].get("parent"), []
    while parent and parent in report["runs"] and len(chain) < len(report["runs"]):
        run = report["runs"][parent]
        chain.append(f"{parent} ({run['stage']}, {run['steps']} steps)")
        parent = run.get("parent")
    if parent:
        chain.append(str(parent))
    if not chain:
        return "starts from random weights"
    return f"starts from {', which started from '.join(chain)}"


def kept(row: Mapping[str, Any]) -> str:
    """Which step of a run was chosen, and its value on validation."""
    if row.get("best_step") is None:
        return "the last step"
    return f"step {row['best_step']}, validation {number(row['best_value'])}"


def run(name: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """The cells of a run's row."""
    seconds, speed = values.get("seconds"), values.get("images_per_second")
    time = "–" if seconds is None else duration(seconds)
    if values.get("resumed_at"):
        time += f" since step {values['resumed_at']}"
    return (
        name,
        values["stage"],
        values.get("parent") or "random weights",
        f"{values.get('steps', '–')}",
        cost([values["compute"]]),
        time,
        "–" if speed is None or not math.isfinite(speed) else f"{speed:.1f}",
    )


COST = "updates / images"
COSTS = (
    "Updates are optimiser steps and images the pictures trained on (in stage 1, two "
    "views of each), from the first weights on; what given weights took is not known."
)


def cost(found: Iterable[Mapping[str, int] | None]) -> str:
    """Updates and images of runs (`budget`), from the least to the most."""
    known = [one for one in found if one]
    spans = [
        "–".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))
        for counts in ([one[key] for one in known] for key in ("updates", "images"))
        if counts
    ]
    return " / ".join(spans) or "–"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, as fits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(number_of: int, noun: str, *, capital: bool = True) -> str:
    """A number and its noun, in words up to eight."""
    names = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")
    word = names[number_of] if number_of < len(names) else str(number_of)
    word = word if capital else word.lower()
    return f"{word} {noun}{'' if number_of == 1 else 's'}"


def measured_on(matrix: Mapping[str, Any], task: str, part: str = "records") -> str:
    """How many validation images a forgetting matrix is of, and of how many.

    `part` is "whole" for those of what is forgotten and transferred.
    """
    used = matrix.get("measured_on", {}).get(task)
    return f"{used.get(part, used['records']):,} of {used['of']:,}" if used else "–"
