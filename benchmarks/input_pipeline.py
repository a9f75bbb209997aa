"""Input pipeline alone, as a fraction of what bare image decoding reaches.

    python -m benchmarks.input_pipeline

Both read the same stored pictures on the same cores and take turns. Bare is
`cv2.imdecode` and nothing else, of bytes in memory, on the number of threads at which
it is fastest; segmentation decodes the mask too. Streams are those of a training run,
with its usual augmentation; the contrastive one makes two views of one decoded picture.
Without `--folder`, simulated chests, stored with 512 pixels as PNG.

Two fractions: of images a second, and of processor time, which other programs on a
shared machine disturb less.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from absl import app, flags

from benchmarks import recording
from mtpret_jax import config, preparation
from mtpret_jax.data import pipeline, sources

_FOLDER = flags.DEFINE_string("folder", "", "Prepared folder; empty: simulated chests.")
_IMAGES = flags.DEFINE_integer("images", 192, "Simulated training images.")
_STORED = flags.DEFINE_integer("stored_size", 512, "Their longer side, pixels.")
_SIZES = flags.DEFINE_multi_integer("image_size", [128, 224], "Sides of the input.")
_BATCH = flags.DEFINE_integer("batch_size", 32, "Examples of a batch.")
_SECONDS = flags.DEFINE_float("seconds", 1.5, "Length of each measurement.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of each pair.")
_THREADS = flags.DEFINE_integer(
    "threads", config.InputConfig().threads, "Threads of a stream."
)


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast a loop was.

    Attributes:
      rate: Images per second.
      cost: Processor time of an image, seconds, all threads together.
    """

    rate: float
    cost: float


def _timed(work: Callable[[], int]) -> Speed:
    """Repeats `work`, which returns how many images it did."""
    start, cpu, done = time.perf_counter(), time.process_time(), 0
    while (elapsed := time.perf_counter() - start) < _SECONDS.value:
        done += work()
    return Speed(done / elapsed, (time.process_time() - cpu) / done)


def bare_decoding(pictures: Sequence[Sequence[np.ndarray]], threads: int) -> Speed:
    """Decodes encoded pictures, one or two for each image, over and over."""
    shares = [pictures[start::threads] for start in range(threads)]

    def decode(share: Sequence[Sequence[np.ndarray]]) -> int:
        for encoded in itertools.chain.from_iterable(share):
            cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        return len(share)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return _timed(lambda: sum(pool.map(decode, shares)))


def stream_speed(stream: pipeline.Stream, settings: config.InputConfig) -> Speed:
    """Takes batches; those that were read ahead beforehand do not count."""
    ahead = max(settings.buffer, pipeline.count_threads(settings))
    for _ in range(ahead + 1):
        next(stream)
    speed = _timed(lambda: len(next(stream).arrays["record"]))
    # It reads ahead once more; whoever is timed next should not share the cores.
    time.sleep(1.5 * ahead * _BATCH.value / speed.rate)
    return speed


def _tasks(source: sources.Source, size: int) -> dict[str, config.TaskConfig]:
    """A task of each kind that the folder has annotations for."""
    names = source.metadata
    common = config.TaskConfig(image_size=size, batch_size=_BATCH.value)
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
    source: sources.Source, folder: str, settings: config.InputConfig, size: int
) -> dict[str, Callable[[], pipeline.Stream]]:
    """Opens each stream that the folder can feed."""
    found: dict[str, Callable[[], pipeline.Stream]] = {}
    for kind, task in _tasks(source, size).items():
        found[kind] = lambda kind=kind, task=task: pipeline.train_stream(
            kind, task, settings, folder, seed=0
        )
    contrastive = config.ContrastiveConfig(
        datasets={"all": 1.0}, image_size=size, batch_size=_BATCH.value
    )
    found["contrastive"] = lambda: pipeline.contrastive_stream(
        contrastive, settings, {"all": folder}, seed=0
    )
    return found


def _compare(
    open_stream: Callable[[], pipeline.Stream],
    settings: config.InputConfig,
    pictures: Sequence[Sequence[np.ndarray]],
    threads: int,
) -> dict[str, Any]:
    """Both in turn."""
    with open_stream() as stream:
        stream_speed(stream, settings)
        pairs = [
            (stream_speed(stream, settings), bare_decoding(pictures, threads))
            for _ in range(_ROUNDS.value)
        ]
    return {
        "images_per_second": recording.spread([s.rate for s, _ in pairs]),
        "decoded_per_second": recording.spread([b.rate for _, b in pairs]),
        "fraction_of_decoding": recording.spread([s.rate / b.rate for s, b in pairs]),
        "fraction_by_processor_time": recording.spread(
            [b.cost / s.cost for s, b in pairs]
        ),
        "milliseconds_of_processor": recording.spread([1e3 * s.cost for s, _ in pairs]),
    }


def _read_all(
    source: sources.Source, names: Sequence[str], most: int = 256
) -> list[list[np.ndarray]]:
    """The encoded pictures of the first records."""
    records = (source[record] for record in range(min(most, len(source))))
    return [[example[name] for name in names] for example in records]


def _best_threads(pictures: Sequence[Sequence[np.ndarray]]) -> int:
    cores = len(os.sched_getaffinity(0))
    rates = {n: bare_decoding(pictures, n).rate for n in (1, cores, 2 * cores)}
    return max(rates, key=lambda n: rates[n])


def _prepare(folder: pathlib.Path) -> str:
    options = {
        "body": "chest",
        "image_size": _STORED.value,
        "train": _IMAGES.value,
        "validation": 8,
        "test": 8,
    }
    rows = {"chest": config.DatasetConfig("phantom_xray", options)}
    return os.fspath(preparation.prepare(rows, folder)["chest"])


def main(arguments: list[str]) -> None:
    """Measures, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = os.path.expanduser(_FOLDER.value)
        folder = folder or _prepare(pathlib.Path(temporary))
        source = sources.open_prepared(folder, "train")
        settings = config.InputConfig(threads=_THREADS.value)
        images = _read_all(source, ["image"])
        threads = _best_threads(images)
        size = statistics.mean(encoded.size for (encoded,) in images)
        results: dict[str, Any] = {
            "stored_bytes": round(size),
            "threads": pipeline.count_threads(settings),
            "threads_of_decoding": threads,
        }
        rows = [["stream", "images/s", "decoded/s", "fraction", "of processor time"]]
        for side in _SIZES.value:
            for kind, opened in _streams(source, folder, settings, side).items():
                masks = kind == "segmentation"
                pictures = _read_all(source, ["image", "mask"]) if masks else images
                found = _compare(opened, settings, pictures, threads)
                results[f"{kind}_{side}"] = found
                median = {key: spread["median"] for key, spread in found.items()}
                rows.append(
                    [
                        f"{kind}, {side} px",
                        f"{median['images_per_second']:.0f}",
                        f"{median['decoded_per_second']:.0f}",
                        f"{median['fraction_of_decoding']:.2f}",
                        f"{median['fraction_by_processor_time']:.2f}",
                    ]
                )
    recording.table(rows)
    recording.write("input pipeline", results, n=_ROUNDS.value)


if __name__ == "__main__":
    app.run(main)
