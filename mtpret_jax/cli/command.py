"""Reads a verb's options and runs it; a mistake in the input ends in one line.

With `--verbosity=1` the traceback shows where a mistake arose.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import logging as python_logging
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import NoReturn

from absl import logging

from mtpret_jax.api import places
from mtpret_jax.cli import config_file

# Exit codes.
DONE, MISTAKE, USAGE, SKIPPED = 0, 1, 2, 3
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MISTAKES = (
    ValueError,
    OSError,
    TypeError,
    FloatingPointError,
    ImportError,
    MemoryError,
    RuntimeError,  # JAX raises these, of full memory.
)


class UsageError(Exception):
    """Options that do not go together."""


class Parser(argparse.ArgumentParser):
    """The options of a verb; an unknown one names the nearest."""

    def __init__(self, program: str, about: str | None) -> None:
        """`about` is the module's docstring."""
        super().__init__(
            prog=program,
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--verbosity",
            type=int,
            default=0,
            metavar="N",
            help="1: show where a mistake arose",
        )

    def add_flag(self, name: str, about: str) -> None:
        """Adds an option without a value: True where it is given."""
        self.add_argument(name, action="store_true", help=about)

    def add_data_dir(self, about: str) -> None:
        """Adds the folder of prepared sets."""
        self.add_argument("--data_dir", default=places.DATA_DIR, help=about)

    def add_config(self, *, required: bool = True) -> None:
        """Adds `--config`, whose value is a `ConfigDict` in the end."""
        self.add_argument(
            "--config",
            required=required,
            metavar="FILE.py[:ARGUMENT]",
            help="the config file; --config.seed=1 changes an option of it",
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Reads the options; ends the process where they are wrong.

        What follows `--` are names of files, which may begin with a hyphen.
        """
        options = [o for action in self._actions for o in action.option_strings]
        wants_config = "--config" in options and not {"-h", "--help"} & {*arguments}
        named, config = None, None
        if wants_config:
            named, arguments = config_file.split(arguments)
        if named is not None:
            try:
                config, arguments = config_file.read(named, arguments)
            except ValueError as error:
                if "--verbosity=1" in arguments:
                    raise
                sys.stderr.write(f"Error: {error}\n")
                sys.exit(USAGE)
        end = (*arguments, "--").index("--")
        before, names = list(arguments[:end]), arguments[end + 1 :]
        for argument in before:  # Before argparse misses what was misspelt.
            given = argument.partition("=")[0]
            if given.startswith("--") and given not in options:
                sys.exit(wrong(f"{self.prog} has no option {given}.", given, options))
        names = [f"./{name}" if name.startswith("-") else name for name in names]
        before += [] if named is None else ["--config", named]
        found = self.parse_intermixed_args([*before, *names])
        if wants_config:
            found.config = config
        return found

    def error(self, message: str) -> NoReturn:
        """Ends the process in one line; the usage is for `--help`."""
        sys.stderr.write(f"Error: {message} ({self.prog} --help shows all options.)\n")
        sys.exit(USAGE)


def positive(text: str) -> int:
    """An option's value that must be 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def wrong(message: str, given: str, known: Iterable[str]) -> int:
    """Says what was wrong and which known name is nearest; gives the exit code."""
    names = list(known)
    found = difflib.get_close_matches(given, names, n=1)
    near = f" Did you mean {found[0]}?" if found else f" Known: {', '.join(names)}."
    sys.stderr.write(f"Error: {message}{near}\n")
    return USAGE


def run(verb: ModuleType, program: str, arguments: Sequence[str]) -> int:
    """Runs a verb and gives its exit code.

    Args:
      verb: Has `add_options`, which a parser is given, and `run`, which gets the
        options and gives an exit code, or None for 0.
      program: What the user typed before the arguments.
      arguments: What follows on the command line.
    """
    parser = Parser(program, verb.__doc__)
    verb.add_options(parser)
    options = parser.parse(arguments)
    try:
        return call(lambda: verb.run(options), verbosity=options.verbosity)
    except UsageError as error:
        parser.error(str(error))


def call(body: Callable[[], int | None], *, verbosity: int) -> int:
    """Runs a verb's body; a mistake in the input ends in one line.

    Returns:
      The exit code that the body gave, 0 for None, or that of a mistake.
    """
    if not verbosity:
        _hush()
    try:
        return body() or DONE
    except _MISTAKES as error:
        if verbosity:
            raise
        sys.stderr.write(f"{_said(error)}\n")
        return MISTAKE
    except BaseException as stop:
        leave(stop)


def speak(*packages: str) -> None:
    """Lets packages say what they do: plain lines on the standard error stream."""
    handler = python_logging.StreamHandler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    for package in packages or ("mtpret_jax", "tfds_builders"):
        logger = python_logging.getLogger(package)
        logger.handlers = [handler]  # Not twice, where verbs share a process.
        logger.setLevel(python_logging.INFO)
        logger.propagate = False


def leave(stop: BaseException) -> NoReturn:
    """Ends the process as `training.preemption.Preempted` does; else raises it."""
    leave = getattr(stop, "leave", None)
    if leave is None:
        raise stop
    sys.exit(leave())


def _hush() -> None:
    """Keeps back what libraries log, and tracebacks of their threads on a full disk.

    What is wrong they raise, too, where it is told in one line.
    """
    logging.set_verbosity(logging.FATAL)
    before = threading.excepthook

    def hook(told: threading.ExceptHookArgs) -> None:
        if getattr(told.exc_value, "errno", None) not in _FULL:
            before(told)

    threading.excepthook = hook


def _said(error: Exception) -> str:
    notes = getattr(error, "__notes__", [])
    # JAX notes that it has shortened a traceback, which nobody is shown.
    lines = [str(error), *(note for note in notes if "JAX_TRACEBACK" not in note)]
    if getattr(error, "errno", None) in _FULL and getattr(error, "strerror", None):
        where = getattr(error, "filename", None) or "A file"
        lines[0] = f"{where} can't be written: no room is left. Free space there."
    return f"Error: {' '.join(lines)} (--verbosity=1 shows where.)"
