"""Mesh, shardings and compiled functions: one program for 1 or 256 accelerators.

The state is replicated and the batch divided along its example axis over a
one-dimensional mesh. `jax.jit` with these shardings is what pjit became; gradients are
averaged by the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mtpret_jax import types

AXIS = "data"


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices of all processes (or of those given), one axis."""
    count = len(devices) if devices else jax.device_count()
    return jax.make_mesh(
        (count,), (AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of states: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh) -> NamedSharding:
    """The sharding of batches: the example axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def check_batch_size(batch_size: int, mesh: Mesh, path: str) -> None:
    """Raises ValueError unless the devices share the batch evenly."""
    if batch_size % mesh.size:
        raise ValueError(
            f"{path}: {batch_size} examples do not divide over {mesh.size} devices; "
            f"use a multiple, for example {-(-batch_size // mesh.size) * mesh.size}."
        )


def put(batch: types.Batch, mesh: Mesh) -> types.Batch:
    """Moves this process's rows to its devices as part of the global batch."""
    sharding = divided(mesh)
    # With several processes JAX takes this explicit transfer for an implicit one.
    with jax.transfer_guard_host_to_device("allow"):
        return jax.tree.map(
            lambda array: jax.make_array_from_process_local_data(sharding, array), batch
        )


def compiler_options(mesh: Mesh) -> dict[str, str] | None:
    """Leaves convolutions on CPUs to Eigen; YNNPACK keeps products and sums.

    XLA's own choice, YNNPACK for all, takes a tenth longer for a training step of
    ResNet-18 and a quarter longer for one of ResNet-50. JAX before 0.10 has Eigen's
    convolutions anyhow; versions that were not tried are left alone, since a name
    that XLA does not know is an error.
    """
    platforms = {device.platform for device in mesh.devices.flat}
    if platforms != {"cpu"} or not (0, 10) <= jax.__version_info__ < (0, 13):
        return None
    kinds = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    return {"xla_cpu_experimental_ynn_fusion_type": kinds}


def compile_init(
    init: Callable[[jax.Array], Any], mesh: Mesh
) -> Callable[[jax.Array], Any]:
    """Compiles a key-to-state function whose result is born replicated."""
    return jax.jit(init, out_shardings=replicated(mesh))


def compile_stage(stage: types.Stage, mesh: Mesh) -> tuple[Callable, Callable]:
    """Compiles `begin` and `step` with one sharding of the state, donated.

    `step` is compiled once for each task, since a batch's task is static; `begin`
    likewise.
    """
    same, split = replicated(mesh), divided(mesh)
    begin = jax.jit(
        lambda state, task: stage.begin(state, task),
        static_argnums=1,
        in_shardings=(same,),
        out_shardings=same,
    )
    step = jax.jit(
        lambda state, batch: stage.step(state, batch),
        donate_argnums=0,
        in_shardings=(same, split),
        out_shardings=(same, same),
        compiler_options=compiler_options(mesh),
    )
    return begin, step


def compile_predict(
    predict: Callable[[types.Tree, types.Tree, types.Batch], Any], mesh: Mesh
) -> Callable:
    """Compiles a prediction whose result every process holds whole."""
    same, split = replicated(mesh), divided(mesh)
    return jax.jit(
        predict,
        in_shardings=(same, same, split),
        out_shardings=same,
        compiler_options=compiler_options(mesh),
    )


def fetch(tree: types.Tree) -> types.Tree:
    """Copies replicated arrays to the host as NumPy."""
    return jax.tree.map(lambda array: np.asarray(array), jax.device_get(tree))
