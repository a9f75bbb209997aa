"""What `predict` and `embed` share: options, finding files, saying how far it is."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator

from mtpret_jax import command
from mtpret_jax.predict import inputs, streaming
from mtpret_jax.training import reporting


def add_options(parser: command.Parser, *, out: str) -> None:
    """Adds the options; `out` explains `--out`."""
    parser.add_argument("files", nargs="+", help="files, folders or patterns")
    parser.add_argument("--model", required=True, help="folder of a run, or exported")
    parser.add_argument("--task", default="", help="whose head, of a run with several")
    parser.add_argument("--out", required=True, help=out)
    parser.add_argument(
        "--batch_size", type=command.positive, default=16, help="pictures"
    )
    parser.add_argument("--quiet", action="store_true", help="say only what is wrong")


def find(options: argparse.Namespace) -> list[str]:
    """The files that were named.

    Raises:
      FileNotFoundError: If a name leads nowhere, or there is no picture.
    """
    found = inputs.find(options.files)
    if found.problems:
        told = "; ".join(f"{name!r}: {why}" for name, why in found.problems)
        raise FileNotFoundError(f"{told}. Nothing was read.")
    if not found.files:
        raise FileNotFoundError(
            f"No picture in {', '.join(options.files)}: {found.left_alone} files there "
            f"have none of the suffixes {', '.join(inputs.SUFFIXES)} and are no DICOM."
        )
    if found.left_alone:
        say(options, f"{found.left_alone} files that look like no picture left alone.")
    return list(found.files)


@contextlib.contextmanager
def progress(
    options: argparse.Namespace, total: int
) -> Iterator[Callable[[streaming.Item], None]]:
    """Tells of each file that is skipped and, unless quiet, how far it is."""
    line = reporting.Progress("reading", total, images_per_step=1, unit="file")
    done = 0

    def tell(item: streaming.Item) -> None:
        nonlocal done
        done += 1
        if item.problem:
            line.close()
            sys.stderr.write(f"Skipped {item.file!r}: {item.problem}\n")
        elif item.radiograph is not None and not options.quiet:
            for warning in item.radiograph.warnings:
                line.close()
                sys.stderr.write(f"Warning {item.file!r}: {warning}\n")
        if not options.quiet:
            line.update(done)

    try:
        yield tell
    finally:
        line.close()


def say(options: argparse.Namespace, text: str) -> None:
    """One line on the standard output, unless quiet."""
    if not options.quiet:
        sys.stdout.write(f"{text}\n")
