"""The wait of all processes for each other."""

from __future__ import annotations

import jax
from jax.experimental import multihost_utils


def wait_for_all(name: str) -> None:
    """Returns when every process has come to this place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
