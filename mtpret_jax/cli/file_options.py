"""What `predict` and `embed` share: options, finding files, saying how far it is."""

from __future__ import annotations

import argparse
import sys

from mtpret_jax.cli import command
from mtpret_jax.inference import inputs, preprocessing, stream
from mtpret_jax.training import preemption, reporting


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
    """The files that were named; a batch is never larger than their number.

    Raises:
      FileNotFoundError: If a name leads nowhere, or there is no picture.
    """
    found = inputs.find(options.files, options.out)
    if found.problems:
        told = "; ".join(f"{name!r}: {why}" for name, why in found.problems)
        raise FileNotFoundError(f"{told}. Nothing was read.")
    if not found.files and found.results:
        raise FileNotFoundError(
            f"All pictures in {', '.join(options.files)} lie in --out={options.out}, "
            "where results are written: give another folder."
        )
    if not found.files:
        raise FileNotFoundError(
            f"No picture in {', '.join(options.files)}: {found.left_alone} files there "
            f"have none of the suffixes {', '.join(inputs.SUFFIXES)} and are no DICOM."
        )
    if found.left_alone:
        say(
            options,
            "Left alone, since no pictures by name, or links to folders: "
            f"{found.left_alone}.",
        )
    options.batch_size = min(options.batch_size, len(found.files))
    return list(found.files)


class Teller:
    """Tells of each file that is skipped and, unless quiet, how far it is."""

    def __init__(self, options: argparse.Namespace, total: int) -> None:
        """`total` is of all files that were named."""
        self._quiet = options.quiet
        self._line = reporting.Progress(
            "reading", total, images_per_step=1, unit="file"
        )
        self._done = 0

    def begin(self, before: int) -> None:
        """Starts at what an earlier call has done."""
        self._done = before
        if not self._quiet:
            self._line.update(before)

    def __call__(self, item: stream.Item) -> None:
        """After each file."""
        preemption.check()  # A library may have swallowed what the signal raised.
        self._done += 1
        if item.problem:
            self._line.close()
            sys.stderr.write(f"Skipped {item.file!r}: {item.problem}\n")
        elif item.radiograph is not None and not self._quiet:
            for warning in item.radiograph.warnings:
                self._line.close()
                sys.stderr.write(f"Warning {item.file!r}: {warning}\n")
        if item.bare:
            self._line.close()
            sys.stderr.write(f"No DICOM object of {item.file!r}: {item.bare}\n")
        if not self._quiet:
            self._line.update(self._done)

    def close(self) -> None:
        """Ends the line."""
        self._line.close()


def tell_blank(options: argparse.Namespace, blank: int, done: int) -> None:
    """One line where pictures have no content."""
    if blank:
        say(options, f"{blank} of {done} have {preprocessing.BLANK}. Look at them.")


def say(options: argparse.Namespace, text: str) -> None:
    """One line on the standard output, unless quiet."""
    if not options.quiet:
        sys.stdout.write(f"{text}\n")
