"""The wait of all processes for each other, and what they agree on."""

from __future__ import annotations

import jax
import numpy as np
from jax.experimental import multihost_utils


def wait_for_all(name: str) -> None:
    """Returns when every process has come to this place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(value: int) -> int:
    """The number that the first process gives, told to every one."""
    if jax.process_count() == 1:
        return value
    with jax.transfer_guard("allow"):
        return int(multihost_utils.broadcast_one_to_all(np.asarray(value, np.int32)))
