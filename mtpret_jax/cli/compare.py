r"""Judges encoders by their frozen features on the class tasks of a config.

    mtpret_jax compare --config=configs/demo.py --data_dir=data --out=compared \
        --encoder imagenet=features.parquet --encoder ours=runs/demo/runs/contrastive \
        --training_list imagenet=images.txt

An encoder is a run, its backbone folder, an exported folder, or a table of features
made elsewhere. The first is what the others are compared with. Writes compare.json and
compare.html; given again, it reads the features that it kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import re
import sys
from collections.abc import Sequence

from mtpret_jax import config as schema
from mtpret_jax.cli import command, devices
from mtpret_jax.compare import (
    features,
    findings,
    gather,
    judge,
    lists,
    page,
    sentences,
    sets,
    tables,
)

_NAME = re.compile(r"[\w.+-]+")


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_config()
    parser.add_data_dir("folder of the prepared sets")
    parser.add_argument("--tasks", default="", help="of the config; default: all")
    parser.add_argument(
        "--encoder",
        action="append",
        required=True,
        metavar="NAME=PATH",
        help="a model's folder or a table of features; give it several times",
    )
    parser.add_argument(
        "--training_list",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="the images that an encoder learnt from, a name a line",
    )
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument(
        "--fractions", type=_fractions, default="0.1,0.3,1", help="of the labels"
    )
    parser.add_argument("--resamples", type=command.positive, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--quiet", action="store_true", help="say only what is wrong")


def run(options: argparse.Namespace) -> int:
    """Exit code: 0."""
    devices.require()
    config = schema.parse(options.config)
    chosen = sets.choose(config, filter(None, options.tasks.split(",")))
    paths = _pairs("--encoder", options.encoder)
    given = _pairs("--training_list", options.training_list)
    for name in given:
        if name not in paths:
            raise ValueError(
                f"--training_list: '{name}' is no --encoder; these are {list(paths)}."
            )
    out = pathlib.Path(options.out).expanduser()
    data_dir = pathlib.Path(options.data_dir).expanduser()
    tasks = [sets.read(config, name, data_dir) for name in chosen]
    encoders = {
        name: _open(name, path, given.get(name), out, data_dir)
        for name, path in paths.items()
    }

    def say(line: str) -> None:
        if not options.quiet:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    found = gather.build(
        tasks,
        encoders,
        judge.Settings(options.fractions, options.seed, options.resamples),
        datasets=list(config.datasets),
        left_out={
            name: row.kind
            for name, row in config.tasks.items()
            if not row.can_be_probed
        },
        progress=say,
    )
    page.write(out, found)
    for name in encoders:
        _warn(name, found)
    for line in found.said:
        say(line)
    say(f"Written to {out / page.HTML}.")
    return command.DONE


def _warn(name: str, found: findings.Findings) -> None:
    """One line where an encoder is known to have seen a test split."""
    told = [
        f"{sentences.seen(leaks[name])} of task '{task}'"
        for task, leaks in found.leaks.items()
        if name in leaks and leaks[name].found
    ]
    if told:
        sys.stderr.write(
            f"Warning: encoder '{name}' learnt from {'; '.join(told)}. Its values "
            "there say nothing of new patients, and nothing is said of them.\n"
        )


def _open(
    name: str,
    path: pathlib.Path,
    given: pathlib.Path | None,
    out: pathlib.Path,
    data_dir: pathlib.Path,
) -> gather.Known:
    """An encoder, and what is known of the images that it learnt from."""
    listed, why = [], "it comes without a list of its training images"
    if given is not None:
        listed, why = [lists.parse(_text(given), f"--training_list: {given}")], ""
    if path.suffix in tables.FORMS:
        return gather.Known(features.FromTable(name, path), listed, why)
    if not path.is_dir():
        raise ValueError(
            f"--encoder: '{name}' must be a folder of a model, or a table of features "
            f"({', '.join(tables.FORMS)}), got {path}. Of a file of weights, `weights "
            "identify` tells the config to start a run from it."
        )
    encoder = features.FromNetwork(path, out / "features" / name)
    lineage = lists.of_run(path.absolute(), data_dir)
    exported = path / lists.TRAINING
    if lineage is not None:
        encoder.about = dataclasses.replace(
            encoder.about,
            images=len(lineage.listed.names)
            if lineage.listed and not lineage.why
            else None,
            updates=lineage.updates,
            seen=lineage.seen,
        )
        listed += [lineage.listed] if lineage.listed else []
        why = lineage.why if lineage.listed is None or given is None else why
    elif exported.exists():
        listed.append(lists.parse(_text(exported), str(exported)))
        why = ""
    return gather.Known(encoder, listed, why)


def _text(path: pathlib.Path) -> str:
    """A list's text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 ({error}).") from error


def _pairs(option: str, given: Sequence[str]) -> dict[str, pathlib.Path]:
    """Values of the form NAME=PATH."""
    found: dict[str, pathlib.Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not path or not _NAME.fullmatch(name) or name in found:
            raise ValueError(
                f"{option}: expected NAME=PATH, each name once, of letters, digits and "
                f"_ . + -, got '{text}'."
            )
        found[name] = pathlib.Path(path).expanduser()
    return found


def _fractions(text: str) -> tuple[float, ...]:
    """Shares in (0, 1], rising."""
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        found = (math.nan,)
    if not all(0 < share <= 1 for share in found):
        raise argparse.ArgumentTypeError(
            f"expected shares above 0 and at most 1, such as 0.1,0.3,1, got {text!r}"
        )
    return found
