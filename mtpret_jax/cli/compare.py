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
import re
import sys
from collections.abc import Sequence

from mtpret_jax.api import compare as api
from mtpret_jax.cli import command, devices
from mtpret_jax.comparison import judge

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
    command.speak("mtpret_jax.api")
    devices.require()

    def say(line: str) -> None:
        if not options.quiet:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    api.compare(
        options.config,
        _pairs("--encoder", options.encoder),
        options.out,
        options.data_dir,
        tasks=[name for name in options.tasks.split(",") if name],
        training_lists=_pairs("--training_list", options.training_list),
        fractions=options.fractions,
        resamples=options.resamples,
        seed=options.seed,
        progress=say,
    )
    return command.DONE


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Values of the form NAME=PATH."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not path or not _NAME.fullmatch(name) or name in found:
            raise ValueError(
                f"{option}: expected NAME=PATH, each name once, of letters, digits and "
                f"_ . + -, got '{text}'."
            )
        found[name] = path
    return found


def _fractions(text: str) -> tuple[float, ...]:
    """Shares in (0, 1], rising."""
    try:
        return judge.shares(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
