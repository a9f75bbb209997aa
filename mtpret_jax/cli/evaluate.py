r"""Measures a trained model on a split of a prepared set, its own or another.

    mtpret_jax evaluate --model=runs/demo/runs/mtpret_opacity \
        --set=runs/data/phantom_xray/chest/1.0.0 --out=measured.json

Intervals are of 95 % and draw whole patients, as in the report of a training. The set
must name the same classes in the same order. `mtpret_jax data prepare` makes one.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from mtpret_jax.cli import command, devices
from mtpret_jax.inference import evaluation, loader
from mtpret_jax.training import reporting
from tfds_builders import whole


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("--model", required=True, help="folder of a run, or exported")
    parser.add_argument("--task", default="", help="whose head, of a run with several")
    parser.add_argument("--set", required=True, help="version folder of a prepared set")
    parser.add_argument("--split", default="test", help="of the set; default: test")
    parser.add_argument("--splits", default="", help="official, muscle or grouped")
    parser.add_argument("--batch_size", type=command.positive, default=0)
    parser.add_argument("--resamples", type=command.positive, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--out", help="JSON file to write; not written over")
    parser.add_argument("--quiet", action="store_true", help="say only what is wrong")


def run(options: argparse.Namespace) -> int:
    """Exit code: 0."""
    devices.require()
    out = pathlib.Path(options.out).expanduser() if options.out else None
    if out is not None:
        _check_out(out)
    model = loader.load(options.model, options.task)
    line: reporting.Progress | None = None

    def progress(done: int, total: int) -> None:
        nonlocal line
        line = line or reporting.Progress(
            "evaluating", total, images_per_step=1, unit="image"
        )
        line.update(done)

    try:
        found = evaluation.evaluate(
            model,
            pathlib.Path(options.set).expanduser(),
            options.split,
            splits=options.splits,
            batch_size=options.batch_size,
            resamples=options.resamples,
            seed=options.seed,
            progress=(lambda done, total: None) if options.quiet else progress,
        )
    finally:
        if line is not None:
            line.close()
    for warning in found["warnings"]:
        sys.stderr.write(f"Warning: {warning}\n")
    for name, value in found["values"].items() if not options.quiet else ():
        number, low, high = (
            "undefined" if value[key] is None else f"{value[key]:.3f}"
            for key in ("value", "low", "high")
        )
        sys.stdout.write(f"{name:<28}{number:>9}   {low} to {high}\n")
    if "confusion" in found and not options.quiet:
        sys.stdout.write(_confusion(model.classes, found["confusion"]))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        whole.write_json(out, found)
    return command.DONE


def _confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A table: a row for each true class, a column for each predicted one."""
    rows = [("true \\ predicted", *classes)]
    rows += [(name, *map(str, row)) for name, row in zip(classes, counts, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    ]
    return "\n".join(["", *lines, ""])


def _check_out(out: pathlib.Path) -> None:
    """Refuses, before anything is computed, a file that can't be written."""
    if out.exists():
        raise FileExistsError(f"--out: {out} is there, and is not written over.")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise NotADirectoryError(
            f"--out: {above} is no folder that can be written to. Give another place."
        )
