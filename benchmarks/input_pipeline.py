"""What feeding costs: processor time of an example to the device, bytes it takes.

    python -m benchmarks.input_pipeline

Streams are those of a training run, from stored pixels, with its usual augmentation;
the contrastive one makes pairs of views. Counted is the processor time of the process
and of all its workers (which other programs on a shared machine disturb less than a
rate) while batches are taken as fast as they come, and the part of it in the process
itself, which also has to train. Without `--folder`, simulated chests, and the same with
16 bits.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import recording
from mtpret_jax import config
from mtpret_jax.data import pipeline, readers, sources
from mtpret_jax.experiment import preparation
from tfds_builders.images import reader

_FOLDER = flags.DEFINE_string("folder", "", "Prepared folder; empty: simulated chests.")
_IMAGES = flags.DEFINE_integer("images", 192, "Simulated training images.")
_STORED = flags.DEFINE_integer("stored_size", 336, "Their longer side, pixels.")
_SIZE = flags.DEFINE_integer("image_size", 224, "Side of the input, pixels.")
_BATCH = flags.DEFINE_integer("batch_size", 32, "Examples of a batch.")
_BATCHES = flags.DEFINE_integer("batches", 16, "In a turn, of each reader.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each.")
_WORKERS = flags.DEFINE_multi_integer(
    "workers", [0, 1, 2], "Numbers of processes that read; 0: threads."
)
_TICK = os.sysconf("SC_CLK_TCK")


def _seconds_of(number: int) -> float:
    """Processor time of another process, all its threads together."""
    fields = pathlib.Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@dataclasses.dataclass
class Turns:
    """What each turn of a stream came to, of an example.

    Attributes:
      rate: Examples a second.
      cost: Processor time of all processes, ms.
      parent: That of this process, ms.
      size: Bytes that cross to the device.
    """

    rate: list[float] = dataclasses.field(default_factory=list)
    cost: list[float] = dataclasses.field(default_factory=list)
    parent: list[float] = dataclasses.field(default_factory=list)
    size: float = 0.0


def _take_turn(stream: pipeline.Stream, workers: int, found: Turns) -> None:
    """Takes batches; as much is read ahead at the end as was at the beginning."""
    readers_ = workers or pipeline.count_threads(config.InputConfig())
    for _ in range(config.InputConfig().buffer + 2 * readers_):
        batch = next(stream)
    found.size = sum(a.nbytes for a in batch.arrays.values()) / _BATCH.value
    pools = [pool.executor._processes for pool in readers._pools.values()]
    others = [number for pool in pools for number in pool]

    def spent() -> tuple[float, float, float]:
        elsewhere = sum(_seconds_of(number) for number in others)
        return time.perf_counter(), time.process_time(), elsewhere

    count, before = _BATCHES.value * readers_, spent()
    for _ in range(count):
        next(stream)
    clock, parent, elsewhere = np.subtract(spent(), before).tolist()
    examples = count * _BATCH.value
    found.rate.append(examples / clock)
    found.parent.append(1e3 * parent / examples)
    found.cost.append(1e3 * (parent + elsewhere) / examples)


def _tasks(source: sources.Source) -> dict[str, config.TaskConfig]:
    """A task of each kind that the folder has annotations for."""
    names = source.metadata
    common = config.TaskConfig(image_size=_SIZE.value, batch_size=_BATCH.value)
    tasks = {}
    for column in itertools.islice(names.label_names, 1):
        tasks["classification"] = dataclasses.replace(common, target=column)
    if names.mask_names:
        tasks["segmentation"] = dataclasses.replace(common, kind="segmentation")
    if names.object_names:
        detection = config.DetectionConfig(max_boxes=512)
        tasks["detection"] = dataclasses.replace(
            common, kind="detection", detection=detection
        )
    return tasks


def _streams(
    folder: str, settings: config.InputConfig
) -> dict[str, Callable[[], pipeline.Stream]]:
    """Opens each stream that the folder can feed."""
    contrastive = config.ContrastiveConfig(
        datasets={"all": 1.0},
        image_size=_SIZE.value,
        batch_size=_BATCH.value,
        batch_norm_rows=0,
    )
    found: dict[str, Callable[[], pipeline.Stream]] = {
        "contrastive": lambda: pipeline.contrastive_stream(
            "pairs",
            contrastive,
            settings,
            {"all": sources.open_prepared(folder, "train")},
            seed=0,
        )
    }
    for kind, task in _tasks(sources.open_prepared(folder, "train")).items():
        found[kind] = functools.partial(
            pipeline.train_stream,
            kind,
            task,
            settings,
            sources.open_prepared(folder, "train"),
            seed=0,
        )
    return found


def _measure(folder: str) -> dict[str, Turns]:
    """Every stream with every number of workers, in turn."""
    found: dict[str, Turns] = {}
    ways = {}
    for workers in _WORKERS.value:
        settings = config.InputConfig(workers=workers)
        for kind, opened in _streams(folder, settings).items():
            if kind == "contrastive" or not workers:
                ways[f"{kind}, {workers} workers"] = opened, workers
    for _ in range(_ROUNDS.value):
        for name, (opened, workers) in ways.items():
            with opened() as stream:
                _take_turn(stream, workers, found.setdefault(name, Turns()))
    return found


def _prepare(folder: pathlib.Path) -> dict[str, str]:
    """Simulated chests of 8 bits, and their like of 16."""
    options = {"image_size": _STORED.value, "train": _IMAGES.value}
    chest = {"body": "chest", "validation": 8, "test": 8, **options}
    made = preparation.prepare(
        {"chest": config.DatasetConfig("phantom_xray", chest)}, folder
    )["chest"]
    source, images = sources.open_prepared(made, "train"), folder / "deep" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for record in range(len(source)):
        picture = source[record]["image"].astype(np.uint16) * 257
        picture ^= rng.integers(0, 128, picture.shape, np.uint16)
        (images / f"{record}.png").write_bytes(reader.encode_png(picture))
    deep = {"folder": os.fspath(folder / "deep"), "bit_depth": 16}
    row = config.DatasetConfig("xray_folder", deep)
    (other,) = preparation.prepare({"deep": row}, folder).values()
    return {"8 bits": os.fspath(made), "16 bits": os.fspath(other)}


def main(arguments: list[str]) -> None:
    """Measures, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    results: dict[str, Any] = {}
    rows = [["stream", "ms of processor", "of it here", "kB", "examples/s"]]
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"given": os.path.expanduser(_FOLDER.value)}
        if not _FOLDER.value:
            folders = _prepare(pathlib.Path(temporary))
        for depth, folder in folders.items():
            for name, turns in _measure(folder).items():
                found = {
                    "milliseconds_of_processor": recording.spread(turns.cost),
                    "of_it_in_the_parent": recording.spread(turns.parent),
                    "examples_per_second": recording.spread(turns.rate),
                }
                results[f"{name}, {depth}"] = {**found, "bytes": round(turns.size)}
                cost, parent, rate = (spread["median"] for spread in found.values())
                size = turns.size / 1e3
                cells = [f"{cost:.2f}", f"{parent:.3f}", f"{size:.0f}", f"{rate:.0f}"]
                rows.append([f"{name}, {depth}", *cells])
    recording.table(rows)
    results |= {"image_size": _SIZE.value, "stored_size": _STORED.value}
    recording.write(f"input pipeline {_STORED.value}", results, n=_ROUNDS.value)


if __name__ == "__main__":
    app.run(main)
