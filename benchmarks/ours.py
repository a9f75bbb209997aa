"""Our side of a comparison: a stage of the package, its compiled step and its stream.

Everything is built as a run builds it: `workshop`, `sharding` and the one loop of
`training.loop`, under `jax.transfer_guard("disallow")`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from typing import Any

import jax
import numpy as np

from benchmarks import harness
from mtpret_jax import config as schema
from mtpret_jax import stages, types
from mtpret_jax.data import sources
from mtpret_jax.experiment import feed, workshop
from mtpret_jax.training import loop, sharding

SET = "pictures"  # the one set of the config
TASK = "task"  # the one supervised task
RUN = "run"
# What the heads are built for where no set is read.
MASK_CLASSES, BOX_CLASSES = 4, 1
_BOXES = 4  # of each image of the constant batch


def config(settings: dict[str, Any]) -> schema.ExperimentConfig:
    """The config of one run that a comparison needs.

    Args:
      settings: `kind` (contrastive, or that of a task), `network`, `image_size`,
        `batch_size`, `dtype`, and, optionally, tables of options: `dataset`, `input`,
        `backbone`, `contrastive`, `segmentation`, `detection`.
    """
    kind, table = settings["kind"], schema.defaults()
    table.input.update(settings.get("input", {}))
    table.backbone.update(
        name=settings["network"],
        compute_dtype=settings["dtype"],
        **settings.get("backbone", {}),
    )
    dataset = settings.get("dataset", {"builder": "phantom_xray"})
    table.datasets[SET] = schema.dataset(**dataset)
    sizes = {key: settings[key] for key in ("image_size", "batch_size")}
    if kind == "contrastive":
        options = {"datasets": {SET: 1.0}, **sizes, **settings.get(kind, {})}
        table.runs[RUN] = schema.run(stage=kind, steps=10_000, contrastive=options)
    else:
        options = {kind: settings.get(kind, {})} if kind != "classification" else {}
        options |= settings.get("task", {})
        table.tasks[TASK] = schema.task(kind=kind, dataset=SET, **sizes, **options)
        table.runs[RUN] = schema.run(
            stage="finetune", steps=10_000, finetune={"task": TASK}
        )
    return schema.parse(table)


def _open(config: schema.ExperimentConfig, folder: str | None) -> workshop.Workshop:
    """What a run of the config shares; no set is read without a folder."""
    names: Any = {
        "mask_names": [f"class {index}" for index in range(MASK_CLASSES)],
        "object_names": [f"class {index}" for index in range(BOX_CLASSES)],
    }
    if folder:
        names = dataclasses.asdict(sources.read_metadata(folder))
    return workshop.Workshop(
        config=config,
        workdir=workshop.epath.Path("unused"),
        folders={SET: folder or ""},
        mesh=sharding.make_mesh(),
        tasks=workshop.build_tasks(config, {SET: names}),
        shard=workshop.pipeline.Shard(),
    )


@contextlib.contextmanager
def stream(config: schema.ExperimentConfig, folder: str):
    """The batches of the run, from its first on.

    Args:
      config: As `config` makes it.
      folder: Prepared folder of its set.
    """
    row = config.runs[RUN]
    task = TASK if row.tasks else row.stage
    shop = _open(config, folder)
    streams = feed.Feed(shop, row, shop.shard).streams({task: 0})
    with streams[task] as batches:
        yield batches


class Trainer:
    """A run whose loop can be timed.

    Attributes:
      stage: What is trained.
      state: After the steps done so far.
      step: Compiled; a state and a batch to the next state and scalars.
      parameters: Trained numbers.
      options: What the step's compiler was told.
    """

    def __init__(
        self, config: schema.ExperimentConfig, folder: str | None = None
    ) -> None:
        """Builds and initialises; compiles no step yet.

        Args:
          config: As `config` makes it.
          folder: Prepared folder of its set, where the names of classes count.
        """
        row, shop = config.runs[RUN], _open(config, folder)
        self._mesh = shop.mesh
        self.options = sharding.compiler_options(shop.mesh)
        stage = stages.build(config, row, shop.tasks)
        shapes = stages.shape_batches(config, row)
        init = sharding.compile_init(lambda key: stage.init(key, shapes), shop.mesh)
        state = init(jax.random.key(0))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        (self._segment,) = stage.segments()
        begin, self.step = sharding.compile_stage(stage, shop.mesh)
        self.state = begin(state, self._segment.task)
        self.stage = stage

    def put(self, batch: types.Batch) -> types.Batch:
        """A batch on the devices."""
        return sharding.put(batch, self._mesh)

    def run(self, steps: int, batches: Any, *, put: bool = True) -> float:
        """Seconds that `steps` steps take; the last is waited for.

        Args:
          steps: How many.
          batches: Iterator.
          put: Whether each batch still has to be moved to the devices.
        """
        begin = time.perf_counter()
        with jax.transfer_guard("disallow"):
            self.state = loop.fit(
                [dataclasses.replace(self._segment, steps=steps)],
                self.state,
                {self._segment.task: batches},
                start=0,
                begin=lambda state, task: state,
                step=self.step,
                put=self.put if put else lambda batch: batch,
                hook=lambda *_: None,
            )
            jax.block_until_ready(self.state)
        return time.perf_counter() - begin


def device_name() -> str:
    """What computes: "cpu", or the kind that JAX gives an accelerator."""
    device = jax.devices()[0]
    return "cpu" if device.platform == "cpu" else device.device_kind


def constant_batch(config: schema.ExperimentConfig) -> types.Batch:
    """A batch of noise with random targets, in the shapes of `mtpret_jax.types`."""
    rng = np.random.default_rng(0)
    row = config.runs[RUN]
    part = row.contrastive if row.stage == "contrastive" else config.tasks[TASK]
    batch, size = part.batch_size, part.image_size
    arrays: dict[str, Any] = {
        "record": np.arange(batch, dtype=np.int32),
        "example_valid": np.ones(batch, bool),
    }

    def noise(name: str) -> dict[str, np.ndarray]:
        image = rng.integers(1, 256, (batch, size, size, 1), np.uint8)
        statistics = np.tile(np.array([128, 74], np.float32), (batch, 1))
        return {name: image, f"{name}_statistics": statistics}

    if row.stage == "contrastive":
        arrays["partner"] = rng.permutation(batch).astype(np.int32)
        arrays["query_owner"] = arrays["positive_owner"] = arrays["record"]
        views = noise("query") | noise("positive")
        return types.Batch(arrays | views, row.stage)
    arrays |= noise("image")
    if part.kind == "segmentation":
        shape = (batch, size, size)
        arrays["segmentation"] = rng.integers(0, MASK_CLASSES, shape, np.uint8)
        arrays["pixel_known"] = np.ones(shape, bool)
    elif part.kind == "detection":
        shape = (batch, part.detection.max_boxes)
        start = rng.uniform(0, 0.6, (*shape, 2))
        end = start + rng.uniform(0.1, 0.4, (*shape, 2))
        arrays["box"] = np.concatenate([start, end], -1).astype(np.float32)
        arrays["box_class"] = np.zeros(shape, np.int32)
        arrays["box_valid"] = np.broadcast_to(np.arange(shape[1]) < _BOXES, shape)
    return types.Batch(arrays, TASK)


class Side:
    """What a comparison asks of our side."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Builds, and compiles the step by doing it twice."""
        self._config = config(settings)
        self._folder = settings.get("prepared")
        self._trainer = Trainer(self._config, self._folder)
        self._batch = self._trainer.put(constant_batch(self._config))
        self._threads = self._config.input.threads
        self.step(2)

    def facts(self) -> dict[str, Any]:
        """Device and number of trained parameters."""
        return {"device": device_name(), "parameters": self._trainer.parameters}

    def step(self, steps: int) -> float:
        """Seconds of steps on a constant batch that lies on the device."""
        return self._trainer.run(steps, itertools.repeat(self._batch), put=False)

    def end_to_end(self, steps: int, warm_up: int, readers: int | None = None) -> float:
        """Seconds of steps from stored files on.

        Args:
          steps: That are timed.
          warm_up: Steps before, in which the stream fills or empties its buffer.
          readers: Threads that read; what `choose_readers` chose if None.
        """
        threads = readers or self._threads
        changed = dataclasses.replace(self._config.input, threads=threads)
        config = dataclasses.replace(self._config, input=changed)
        with stream(config, self._folder) as batches:
            self._trainer.run(warm_up, batches)
            return self._trainer.run(steps, batches)

    def choose_readers(self, tried: list[int], steps: int, warm_up: int) -> list[float]:
        """Seconds with each number of threads; the best is kept."""
        found = [self.end_to_end(steps, warm_up, readers) for readers in tried]
        self._threads = tried[int(np.argmin(found))]
        return found


if __name__ == "__main__":
    harness.serve(Side)
