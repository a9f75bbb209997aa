"""The best ended run of each task of work folders, by validation.

    mtpret_jax runs best runs/

Runs are rivals where metric and validation images are the same; the test split has no
part in the choice, so that its value of the best one stays fair.
"""

from __future__ import annotations

import argparse
import dataclasses

from mtpret_jax.cli import command, runs_ls
from mtpret_jax.experiment import listing

_HEADS = ("TASK", "VALIDATION", "OF", "FOLDER", "RUN", "ARM")


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("folder", nargs="+", help="a work folder, or one above")
    parser.add_flag("--json", "a JSON list, for machines")


def run(options: argparse.Namespace) -> None:
    """Prints a line for each task.

    Raises:
      ValueError: If no run has a value by which it could be chosen.
    """
    places = listing.find(options.folder)
    groups = listing.best(row for place in places for row in listing.rows(place))
    if not groups:
        raise ValueError(
            "no ended run has a value on validation: none is done yet, or their sets "
            "have no validation split, or an earlier version trained them."
        )
    if options.json:
        runs_ls.print_json(
            [
                {**dataclasses.asdict(rivals[0]), "rivals": len(rivals)}
                for rivals in groups.values()
            ]
        )
        return
    firsts = [(rivals[0], len(rivals)) for rivals in groups.values()]
    runs_ls.print_table(
        _HEADS,
        [
            [
                row.task,
                runs_ls.value(row),
                str(of),
                row.workdir,
                row.run,
                row.arm or "-",
            ]
            for row, of in firsts
        ],
    )
