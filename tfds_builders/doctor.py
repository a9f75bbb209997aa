"""Looks at a download folder and says what is there, what is not, and what to do.

    python -m tfds_builders.doctor FOLDER [set ...] [--json] [--images all|some|none]

Exit code: 0 if every named set, or every set whose folder is there, would be prepared;
1 if not, or if nothing is there; 2 if the command line is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import textwrap
from collections.abc import Sequence

from etils import epath

from tfds_builders.releases import catalogue, diagnosis
from tfds_builders.sources import files, folders

_IMAGES = {"all": None, "some": diagnosis.SAMPLE, "none": 0}
_MOST_LINES = 10  # of unreadable files, say; JSON has them all


def main(arguments: Sequence[str] | None = None) -> int:
    """Looks at the folder of the command line and returns the exit code."""
    parser = _parser()
    flags = parser.parse_intermixed_args(arguments)
    known = catalogue.released()
    try:
        chosen = catalogue.choose(flags.sets, known)
    except ValueError as error:
        parser.error(str(error))
    folder = flags.folder.expanduser()
    if not folder.is_dir():
        parser.error(f"There is no folder {str(folder)!r}.")
    try:
        archives = folders.packed(folder)
        taken = diagnosis.roots(known.values(), folder)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    options = {"images": _IMAGES[flags.images], "seed": flags.seed}
    found = [
        diagnosis.examine(one, folder, archives=archives, taken=taken, **options)
        for one in chosen.values()
    ]
    # A part that nobody asked for may as well belong to something else.
    asked = [d for d in found if d.root or flags.sets]
    would_prepare = bool(asked) and all(d.would_prepare for d in asked)
    if flags.json:
        report = {
            "folder": str(folder),
            "would_prepare": would_prepare,
            "archives": archives,
            "sets": [dataclasses.asdict(d) for d in found],
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write(_text(folder, found, archives, would_prepare))
    return 0 if would_prepare else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.doctor",
        description="Says which released sets lie in a folder, and what they lack.",
        epilog="Exit code 0: every named set, or every set there is, would be "
        "prepared; 1: not so; 2: wrong use.",
    )
    parser.add_argument("folder", type=epath.Path, help="where downloads lie")
    parser.add_argument("sets", nargs="*", metavar="set", help="all by default")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument(
        "--images",
        choices=_IMAGES,
        default="some",
        help=f"which images to read: some is {diagnosis.SAMPLE} of each set",
    )
    parser.add_argument("--seed", type=int, default=0, help="draws which are read")
    return parser


def _text(
    folder: epath.Path,
    found: Sequence[diagnosis.Diagnosis],
    archives: Sequence[str],
    would_prepare: bool,
) -> str:
    """The report for people: what is there first, what is missing last."""
    order = (diagnosis.FOUND, diagnosis.PARTLY, diagnosis.MISSING)
    lines = [f"{folder}", ""]
    for entry in sorted(found, key=lambda d: order.index(d.status)):
        lines += [*_lines(entry), ""]
    others = [a for a in archives if not any(a in d.archives for d in found)]
    if others:
        lines += [f"Archives that are not unpacked: {files.brief(others)}", ""]
    there = sum(d.status == diagnosis.FOUND for d in found)
    partly = sum(d.status == diagnosis.PARTLY for d in found)
    verdict = "would" if would_prepare else "would not"
    lines.append(
        f"{there} found, {partly} partly there, {len(found) - there - partly} missing. "
        f"Preparation {verdict} succeed."
    )
    return "\n".join(lines) + "\n"


def _lines(entry: diagnosis.Diagnosis) -> list[str]:
    """What is known about one set, a fact a line, long ones wrapped."""
    facts = [f"problem: {entry.problem}"] if entry.problem else []
    for key, count in entry.counts.items():
        of = "" if count.expected is None else f" of {count.expected:,} published"
        facts.append(f"{key}: {count.found:,}{of}")
    for group in entry.left_out:
        names = files.brief(group.examples, 3)
        facts.append(f"left out: {group.count:,} ({names}): {group.reason}")
    unreadable = [f"unreadable: {one.file}: {one.reason}" for one in entry.unreadable]
    if entry.read:
        facts.append(f"tried to read: {entry.read:,}, {len(unreadable):,} unreadable")
    if entry.blank:
        names = files.brief(entry.blank, 3)
        told = "no content, one grey level or almost"
        facts.append(f"{told}: {len(entry.blank):,} ({names})")
    facts += unreadable[:_MOST_LINES]
    if more := unreadable[_MOST_LINES:]:
        facts.append(f"and {len(more)} more, see --json")
    lines = [f"{entry.name}: {entry.status}" + (f" in {entry.root}" * bool(entry.root))]
    for fact in [*facts, f"next: {entry.next_step}"]:
        lines += textwrap.wrap(
            fact,
            88,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # the report says the same, and more
    sys.exit(main())
