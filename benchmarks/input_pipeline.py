"""What feeding costs: processor time of a pair of views to the device, and its bytes.

The stream is that of stage 1, from stored pixels, with its usual augmentation. Counted
is the processor time of the process and of all its workers (which other programs on a
shared machine disturb less than a rate) while batches are taken as fast as they come,
and the part of it in the process itself, which also has to train. Without `--folder`,
simulated chests, and the same with 16 bits.

Run:     python -m benchmarks.input_pipeline
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import pathlib
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks import harness
from mtpret_jax import config
from mtpret_jax.data import pipeline, readers, sources
from mtpret_jax.experiment import preparation
from tfds_builders.images import reader

_TICK = os.sysconf("SC_CLK_TCK")


def _seconds_of(number: int) -> float:
    """Processor time of another process, all its threads together."""
    fields = pathlib.Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@dataclasses.dataclass(frozen=True)
class Turn:
    """What a turn of a stream came to.

    Attributes:
      rate: Examples a second.
      cost: Processor time of an example in all processes, ms.
      parent: The part of it in this process, ms.
      size: Bytes of an example that cross to the device.
    """

    rate: float
    cost: float
    parent: float
    size: float


def _take_turn(options: argparse.Namespace, folder: str, workers: int) -> Turn:
    """Takes batches; as much is read ahead at the end as was at the beginning."""
    settings = config.InputConfig(workers=workers)
    stage = config.ContrastiveConfig(
        datasets={"all": 1.0},
        image_size=options.image_size,
        batch_size=options.batch_size,
        batch_norm_rows=0,
    )
    count = workers or pipeline.count_threads(settings)
    opened = {"all": sources.open_prepared(folder, "train")}
    with pipeline.contrastive_stream(
        "pairs", stage, settings, opened, seed=0
    ) as stream:
        for _ in range(settings.buffer + 2 * count):
            batch = next(stream)
        pools = [pool.executor._processes for pool in readers._pools.values()]
        others = [number for pool in pools for number in pool]

        def spent() -> tuple[float, float, float]:
            elsewhere = sum(_seconds_of(number) for number in others)
            return time.perf_counter(), time.process_time(), elsewhere

        before = spent()
        for _ in range(options.batches * count):
            next(stream)
        clock, parent, elsewhere = np.subtract(spent(), before).tolist()
    examples = options.batches * count * options.batch_size
    return Turn(
        rate=examples / clock,
        cost=1e3 * (parent + elsewhere) / examples,
        parent=1e3 * parent / examples,
        size=sum(a.nbytes for a in batch.arrays.values()) / options.batch_size,
    )


def _prepare(folder: pathlib.Path, options: argparse.Namespace) -> dict[str, str]:
    """Simulated chests of 8 bits, and their like of 16."""
    sizes = {"image_size": options.stored_size, "train": options.images}
    chest = {"body": "chest", "validation": 8, "test": 8, **sizes}
    made = preparation.prepare(
        {"chest": config.DatasetConfig("phantom_xray", chest)}, folder
    )["chest"]
    source, images = sources.open_prepared(made, "train"), folder / "deep" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for record in range(len(source)):
        image = source[record]["image"].astype(np.uint16) * 257
        image ^= rng.integers(0, 128, image.shape, np.uint16)
        (images / f"{record}.png").write_bytes(reader.encode_png(image))
    deep = {"folder": os.fspath(folder / "deep"), "bit_depth": 16}
    row = config.DatasetConfig("xray_folder", deep)
    (other,) = preparation.prepare({"deep": row}, folder).values()
    return {"8 bits": os.fspath(made), "16 bits": os.fspath(other)}


def main() -> None:
    """Measures, shows and writes."""
    parser = harness.parser(
        __doc__,
        images=192,
        stored_size=336,
        image_size=224,
        batch_size=32,
        rounds=5,
        folder="",
    )
    parser.add_argument(
        "--batches", type=int, default=16, help="in a turn, of each reader"
    )
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        help="numbers of processes that read; 0: threads",
    )
    options = parser.parse_args()
    results: dict[str, Any] = {}
    rows = [["stream", "ms of processor", "of it here", "kB", "examples/s"]]
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"given": os.path.expanduser(options.folder)}
        if not options.folder:
            folders = _prepare(pathlib.Path(temporary), options)
        for depth, folder in folders.items():
            ways = {
                f"contrastive, {workers} workers, {depth}": functools.partial(
                    _take_turn, options, folder, workers
                )
                for workers in options.workers
            }
            for name, turns in harness.take_turns(ways, options.rounds).items():
                found = {
                    "milliseconds_of_processor": [turn.cost for turn in turns],
                    "of_it_in_the_parent": [turn.parent for turn in turns],
                    "examples_per_second": [turn.rate for turn in turns],
                }
                spreads = {key: harness.spread(each) for key, each in found.items()}
                results[name] = {**spreads, "bytes": round(turns[0].size)}
                cost, parent, rate = (each["median"] for each in spreads.values())
                cells = [f"{cost:.2f}", f"{parent:.3f}", f"{turns[0].size / 1e3:.0f}"]
                rows.append([name, *cells, f"{rate:.0f}"])
    harness.table(rows)
    results |= {"image_size": options.image_size, "stored_size": options.stored_size}
    harness.write(
        f"input pipeline {options.stored_size}", results, options, n=options.rounds
    )


if __name__ == "__main__":
    main()
