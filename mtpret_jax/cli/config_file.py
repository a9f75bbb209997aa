"""Reads a config file (`--config=file.py:argument`) and changes to it.

A change is an option as well: `--config.seed=1`, `--config.runs['my-run'].steps=3`.
"""

from __future__ import annotations

import argparse
import importlib.util
import traceback
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags


def split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of `--config`, None where it is not given, and what else there is."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    end = [*arguments, "--"].index("--")
    known, others = parser.parse_known_args(arguments[:end])
    return known.config, [*others, *arguments[end:]]


def read(
    named: str, arguments: Sequence[str]
) -> tuple[ml_collections.ConfigDict, list[str]]:
    """The config of a file, changed as the arguments say, and the other arguments.

    Args:
      named: The file; what follows a colon is given to its `get_config`.
      arguments: The command line's, without `--config` itself.

    Raises:
      ValueError: If file or change can't be read; the message is for the user.
    """
    config = _load(named)
    # The library makes a flag of every option that the arguments change.
    holder = flags.FlagValues()
    holder.set_gnu_getopt(True)
    try:
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=holder, sys_argv=list(arguments)
        )
        others = holder(["", *arguments], known_only=True)[1:]
    except (AttributeError, KeyError) as error:
        raise ValueError(_unknown(error, arguments)) from error
    except flags.Error as error:
        raise ValueError(str(error)) from error
    except ValueError as error:
        raise ValueError(
            f"a --config.… option can't be read ({error}). A name with a hyphen goes "
            "in brackets: \"--config.runs['scratch-opacity'].steps=3\"."
        ) from error
    return config, others


def _load(named: str) -> ml_collections.ConfigDict:
    """What `get_config` of the file gives."""
    path, colon, argument = named.partition(":")
    try:
        spec: Any = importlib.util.spec_from_file_location("config_file", path)
        if spec is None:
            raise ValueError(f"--config: {path} is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.get_config(*[argument] if colon else [])
    except (AttributeError, KeyError, SyntaxError) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == path
        ]
        line = f", line {lines[-1]}" if lines else ""
        raise ValueError(f"{path}{line}: {_told(error)}") from error
    except OSError as error:
        raise ValueError(f"--config: {error}.") from error


def _unknown(error: Exception, arguments: Sequence[str]) -> str:
    """One line for a change of an option that is not there."""
    name, _, advice = _told(error).partition(" ")
    for argument in arguments:
        if name.strip("'") in argument.partition("=")[0].split("."):
            return f"{argument}: no option {name}. {advice}".strip()
    return f"{name} {advice}".strip()


def _told(error: BaseException) -> str:
    """The words of an error, in one line; `ConfigDict` wraps one in another."""
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    return " ".join(str(error.args[0] if error.args else error).split())
