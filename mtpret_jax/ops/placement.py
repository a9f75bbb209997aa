"""Where arrays lie, and work on each device's own part of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec

Result = TypeVar("Result")


def in_place(
    function: Callable[..., Result], shared: object, *batches: object
) -> Result:
    """Calls a function of some examples on each device with those that it holds.

    For work on one example after the other, which a compiler that divides programs
    does not always see through: it may gather every example on every device. Gradients
    of what is shared are added up over devices once. The mesh is the one that the
    program is traced for, as `training/sharding.py` sets it; where there is none, or
    one device alone, all examples are here.

    Args:
      function: Treats each example alone; trees of arrays [B, ...] in and out.
      shared: Its first argument, the same on all devices: a tree of arrays.
      batches: The others, divided over all devices along their first axis.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return function(shared, *batches)
    divided = PartitionSpec(mesh.axis_names)
    local = jax.shard_map(
        function,
        in_specs=(PartitionSpec(), *(divided for _ in batches)),
        out_specs=divided,
        check_vma=False,
    )
    return local(shared, *batches)


def replicate(array: jax.Array) -> jax.Array:
    """Has every device of the mesh that is in use hold a copy: [...] to the same."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return array
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.lax.with_sharding_constraint(array, everywhere)
