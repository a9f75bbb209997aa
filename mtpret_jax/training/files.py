"""Files that are whole or not there, and the wait of all processes for each other."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils


def write_json(path: epath.Path, value: Any) -> None:
    """Writes beside `path`, then renames: a kill in between leaves the old file."""
    whole = path.with_name(path.name + ".new")
    whole.write_text(json.dumps(value, indent=1) + "\n")
    whole.replace(path)


def read_table(
    path: epath.Path, entries: Sequence[str] = (), *, advice: str
) -> dict[str, Any]:
    """A JSON file that holds a table.

    Args:
      path: Of the file.
      entries: That the table must have.
      advice: What to do if it has not, or is damaged: a sentence.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is damaged, holds something else, or lacks an entry.
    """
    where = os.fspath(path)
    if not path.exists():
        raise FileNotFoundError(f"{where} is missing. {advice}")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: damaged, no JSON ({error}). {advice}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a table, got {str(value)[:40]}. {advice}")
    if missing := [name for name in entries if name not in value]:
        raise ValueError(f"{where}: it lacks {', '.join(missing)}. {advice}")
    return value


def wait_for_all(name: str) -> None:
    """Returns when every process has come to this place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
