"""Lists the runs of work folders: a line for each, ended or not.

    mtpret_jax runs ls runs/ --task=opacity --sort=value

FOLDER is a work folder, or one that holds some, at most three folders below. VALIDATION
is the value of the state that was kept; the test split has no part in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mtpret_jax.cli import command
from mtpret_jax.experiment import listing

_SORTS: dict[str, Callable[[listing.Row], Any]] = {
    "value": lambda row: (row.value is None, -(row.value or 0.0)),
    "changed": lambda row: -row.changed,
    "task": lambda row: (row.task, row.workdir, row.run),
}
_HEADS = ("FOLDER", "RUN", "STATE", "STAGE", "ARM", "TASK", "SEED", "STEPS")
_HEADS += ("VALIDATION", "MINUTES", "CHANGED")


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("folder", nargs="+", help="a work folder, or one above")
    parser.add_argument("--task", help="runs that train this task alone")
    parser.add_argument("--sort", choices=_SORTS, help="else: as the configs have them")
    parser.add_flag("--json", "a JSON list, for machines")


def run(options: argparse.Namespace) -> None:
    """Prints the list."""
    found = [
        row for place in listing.find(options.folder) for row in listing.rows(place)
    ]
    if options.task:
        found = [row for row in found if options.task in row.task.split(",")]
    if options.sort:
        found.sort(key=_SORTS[options.sort])
    if options.json:
        print_json([dataclasses.asdict(row) for row in found])
    else:
        print_table(_HEADS, [_cells(row) for row in found])


def print_json(value: Any) -> None:
    """Writes a value for machines."""
    sys.stdout.write(f"{json.dumps(value, indent=1)}\n")


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Writes columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        line = "  ".join(f"{cell:<{n}}" for cell, n in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")


def value(row: listing.Row) -> str:
    """The value on validation with its name."""
    return "-" if row.value is None else f"{row.metric} {row.value:.4g}".strip()


def _cells(row: listing.Row) -> list[str]:
    """A row's cells."""
    if row.state == listing.DAMAGED:
        rest = [f"damaged: {row.why}", *"-" * (len(_HEADS) - 3)]
        return [row.workdir, row.run or "-", *rest]
    time = datetime.datetime.fromtimestamp(row.changed)
    return [
        row.workdir,
        row.run,
        row.state,
        row.stage,
        row.arm or "-",
        row.task or "-",
        str(row.seed),
        f"{row.steps}/{row.of}",
        value(row),
        "-" if row.seconds is None else f"{row.seconds / 60:.1f}",
        f"{time:%Y-%m-%d %H:%M}" if row.changed else "-",
    ]
