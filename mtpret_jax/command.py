"""Runs a command, so that a mistake in flags, config file or input ends in one line.

With `--verbosity=1` the traceback shows where it arose.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging


def run(
    main: Callable[[list[str]], Any], *, usage: str, required: Sequence[str]
) -> None:
    """Reads the flags, perhaps `--config` among them, and runs `main`.

    Args:
      main: Gets what is no flag, after the name of the program.
      usage: An example of the command, for who forgets a required flag.
      required: Names of flags that must be given.
    """

    def parse(arguments: list[str]) -> list[str]:
        return _parse_flags(arguments, usage, required)

    try:
        app.run(main, flags_parser=parse)
    except (ValueError, OSError, TypeError, FloatingPointError) as error:
        if logging.level_debug():
            raise
        lines = [str(error), *getattr(error, "__notes__", [])]
        sys.exit(f"Error: {' '.join(lines)} (--verbosity=1 shows where.)")


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
        sys.exit(f"Error: {_explain(error, arguments)}")


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
