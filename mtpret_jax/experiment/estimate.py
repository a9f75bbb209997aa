"""What a config will cost: parameters, memory, time. A few steps on blank images.

Needs no prepared set. Where none is at hand, tasks are taken to have `CLASSES` classes.
`steps` and `lower` need no accelerator either: they give the program of each step.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import stages, types
from mtpret_jax.config import rules
from mtpret_jax.data import kinds
from mtpret_jax.experiment import precision, workshop
from mtpret_jax.training import sharding

CLASSES = 2
Names = Mapping[str, types.Names]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What the runs cost that do the same computation.

    Attributes:
      runs: Their names.
      stage: Name of their stage.
      tasks: Tasks that they train; in stage 1 none.
      parameters: Trained ones, with those of the heads.
      state_bytes: What every device holds between two steps, and a checkpoint on disk.
      step_bytes: What a step needs besides, at its peak; NaN where JAX cannot tell.
      step_seconds: Seconds of a step, mean over the tasks.
      steps: Optimiser steps of one run.
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
        """Seconds of all runs, one after the other, without reading and evaluation."""
        return len(self.runs) * self.steps * self.step_seconds


def estimate(config: schema.ExperimentConfig, names: Names) -> Iterator[Cost]:
    """Measures every kind of run once, each as it is asked for.

    Args:
      config: The whole config, its study expanded.
      names: For each set its class names, as `workshop.build_tasks` takes them; sets
        that are left out get made-up ones.
    """
    mesh = sharding.make_mesh()
    config = precision.settle(config, precision.platform(mesh))
    tasks = build_tasks(config, names)
    alike: dict[str, list[str]] = {}
    for name, row in config.runs.items():
        alike.setdefault(_computation(row), []).append(name)
    for runs in alike.values():
        yield _measure(config, tasks, runs)


@dataclasses.dataclass(frozen=True)
class Step:
    """A step that several runs share.

    Attributes:
      config: The whole config.
      tasks: Every task of the config.
      runs: Names of the runs; the first one's is built.
      names: Tasks whose steps these are, in stage 1 its one segment.
    """

    config: schema.ExperimentConfig
    tasks: Mapping[str, types.Task]
    runs: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def row(self) -> schema.RunConfig:
        """The first run."""
        return self.config.runs[self.runs[0]]

    @property
    def part(self) -> schema.ContrastiveConfig | schema.TaskConfig:
        """Where the sizes of its batches stand."""
        return self.config.batches_of(self.row)[self.names[0]]

    def resized(self, batch_size: int) -> Step:
        """The same for another batch, whose groups of BatchNorm may be smaller."""
        config, row, part = self.config, self.row, self.part
        rows, examples = part.batch_norm_rows, batch_size // part.microbatches
        if examples > rows:
            rows = math.gcd(rows, examples)
        part = dataclasses.replace(part, batch_size=batch_size, batch_norm_rows=rows)
        if isinstance(part, schema.ContrastiveConfig):
            queue = max(part.queue_size, batch_size)
            part = dataclasses.replace(part, queue_size=queue)
            row = dataclasses.replace(row, contrastive=part)
            config = dataclasses.replace(config, runs={self.runs[0]: row})
            return dataclasses.replace(self, config=config)
        name = self.names[0]
        config = dataclasses.replace(config, tasks={**config.tasks, name: part})
        task: Any = self.tasks[name]  # It has groups of its own.
        task = dataclasses.replace(task, batch_norm_rows=rows)
        return dataclasses.replace(
            self, config=config, tasks={**self.tasks, name: task}
        )


def steps(config: schema.ExperimentConfig, names: Names) -> list[Step]:
    """Every step that the runs of a config do, each once.

    Args:
      config: The whole config, its study expanded.
      names: As for `estimate`.
    """
    tasks = build_tasks(config, names)
    alike: dict[str, Step] = {}
    for run, row in config.runs.items():
        stage = stages.build(config.of(row), row, tasks)
        for name in dict.fromkeys(segment.task for segment in stage.segments()):
            key = _program(config, row, name, _classes(tasks, name))
            known = alike.get(key) or Step(config, tasks, (), ())
            alike[key] = dataclasses.replace(
                known,
                runs=tuple(dict.fromkeys((*known.runs, run))),
                names=tuple(dict.fromkeys((*known.names, name))),
            )
    return list(alike.values())


def _program(
    config: schema.ExperimentConfig, row: schema.RunConfig, name: str, classes: int
) -> str:
    """Equal for steps that differ in numbers, data and names alone."""
    part = config.batches_of(row)[name]
    options: dict[str, Any] = dict(stage=row.stage, encoder=row.encoder)
    options |= dict(optimizer=row.optimizer.name, classes=classes)
    if isinstance(part, schema.TaskConfig):
        same: Any = dict(dataset="", target="", learning_rate_scale=1.0)
        same |= dict(balanced_sampling=False, flip_at_test=False)
        part = dataclasses.replace(part, **same)
    else:
        part = dataclasses.replace(part, datasets={}, carry_memory=False)
    part = dataclasses.replace(part, augment=schema.AugmentConfig())
    if row.options.validates_all:
        stage = dataclasses.asdict(row.continual)
        anchors = ("anchor_previous", "anchor_pretrained", "feature_memory")
        options["pulled"] = [bool(stage[anchor]) for anchor in anchors]
        options["heads"] = row.tasks
    if row.options.is_tested:
        recipe = row.finetune
        is_on = (recipe.drop_path > 0, recipe.layer_decay < 1, recipe.ema > 0)
        options["recipe"] = [*is_on, recipe.trains, recipe.lora_rank]
    return json.dumps([options, schema.as_dict(part)])


def fit(step: Step, devices: Sequence[Any]) -> list[Any]:
    """Those of the devices of a slice that the runs use; see `workshop.fit`."""
    several = len({device.process_index for device in devices}) > 1
    if several and not step.row.tasks:  # All, or it is refused.
        return list(devices)
    shares = rules.shares(step.config, step.runs[0])
    return list(sharding.fit_mesh(shares.values(), devices).devices.flat)


def lower(step: Step, devices: Sequence[Any]) -> Any:
    """A step from shapes alone, to be compiled for these devices, which may be absent.

    Raises:
      ValueError: If the batch does not divide over the devices.
    """
    mesh = sharding.make_mesh(devices)
    name = step.names[0]
    path = f"batch of {', '.join(step.names)}"
    part = step.part
    sharding.check_batch_size(part.batch_size // part.microbatches, mesh, path)
    stage = stages.build(step.config.of(step.row), step.row, step.tasks)
    batch = blank(step.config, step.row, name, _classes(step.tasks, name))
    _, compiled = sharding.compile_stage(stage, mesh)
    return compiled.lower(
        _placed(state_shapes(step), sharding.replicated(mesh)),
        _placed(batch, sharding.divided(mesh)),
    )


def state_shapes(step: Step) -> types.TrainState:
    """Shapes of the state that a step takes."""
    stage = stages.build(step.config.of(step.row), step.row, step.tasks)
    return stages.state_shapes(stage, stages.shape_batches(step.config, step.row))


def _placed(tree: Any, where: jax.sharding.Sharding) -> Any:
    """The shapes of a tree, on devices."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree
    )


def build_tasks(config: schema.ExperimentConfig, names: Names) -> dict[str, types.Task]:
    """Every task of the config; `names` as for `estimate`."""
    filled = {
        name: names.get(name) or made_up(config, name) for name in config.datasets
    }
    return workshop.build_tasks(config, filled)


def _classes(tasks: Mapping[str, types.Task], name: str) -> int:
    return len(tasks[name].metric().class_names) if name in tasks else 0


def made_up(config: schema.ExperimentConfig, dataset: str) -> types.Names:
    """Class names of a set that is not prepared."""
    names = [f"class {n}" for n in range(CLASSES)]
    tasks = [row for row in config.tasks.values() if row.dataset == dataset]
    targets = {row.target for row in tasks}
    told = {row.second_input for row in tasks} - {"", "sex"}
    return {
        "label_names": dict.fromkeys(targets | told, names),
        "mask_names": names,
        "object_names": names,
        "values": dict.fromkeys(targets, ""),
        "landmark_names": names,
    }


def _computation(row: schema.RunConfig) -> str:
    """Equal for runs that differ only in what they start from or are called."""
    same = dict(arm="", seed=0, init_from="", label_fraction=1.0)
    return json.dumps(schema.as_dict(row) | same)


def _measure(
    config: schema.ExperimentConfig,
    tasks: Mapping[str, types.Task],
    runs: list[str],
) -> Cost:
    row = config.runs[runs[0]]
    mesh = sharding.fit_mesh(rules.shares(config, runs[0]).values())
    stage = stages.build(config.of(row), row, tasks)
    shapes = stages.shape_batches(config, row)
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
        batch = sharding.put(blank(config, row, task, _classes(tasks, task)), mesh)
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
    """A host batch of one task of a run: black images without a finding."""
    part: Any = config.batches_of(row)[task]
    batch, size = part.batch_size, part.image_size
    names = (part.dataset,) if row.tasks else config.datasets_of(row)
    deepest = max(config.datasets[n].options.get("bit_depth", 8) for n in names)
    image = np.zeros((batch, size, size, 1), np.dtype(f"uint{deepest}"))
    channels = len(config.input.fixed.statistics[0])  # 0: alike, of no fixed numbers
    statistics = np.ones((batch, 2, channels) if channels else (batch, 2), np.float32)
    arrays: dict[str, np.ndarray] = {
        "record": np.arange(batch, dtype=np.int32),
        "example_valid": np.ones(batch, bool),
    }
    if not row.tasks:
        for name in ("partner", "query_owner", "positive_owner"):
            arrays[name] = arrays["record"]
        for name in ("query", "positive"):
            arrays |= {name: image, f"{name}_statistics": statistics}
        if part.distillation.teacher:
            taught = np.zeros((batch, part.distillation.features), np.float32)
            arrays |= {f"{name}_teacher": taught for name in ("query", "positive")}
        if part.local_views:
            shape = (batch, part.local_views, part.local_size, part.local_size, 1)
            small = np.repeat(statistics[:, None], part.local_views, 1)
            arrays |= {"local": np.zeros(shape, image.dtype), "local_statistics": small}
        return types.Batch(arrays, task)
    arrays |= {"image": image, "image_statistics": statistics}
    return types.Batch(arrays | kinds.KINDS[part.kind].blank(part, classes), task)
