"""What two runs do not share: options, versions, values side by side.

mtpret_jax runs diff runs/a/runs/scratch runs/b/runs/scratch
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mtpret_jax.cli import command, runs_ls, runs_show
from mtpret_jax.experiment import listing


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("one", help="a run's folder, WORKDIR/runs/NAME")
    parser.add_argument("two", help="another's")
    parser.add_flag("--json", "JSON, for machines")


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    told = [listing.tell(path) for path in (options.one, options.two)]
    one, two = told
    tables: Mapping[str, Mapping[str, list[Any]]] = {
        "options": listing.differences(one.options, two.options),
        "versions": listing.differences(one.versions, two.versions),
        "test": {
            name: [each.tests.get(name) for each in told]
            for name in dict.fromkeys([*one.tests, *two.tests])
        },
    }
    values = [runs_ls.value(each.row) for each in told]
    if options.json:
        runs_ls.print_json({**tables, "validation": values})
        return
    rows = [["validation", *values]]
    for part, table in tables.items():
        say = runs_show.words if part == "test" else _plain
        rows += [[f"{part} {name}", *map(say, pair)] for name, pair in table.items()]
    runs_ls.print_table(("", one.row.run, two.row.run), rows)


def _plain(value: Any) -> str:
    """An option's value; a default is a hyphen."""
    return "-" if value is None else str(value)
