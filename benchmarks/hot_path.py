"""Does the input keep up: steps/s with real input against a constant batch.

    python benchmarks/hot_path.py --stage=finetune

Both loops are the one of `training.loop`, under `jax.transfer_guard("disallow")`, with
one put a batch. They take turns, so that a drifting machine slows both; printed are the
median of the rounds' ratios and their range. Simulated hands, stored and used at
128 pixels, ResNet-18 of the usual width.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import statistics
import tempfile
import time

import jax
from absl import app, flags

from mtpret_jax import building, preparation
from mtpret_jax import config as schema
from mtpret_jax.data import sources
from mtpret_jax.training import loop, sharding

_STAGE = flags.DEFINE_enum("stage", "finetune", ["finetune", "contrastive"], "Which.")
_WIDTH = flags.DEFINE_integer("width", 64, "Channels of the stem.")
_STEPS = flags.DEFINE_integer("steps", 6, "Steps of each loop in a round.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds.")
_SIZE = 128  # pixels
_BATCH = 32


def _config() -> schema.ExperimentConfig:
    options = {"body": "hand", "image_size": _SIZE, "train": 256}
    config = schema.defaults()
    config.backbone.update(name="resnet18", width=_WIDTH.value)
    config.datasets.hand = schema.dataset("phantom_xray", **options)
    config.tasks.fracture = schema.task(
        dataset="hand", target="finding", image_size=_SIZE, batch_size=_BATCH
    )
    contrastive = {
        "datasets": {"hand": 1.0},
        "image_size": _SIZE,
        "batch_size": _BATCH,
        "queue_size": 128,
        "batch_norm_groups": 4,
    }
    config.runs.run = schema.run(
        stage=_STAGE.value,
        steps=10_000,
        finetune={"task": "fracture"},
        contrastive=contrastive,
    )
    return schema.parse(config)


def main(arguments: list[str]) -> None:
    """Times both loops in turn and prints their ratio."""
    del arguments
    config = _config()
    row = config.runs["run"]
    with tempfile.TemporaryDirectory() as folder:
        folders = preparation.prepare(config.datasets, pathlib.Path(folder))
        source = sources.open_prepared(folders["hand"], "train")
        names = {"hand": dataclasses.asdict(source.metadata)}
        shop = building.Workshop(
            config=config,
            workdir=pathlib.Path(folder),
            folders=folders,
            mesh=sharding.make_mesh(),
            tasks=building.build_tasks(config, names),
            shard=building.pipeline.Shard(),
        )
        stage = building.build_stage(config, row, shop.tasks)
        shapes = building.shape_batches(config, row)
        init = sharding.compile_init(lambda key: stage.init(key, shapes), shop.mesh)
        state = init(jax.random.key(0))
        begin, step = sharding.compile_stage(stage, shop.mesh)
        (task,) = (segment.task for segment in stage.segments())
        state = begin(state, task)
        streams = building.open_streams(shop, row, {task: 0})
        constant = {task: itertools.repeat(next(streams[task]))}

        def seconds(batches, state):
            """Time of one loop; its last step is waited for."""
            segments = [dataclasses.replace(stage.segments()[0], steps=_STEPS.value)]
            start = time.perf_counter()
            with jax.transfer_guard("disallow"):
                state = loop.fit(
                    segments,
                    state,
                    batches,
                    start=0,
                    begin=lambda state, task: state,
                    step=step,
                    put=lambda batch: sharding.put(batch, shop.mesh),
                    hook=lambda *_: None,
                )
                jax.block_until_ready(state)
            return time.perf_counter() - start, state

        _, state = seconds(constant, state)  # Compiles.
        ratios, rates = [], []
        for _ in range(_ROUNDS.value):
            fed, state = seconds(streams, state)
            bare, state = seconds(constant, state)
            ratios.append(bare / fed)
            rates.append((_STEPS.value / fed, _STEPS.value / bare))
        streams[task].close()
    fed, bare = (statistics.median(values) for values in zip(*rates, strict=True))
    device = jax.devices()[0].device_kind
    print(  # noqa: T201
        f"{_STAGE.value}, {_SIZE} px, batch {_BATCH}, width {_WIDTH.value}, "
        f"{device} x {jax.device_count()}, {os.cpu_count()} cores, jax "
        f"{jax.__version__}\nreal input {fed:.3f} steps/s, constant batch {bare:.3f} "
        f"steps/s, ratio {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}, {_ROUNDS.value} rounds of "
        f"{_STEPS.value} steps)"
    )


if __name__ == "__main__":
    app.run(main)
