"""Mesh, shardings and compiled functions: one program for 1 or 256 accelerators.

The state is replicated and the batch divided along its example axis over a
one-dimensional mesh. `jax.jit` with these shardings is what pjit became; gradients are
averaged by the compiler. Rows of the global batch are those of process 0, then of
process 1 and so on, whatever the wiring of the devices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mtpret_jax import types

AXIS = "data"


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices of all processes (or of those given), one axis.

    Those of a process follow each other, as its rows of a batch do. `jax.make_mesh`
    orders by wiring instead, and so differently on every shape of a pod.
    """
    found = sorted(
        devices or jax.devices(), key=lambda device: (device.process_index, device.id)
    )
    return Mesh(np.array(found), (AXIS,), axis_types=(AxisType.Auto,))


def fit_mesh(shares: Iterable[int], devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of as many devices as share each of these numbers of examples evenly.

    All devices of all processes (or all of those given) if they can, else as many of
    one process's as can: of this one's, or of the first's of those given. The number
    divides theirs, since a TPU has no exchange among three of four.
    """
    every = list(jax.devices() if devices is None else devices)
    owner = jax.process_index() if devices is None else every[0].process_index
    common = math.gcd(*shares)
    if common % len(every) == 0:
        return make_mesh(devices)
    local = [device for device in every if device.process_index == owner]
    return make_mesh(local[: math.gcd(common, len(local))])


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of states: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh) -> NamedSharding:
    """The sharding of batches: the example axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def check_batch_size(
    batch_size: int, mesh: Mesh, path: str, *, of: str = "examples"
) -> None:
    """Raises ValueError unless the devices share the batch evenly."""
    if batch_size % mesh.size:
        raise ValueError(
            f"{path}: {batch_size} {of} do not divide over {mesh.size} devices; "
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


def put_whole(batch: types.Batch, mesh: Mesh) -> types.Batch:
    """The same of a batch that every process holds all rows of."""
    sharding = divided(mesh)

    def move(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(
            array.shape, sharding, lambda index: array[index]
        )

    with jax.transfer_guard_host_to_device("allow"):
        return jax.tree.map(move, batch)


def compiler_options(mesh: Mesh) -> dict[str, str] | None:
    """Leaves convolutions on CPUs to Eigen; YNNPACK keeps products and sums.

    XLA's own choice, YNNPACK for all, takes a tenth longer for a training step of
    ResNet-18 and a quarter longer for one of ResNet-50. JAX before 0.10 has Eigen's
    convolutions anyhow; versions that were not tried are left alone, since a name
    that XLA does not know is an error.
    """
    if _platforms(mesh) != {"cpu"} or not (0, 10) <= jax.__version_info__ < (0, 13):
        return None
    kinds = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
    return {"xla_cpu_experimental_ynn_fusion_type": kinds}


def compile_init(
    init: Callable[[jax.Array], Any], mesh: Mesh
) -> Callable[[jax.Array], Any]:
    """Compiles a key-to-state function whose result is born replicated."""

    def draw_weights(key: jax.Array) -> Any:
        return init(key)

    options: dict[str, Any] | None = None
    is_optimised = not jax.config.read("jax_disable_most_optimizations")
    if _platforms(mesh) == {"cpu"} and is_optimised:
        # It runs once; LLVM would take ten times as long to compile it as it saves.
        options = {"xla_backend_optimization_level": 1}
    return jax.jit(
        draw_weights, out_shardings=replicated(mesh), compiler_options=options
    )


def _platforms(mesh: Mesh) -> set[str]:
    return {device.platform for device in mesh.devices.flat}


def _traced_on(mesh: Mesh, function: Callable) -> Callable:
    """The function, which finds the mesh by `jax.sharding.get_abstract_mesh`."""

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    return traced


def compile_stage(stage: types.Stage, mesh: Mesh) -> tuple[Callable, Callable]:
    """Compiles `begin` and `step` with one sharding of the state, donated.

    `step` is compiled once for each task, since a batch's task is static; `begin`
    likewise.
    """
    same, split = replicated(mesh), divided(mesh)

    # Functions with names, which profiles and logs of compiling show.
    def begin_task(state: types.TrainState, task: str) -> types.TrainState:
        return stage.begin(state, task)

    def train_step(state: types.TrainState, batch: types.Batch) -> Any:
        return stage.step(state, batch)

    begin = jax.jit(
        begin_task,
        static_argnums=1,
        in_shardings=(same,),
        out_shardings=same,
    )
    step = jax.jit(
        _traced_on(mesh, train_step),
        donate_argnums=0,
        in_shardings=(same, split),
        out_shardings=(same, same),
        compiler_options=compiler_options(mesh),
    )
    return begin, step


def compile_predict(
    predict: Callable[[types.Tree, types.Tree, types.Batch], Any], mesh: Mesh
) -> Callable:
    """Compiles a prediction of each example, which stays on the example's device."""
    return _compile_reading(predict, mesh, divided(mesh))


def compile_statistics(
    measure: Callable[[types.Tree, types.Tree, types.Batch], Any], mesh: Mesh
) -> Callable:
    """Compiles what a batch tells as a whole; every process holds the result."""
    return _compile_reading(measure, mesh, replicated(mesh))


def _compile_reading(
    read: Callable[[types.Tree, types.Tree, types.Batch], Any],
    mesh: Mesh,
    result: NamedSharding,
) -> Callable:
    same = replicated(mesh)
    return jax.jit(
        _traced_on(mesh, read),
        in_shardings=(same, same, divided(mesh)),
        out_shardings=result,
        compiler_options=compiler_options(mesh),
    )


def fetch_rows(tree: types.Tree) -> types.Tree:
    """Copies the rows of this process to the host, of arrays whose rows are divided."""

    def own(array: jax.Array) -> np.ndarray:
        parts = {shard.index[0].start or 0: shard for shard in array.addressable_shards}
        return np.concatenate(jax.device_get([parts[n].data for n in sorted(parts)]))

    return jax.tree.map(own, tree)


def join_processes(arrays: dict[str, np.ndarray], most: int) -> dict[str, np.ndarray]:
    """Joins the rows that the processes hold, in the order of `record`.

    What several have, since they do a run alike, is there once.

    Args:
      arrays: This process's, with equally many rows, by the same names on all; one
        is `record`, int32 [rows].
      most: Rows that no process has more of; the same on all.
    """
    if jax.process_count() == 1:
        return arrays

    def gather(array: np.ndarray) -> np.ndarray:
        with jax.transfer_guard("allow"):
            return np.asarray(multihost_utils.process_allgather(array))

    counts = gather(np.array(len(next(iter(arrays.values()))), np.int32))
    joined = {}
    for name, array in arrays.items():
        # As bytes: JAX would make 32 bits of 64.
        filled = np.zeros((most, *array.shape[1:]), array.dtype)
        filled[: len(array)] = array
        found = gather(np.frombuffer(filled.tobytes(), np.uint8))
        parts = [
            np.frombuffer(part.tobytes(), array.dtype).reshape(filled.shape)[:count]
            for part, count in zip(found, counts, strict=True)
        ]
        joined[name] = np.concatenate(parts)
    _, once = np.unique(joined["record"], return_index=True)
    return {name: value[once] for name, value in joined.items()}


def fetch(tree: types.Tree) -> types.Tree:
    """Copies replicated arrays to the host as NumPy."""
    return jax.tree.map(lambda array: np.asarray(array), jax.device_get(tree))
