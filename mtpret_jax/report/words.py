"""Numbers, names and counts of a report as people write them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

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
_MEANINGS = {
    "auroc": "How often a picture that shows the finding gets a higher score than one "
    "that does not: 0.5 is guessing, 1 is perfect.",
    "dice": "Overlap of the drawn and the true region, over all pixels of the set: 0 "
    "is none, 1 is the same.",
    "ap50": "Average precision of boxes that overlap the true one by at least half: 0 "
    "finds nothing, 1 finds all and nothing else.",
}
_POSITIVES = {"classification": "of the rarest class", "detection": "with boxes"}
COST = "updates / images"


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
    """A number with its sign."""
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


def p_value(p: float | None) -> str:
    """A p-value; small ones as a bound."""
    if p is None or not is_known(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def proportion(found: Mapping[str, Any]) -> str:
    """A share with its interval and the number of images it is of."""
    if not is_known(found["value"]):
        return f"– (n = {found.get('images', 0)})"
    ends = span(found["low"], found["high"])
    return f"{number(found['value'])} ({ends}; n = {found['images']})"


def transferred(found: Mapping[str, Any] | None) -> str:
    """A transfer's mean over seeds and their spread."""
    if not found or not is_known(found["value"]):
        return "–"
    text = signed(found["value"])
    if is_known(found.get("spread")):
        text += f" (SD {number(found['spread'])}, {len(found['by_seed'])} seeds)"
    return text


def seeds(value: Mapping[str, Any]) -> str:
    """The value of each seed and their spread; empty with one seed."""
    each = value.get("by_seed") or ()
    if len(each) < 2:
        return ""
    numbers = ", ".join(number(one) for one in each)
    return f"seeds {numbers}; SD {number(value.get('spread'))}"


def share(fraction: str | float) -> str:
    """A fraction as a share in percent."""
    return f"{100 * float(fraction):g} %"


def percent(fraction: str | float) -> str:
    """A share of labels."""
    return f"{share(fraction)} of labels"


def verdict(said: str) -> str:
    """A verdict, without its reminder of n, which stands beside it."""
    return said.removesuffix(" at this n")


def size(task: Mapping[str, Any]) -> str:
    """How many test images a task has, of how many studies and groups."""
    images, groups = task.get("images"), task.get("groups")
    if images is None:
        return "not measured"
    text = f"n = {plural(images, 'image')}"
    if task.get("studies"):
        text += f", {plural(task['studies'], 'study', 'studies')},"
    if groups not in (None, images):
        text += f" of {plural(groups, 'group')}"
    text, positives = text.rstrip(","), task.get("positives")
    if isinstance(positives, Mapping):
        text += "".join(f", {count} {name}" for name, count in positives.items())
    elif positives is not None:
        text += f", {positives} {_POSITIVES.get(task['kind'], 'with a mask')}"
    return text


def measured_on(matrix: Mapping[str, Any], task: str, part: str = "records") -> str:
    """How many validation images a forgetting matrix is of, and of how many.

    `part` is "whole" for those of what is forgotten and transferred.
    """
    used = matrix.get("measured_on", {}).get(task)
    return f"{used.get(part, used['records']):,} of {used['of']:,}" if used else "–"


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


def plural(count: int, noun: str, nouns: str = "") -> str:
    """A number and its noun."""
    return f"{count} {noun if count == 1 else nouns or f'{noun}s'}"


def counted(count: int, noun: str, *, capital: bool = True) -> str:
    """A number and its noun, in words up to eight."""
    names = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")
    word = names[count] if count < len(names) else str(count)
    word = word if capital else word.lower()
    return f"{word} {noun}{'' if count == 1 else 's'}"
