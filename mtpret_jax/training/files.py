"""Files that are whole or not there, and the wait of all processes for each other."""

from __future__ import annotations

import json
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils


def write_json(path: epath.Path, value: Any) -> None:
    """Writes beside `path`, then renames: a kill in between leaves the old file."""
    whole = path.with_name(path.name + ".new")
    whole.write_text(json.dumps(value, indent=1) + "\n")
    whole.replace(path)


def wait_for_all(name: str) -> None:
    """Returns when every process has come to this place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
