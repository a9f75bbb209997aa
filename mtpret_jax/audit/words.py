"""What an audit found, as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RISK = (
    "What it cannot find: copies that are both turned and cropped, turned by less than "
    "a quarter, or cut to less than 80 % of the sides, or much more along one than "
    "along the other; copies below about 32 pixels, "
    "cropped ones below 64; another exposure of the same visit; and patients whose ids "
    "differ between the sets."
)


def lines(report: Mapping[str, Any]) -> list[str]:
    """The whole of `audit.json` for people to read."""
    found = ["Sets:"]
    for name, one in report["sets"].items():
        counts = ", ".join(f"{split} {n}" for split, n in one["images"].items())
        found.append(f"  {name} ({one['builder']}, splits {one['splits']}): {counts}")
    found.append("Overlaps:" if report["overlaps"] else "No overlaps.")
    found += [f"  {overlap(row)}" for row in report["overlaps"]]
    for row in report["nestings"]:
        found.append(f"Documented: {nesting(row)}")
    found += excluded(report)
    return [*found, RISK]


def overlap(row: Mapping[str, Any]) -> str:
    """One relation of two splits of sets."""
    one = f"{row['dataset']} {row['split']}"
    other = f"{row['other_dataset']} {row['other_split']}"
    counts = f"{_count(row['pairs'], 'pair')} ({row['images']} of {one}"
    if one != other:
        counts += f", {row['other_images']} of {other}"
    return f"{row['kind']}: {counts})"


def nesting(row: Mapping[str, Any]) -> str:
    """One documented nesting, and what was found of it."""
    text = f"{row['outer']} contains images of {row['inner']} ({row['extent']}); "
    if row["copies_found"]:
        return text + f"{_count(row['copies_found'], 'pair')} of copies found."
    return text + "none was found: are these parts of the releases there?"


def excluded(report: Mapping[str, Any]) -> list[str]:
    """What stage 1 must not read, and why."""
    rows = report["excluded"]
    if not rows:
        return ["No training image is met again in validation or test: none excluded."]
    total = sum(row["images"] for row in rows)
    found = [f"Excluded from the pool of stage 1: {_count(total, 'training image')}."]
    for row in rows:
        found.append(
            f"  {row['dataset']}: {row['images']}, {row['reason']} as in "
            f"{row['other_dataset']} {place(row['other_split'])}"
        )
    return found


def place(split: str) -> str:
    """The split in which an excluded image is met again, or which excluded one it is.

    Of two training images neither leaks, unless one is itself met again elsewhere.
    """
    return "train, itself excluded" if split == "train" else split


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
