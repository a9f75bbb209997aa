"""A run in full: what it reached, the options that decide it, versions, files.

    mtpret_jax runs show runs/demo/runs/mtpret_opacity

Options at their default are left out. Test values are those of the report, with their
intervals: of the run's arm, so with several seeds their mean.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

from mtpret_jax.cli import command, runs_ls
from mtpret_jax.experiment import listing


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("run", help="its folder, WORKDIR/runs/NAME")
    parser.add_flag("--json", "JSON, for machines")


def run(options: argparse.Namespace) -> None:
    """Prints it."""
    told = listing.tell(options.run)
    if options.json:
        runs_ls.print_json(dataclasses.asdict(told))
        return
    row = told.row
    lines = {
        "run": row.run,
        "state": row.why or f"{row.state}, step {row.steps} of {row.of}",
        "validation": runs_ls.value(row),
        **{f"test {name}": words(one) for name, one in told.tests.items()},
        **{name: repr(value) for name, value in told.options.items()},
        **{f"version {name}": str(value) for name, value in told.versions.items()},
        **{f"file {name}": path for name, path in told.files.items()},
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        sys.stdout.write(f"{name:<{width}}  {value}\n")


def words(value: tuple[float | None, float | None, float | None] | None) -> str:
    """A value and its interval; a hyphen where there is none."""
    if value is None or value[0] is None:
        return "-"
    middle, low, high = value
    if low is None or high is None:
        return f"{middle:.4g}"
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"
