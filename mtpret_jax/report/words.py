"""Numbers, names and counts of a report as people write them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mtpret_jax.config import budget
from mtpret_jax.metrics import calibration, table
from mtpret_jax.report import parts

COST = "updates / images"


def metric(name: str) -> str:
    """A metric's name as people write it; that of a class keeps the class."""
    head, slash, part = name.partition("/")
    return f"{table.TITLES.get(head, head)}{': ' if slash else ''}{part}"


def measure(name: str, unit: str) -> str:
    """A metric's name with the unit of its values, if they have one."""
    return f"{metric(name)}, in {unit}" if unit else metric(name)


def meaning(name: str) -> str:
    """A sentence on what the primary value of a kind of task says."""
    return table.PRIMARY[name].meaning if name in table.PRIMARY else "Higher is better."


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


def proportion(found: calibration.Proportion) -> str:
    """A share with its interval and the number of images it is of."""
    if not is_known(found.value):
        return f"– (n = {found.images})"
    ends = span(found.low, found.high)
    return f"{number(found.value)} ({ends}; n = {found.images})"


def transferred(found: parts.Transfer | None) -> str:
    """A transfer's mean over seeds and their spread."""
    if not found or not is_known(found.value):
        return "–"
    text = signed(found.value)
    if is_known(found.spread):
        text += f" (SD {number(found.spread)}, {len(found.by_seed)} seeds)"
    return text


def seeds(value: parts.Range) -> str:
    """The value of each seed and their spread; empty with one seed."""
    if not isinstance(value, parts.Value) or len(value.by_seed) < 2:
        return ""
    numbers = ", ".join(number(one) for one in value.by_seed)
    return f"seeds {numbers}; SD {number(value.spread)}"


def share(fraction: str | float) -> str:
    """A fraction as a share in percent."""
    return f"{100 * float(fraction):g} %"


def percent(fraction: str | float) -> str:
    """A share of labels."""
    return f"{share(fraction)} of labels"


def verdict(said: str) -> str:
    """A verdict, without its reminder of n, which stands beside it."""
    return said.removesuffix(" at this n")


def size(task: parts.Task) -> str:
    """How many test images a task has, of how many studies and groups."""
    if task.images is None:
        return "not measured"
    text = f"n = {plural(task.images, 'image')}"
    if task.studies:
        text += f", {plural(task.studies, 'study', 'studies')},"
    if task.groups not in (None, task.images):
        text += f" of {plural(task.groups, 'group')}"
    text = text.rstrip(",")
    if isinstance(task.positives, dict):
        text += "".join(f", {count} {name}" for name, count in task.positives.items())
    elif task.positives is not None:
        text += f", {task.positives} {table.PRIMARY[task.primary].positives}"
    return text


def measured_on(matrix: parts.Matrix, task: str, *, whole: bool = False) -> str:
    """How many validation images a forgetting matrix is of, and of how many.

    `whole` asks for those of what is forgotten and transferred.
    """
    used = matrix.measured_on.get(task)
    if used is None:
        return "–"
    count = used.records if used.whole is None or not whole else used.whole
    return f"{count:,} of {used.of:,}"


def cost(found: Iterable[budget.Compute]) -> str:
    """Updates and images of runs (`budget`), from the least to the most."""
    known = list(found)
    spans = [
        "–".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))
        for counts in ([x.updates for x in known], [x.images for x in known])
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
