"""Runs a command, so that a mistake in flags, config file or input ends in one line.

With `--verbosity=1` the traceback shows where it arose.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import logging as python_logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

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
)


class Parser(argparse.ArgumentParser):
    """Of the verbs that take no config; an unknown option names the nearest."""

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

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Reads the options; ends the process where they are wrong.

        What follows `--` are names of files, which may begin with a hyphen.
        """
        options = [o for action in self._actions for o in action.option_strings]
        end = (*arguments, "--").index("--")
        before, names = arguments[:end], arguments[end + 1 :]
        for argument in before:  # Before argparse misses what was misspelt.
            given = argument.partition("=")[0]
            if given.startswith("--") and given not in options:
                sys.exit(wrong(f"{self.prog} has no option {given}.", given, options))
        names = [f"./{name}" if name.startswith("-") else name for name in names]
        return self.parse_intermixed_args([*before, *names])

    def error(self, message: str) -> NoReturn:
        """One line; the usage is for `--help`."""
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


def call(body: Callable[[], int], *, verbosity: int) -> int:
    """Runs a verb's body; a mistake in the input ends in one line."""
    if not verbosity:
        _hush()
    try:
        return body()
    except (*_MISTAKES, RuntimeError) as error:  # JAX raises these, of full memory.
        if verbosity:
            raise
        sys.stderr.write(f"{_said(error)}\n")
        return MISTAKE
    except BaseException as stop:
        leave(stop)


def run(
    main: Callable[[list[str]], Any],
    *,
    usage: str,
    required: Sequence[str],
    about: str | None,
    arguments: Sequence[str],
) -> NoReturn:
    """Reads the flags, perhaps `--config` among them, runs `main`, ends the process.

    Args:
      main: Gets what is no flag, after the name of the program.
      usage: An example of the command, for who forgets a required flag.
      required: Names of flags that must be given.
      about: Docstring of the caller's module, for `--help`.
      arguments: Of the command line.
    """
    here = sys._getframe(1).f_globals["__name__"]
    if {"-h", "--help"} & set(arguments):
        options = flags.FLAGS.module_help(here)
        sys.stdout.write(f"{about}\nusage: {usage}\n\nOptions:\n{options}\n")
        sys.exit(DONE)

    def parse(given: list[str]) -> list[str]:
        rest = _parse_flags(given, usage, required)
        if not logging.level_debug():
            _hush()
        return rest

    def guarded(rest: list[str]) -> Any:
        try:
            return main(rest)
        except app.UsageError as error:  # absl would print all of the help.
            sys.stderr.write(f"Error: {error} (--help shows all options.)\n")
            sys.exit(USAGE)

    try:
        app.run(guarded, [sys.argv[0], *arguments], flags_parser=parse)
        sys.exit(DONE)
    except _MISTAKES as error:
        if logging.level_debug():
            raise
        sys.stderr.write(f"{_said(error)}\n")
        sys.exit(MISTAKE)
    except BaseException as stop:
        leave(stop)


def speak() -> None:
    """Lets the package say what it does: plain lines on the standard error stream."""
    handler = python_logging.StreamHandler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    for package in ("mtpret_jax", "tfds_builders"):
        logger = python_logging.getLogger(package)
        logger.addHandler(handler)
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
    lines = [str(error), *getattr(error, "__notes__", [])]
    if getattr(error, "errno", None) in _FULL and getattr(error, "strerror", None):
        where = getattr(error, "filename", None) or "A file"
        lines[0] = f"{where} can't be written: no room is left. Free space there."
    return f"Error: {' '.join(lines)} (--verbosity=1 shows where.)"


def _parse_flags(
    arguments: list[str], usage: str, required: Sequence[str]
) -> list[str]:
    """Reads flags and config file; gives back what is no flag."""
    try:
        rest = flags.FLAGS(arguments)
        missing = [name for name in required if flags.FLAGS[name].value is None]
        if missing:
            raise flags.Error(
                f"No --{' and no --'.join(missing)}. Usage: {usage} "
                "(--help shows all flags)."
            )
        if "config" in flags.FLAGS:  # Raises what reading the file did.
            getattr(flags.FLAGS["config"].value, "datasets", None)
        return rest
    except (flags.Error, AttributeError, KeyError, OSError, ValueError) as error:
        if "--verbosity=1" in arguments:
            raise
        sys.stderr.write(f"Error: {_explain(error, arguments)}\n")
        sys.exit(USAGE)


def _explain(error: BaseException, arguments: list[str]) -> str:
    """One line for what a typo in a flag or a mistake in a config file raises."""
    if isinstance(error, flags.Error):
        # A config file's own message lies below one that quotes its traceback.
        while "Traceback" in str(error) and error.__context__:
            error = error.__context__
        return str(error)
    if isinstance(error, OSError):
        return f"--config: {str(error).splitlines()[-1].strip()}."
    if isinstance(error, ValueError):
        return (
            f"a --config.… flag can't be read ({error}). A name with a hyphen goes in "
            "brackets: \"--config.runs['scratch-opacity'].steps=3\"."
        )
    frames = traceback.extract_tb(error.__traceback__)
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    name, _, advice = str(error.args[0] if error.args else error).partition("\n")
    advice = " ".join(advice.split())
    files = {frame.filename for frame in frames if frame.name == "get_config"}
    for frame in reversed(frames):
        if frame.filename in files:
            return f"{frame.filename}, line {frame.lineno}: {name} {advice}"
    for flag in arguments:
        if name.strip("'") in flag.partition("=")[0].split("."):
            return f"{flag}: no option {name}. {advice}".strip()
    return f"{name} {advice}".strip()
