"""What a config will cost: parameters, memory, time. A few steps on blank pictures.

Needs no prepared set. Where none is at hand, tasks are taken to have `CLASSES` classes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from mtpret_jax import building, types
from mtpret_jax import config as schema
from mtpret_jax.training import sharding

CLASSES = 2
Names = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of the runs that do the same computation.

    Attributes:
      runs: Their names.
      stage: Of `config.runs`.
      tasks: That they train; in stage 1 none.
      parameters: Trained ones, with those of the heads.
      state_bytes: What every device holds between two steps, and a checkpoint on disk.
      step_bytes: What a step needs besides, at its peak; NaN where JAX cannot tell.
      step_seconds: Of a step, mean over the tasks.
      steps: Of one run.
    """

    runs: tuple[str, ...]
    stage: str
    tasks: tuple[str, ...]
    parameters: int
    state_bytes: int
    step_bytes: float
    step_seconds: float
    steps: int

    @property
    def seconds(self) -> float:
        """Of all the runs, one after the other, without evaluation and reading."""
        return len(self.runs) * self.steps * self.step_seconds


def estimate(config: schema.ExperimentConfig, names: Names) -> Iterator[Cost]:
    """Measures every kind of run once, each as it is asked for.

    Args:
      config: The whole config, its study expanded.
      names: For each set its class names, as `building.build_tasks` takes them; sets
        that are left out get made-up ones.

    Raises:
      ValueError: If a batch does not divide over the devices.
    """
    mesh = sharding.make_mesh()
    filled = {
        name: names.get(name) or made_up(config, name) for name in config.datasets
    }
    tasks = building.build_tasks(config, filled)
    alike: dict[str, list[str]] = {}
    for name, row in config.runs.items():
        alike.setdefault(_computation(row), []).append(name)
    for runs in alike.values():
        yield _measure(config, tasks, runs, mesh)


def made_up(config: schema.ExperimentConfig, dataset: str) -> dict[str, Any]:
    """Class names of a set that is not prepared."""
    names = [f"class {n}" for n in range(CLASSES)]
    targets = {row.target for row in config.tasks.values() if row.dataset == dataset}
    return {
        "label_names": dict.fromkeys(targets, names),
        "mask_names": names,
        "object_names": names,
    }


def _computation(row: schema.RunConfig) -> str:
    """Equal for runs that differ only in what they start from or are called."""
    same = dict(arm="", seed=0, init_from="", label_fraction=1.0)
    return json.dumps(schema.as_dict(row) | same)


def _measure(
    config: schema.ExperimentConfig,
    tasks: Mapping[str, types.Task],
    runs: list[str],
    mesh: jax.sharding.Mesh,
) -> Cost:
    row = config.runs[runs[0]]
    stage = building.build_stage(config, row, tasks)
    shapes = building.shape_batches(config, row)
    init = sharding.compile_init(lambda key: stage.init(key, shapes), mesh)
    state = init(jax.random.key(0))
    leaves = jax.tree.leaves(state)
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    segments = stage.segments()
    seconds, needed = [], []
    for task in dict.fromkeys(segment.task for segment in segments):
        begin, step = sharding.compile_stage(stage, mesh)
        state = begin(state, task)
        classes = len(tasks[task].metric().class_names) if task in tasks else 0
        batch = sharding.put(blank(config, row, task, classes), mesh)
        compiled = step.lower(state, batch).compile()
        analysis = compiled.memory_analysis()
        needed.append(getattr(analysis, "temp_size_in_bytes", math.nan))
        state, _ = compiled(state, batch)  # The first one warms up.
        jax.block_until_ready(state)
        began = time.monotonic()
        state, _ = compiled(state, batch)
        jax.block_until_ready(state)
        seconds.append(time.monotonic() - began)
    return Cost(
        runs=tuple(runs),
        stage=row.stage,
        tasks=row.tasks,
        parameters=parameters,
        state_bytes=state_bytes,
        step_bytes=max(needed),
        step_seconds=float(np.mean(seconds)),
        steps=sum(segment.steps for segment in segments),
    )


def blank(
    config: schema.ExperimentConfig, row: schema.RunConfig, task: str, classes: int
) -> types.Batch:
    """A host batch of one task of a run: black pictures without a finding."""
    part: Any = row.contrastive if row.stage == "contrastive" else config.tasks[task]
    batch, size = part.batch_size, part.image_size
    image = np.zeros((batch, size, size, 1), np.float32)
    arrays: dict[str, np.ndarray] = {
        "record": np.arange(batch, dtype=np.int32),
        "example_valid": np.ones(batch, bool),
    }
    if row.stage == "contrastive":
        views = {"query": image, "positive": image, "partner": arrays["record"]}
        return types.Batch(arrays | views, task)
    arrays["image"] = image
    return types.Batch(arrays | _targets(part, classes), task)


def _targets(part: schema.TaskConfig, classes: int) -> types.Example:
    """The targets of a batch; see `types`."""
    batch, size = part.batch_size, part.image_size
    if part.kind == "classification":
        label = np.zeros((batch, classes), np.float32)
        return {"label": label, "label_known": np.ones(label.shape, bool)}
    if part.kind == "segmentation":
        shape = (batch, size, size)
        return {
            "segmentation": np.zeros(shape, np.int32),
            "pixel_known": np.ones(shape, bool),
        }
    shape = (batch, part.detection.max_boxes)
    return {
        "box": np.zeros((*shape, 4), np.float32),
        "box_class": np.zeros(shape, np.int32),
        "box_valid": np.zeros(shape, bool),
    }
