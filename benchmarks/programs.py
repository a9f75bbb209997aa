"""The compiled step of each stage, from shapes alone: no data is read, nothing is run.

For what can be asked of a program: what its collectives move, what it computes, what
memory it needs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import ours, shared
from mtpret_jax import building, types
from mtpret_jax import config as schema
from mtpret_jax.training import sharding

QUEUE = flags.DEFINE_integer("negatives", 65_536, "Negatives of stage 1.")
_SMALL = flags.DEFINE_bool("small_heads", False, "Few proposals, narrow heads: a test.")

# Stage 1; stage 2, which holds two backbones beside its own; stage 3 for each kind.
STAGES = ("contrastive", "continual", "classification", "segmentation", "detection")
_LABELS = 2
_SMALL_OPTIONS: dict[str, dict[str, Any]] = {
    "segmentation": {"channels": 8},
    "detection": {
        "channels": 8,
        "hidden": 16,
        "proposals_before_nms": 16,
        "proposals": 8,
        "regions": 8,
    },
}


def config(stage: str, *, batch_size: int | None = None) -> schema.ExperimentConfig:
    """A config of one run of the stage, by the flags.

    Args:
      stage: One of `STAGES`.
      batch_size: Examples of the global batch; the flag's if None.
    """
    batch = batch_size or shared.BATCH.value
    kind = "classification" if stage == "continual" else stage
    settings: dict[str, Any] = {
        "kind": kind,
        "network": shared.NETWORK.value,
        "image_size": shared.SIZE.value,
        "batch_size": batch,
        "dtype": shared.DTYPE.value,
        "backbone": {"width": shared.WIDTH.value},
        "contrastive": {
            "queue_size": QUEUE.value,
            "batch_norm_rows": max(2, batch // 8),
        },
        "task": {"target": "label"} if kind == "classification" else {},
    }
    if _SMALL.value:
        settings |= _SMALL_OPTIONS
    made = ours.config(settings)
    if stage == "continual":
        continual = schema.ContinualConfig(tasks=(ours.TASK,))
        row = dataclasses.replace(made.runs[ours.RUN], stage=stage, continual=continual)
        made = dataclasses.replace(made, runs={ours.RUN: row})
    return made


@dataclasses.dataclass(frozen=True)
class Program:
    """A step, lowered for some devices.

    Attributes:
      state: Its state's shapes.
      batch: Of zeros or noise, on the host.
      lowered: To be compiled.
      mesh: Of the devices.
      draw: Key to a fresh state, not compiled.
    """

    state: types.TrainState
    batch: types.Batch
    lowered: Any
    mesh: jax.sharding.Mesh
    draw: Callable[[jax.Array], types.TrainState]

    @functools.cached_property
    def compiled(self) -> Any:
        """The program that runs."""
        return self.lowered.compile()

    def text(self) -> str:
        """The same as text, compiled in a hurry: its collectives are those."""
        options = {"xla_backend_optimization_level": 0}
        return self.lowered.compile(compiler_options=options).as_text()

    def start(self) -> tuple[types.TrainState, types.Batch]:
        """A fresh state and the batch, on the devices."""
        init = sharding.compile_init(self.draw, self.mesh)
        return init(jax.random.key(0)), sharding.put(self.batch, self.mesh)

    def state_bytes(self) -> int:
        """Of the whole state; every device holds one."""
        return sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(self.state)
        )

    def parameters(self) -> int:
        """Trained ones, with those of the heads."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.state.params))


def lower(config: schema.ExperimentConfig, devices: Sequence[Any]) -> Program:
    """Lowers the step of a config's run for a mesh of these devices."""
    mesh = sharding.make_mesh(devices)
    names: dict[str, Any] = {
        "label_names": {"label": [str(index) for index in range(_LABELS)]},
        "mask_names": [f"class {index}" for index in range(ours.MASK_CLASSES)],
        "object_names": ["object"],
    }
    row = config.runs[ours.RUN]
    tasks = building.build_tasks(config, {ours.SET: names})
    stage = building.build_stage(config, row, tasks)
    shapes = building.shape_batches(config, row)
    batch = _batch(config)

    def draw(key: jax.Array) -> types.TrainState:
        return stage.init(key, shapes)

    state = jax.eval_shape(draw, jax.random.key(0))
    state = _placed(state, sharding.replicated(mesh))
    _, step = sharding.compile_stage(stage, mesh)
    lowered = step.lower(state, _placed(batch, sharding.divided(mesh)))
    return Program(state, batch, lowered, mesh, draw)


def _batch(config: schema.ExperimentConfig) -> types.Batch:
    batch = ours.constant_batch(config)
    task = config.tasks.get(ours.TASK)
    if task is None or task.kind != "classification":
        return batch
    shape = (task.batch_size, _LABELS)
    labels = {"label": np.zeros(shape, np.float32), "label_known": np.ones(shape, bool)}
    return batch.replace(arrays=batch.arrays | labels)


def _placed(tree: Any, where: jax.sharding.Sharding) -> Any:
    """The shapes of a tree, on devices."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree
    )
