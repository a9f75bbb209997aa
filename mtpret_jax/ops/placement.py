"""Where the compiler is told on which devices an array lies."""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec


def replicate(array: jax.Array) -> jax.Array:
    """Has every device of the mesh that is in use hold a copy: [...] to the same."""
    if jax.sharding.get_abstract_mesh().empty:
        return array
    return jax.lax.with_sharding_constraint(array, PartitionSpec())
