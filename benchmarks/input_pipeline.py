"""Images per second of the input pipeline on a prepared folder, against bare decoding.

    python benchmarks/input_pipeline.py --folder=<data_dir>/phantom_xray/<name>/1.0.0

Prints one line for each: reading alone, reading and decoding, and the streams. Run it
on an otherwise idle machine; the first pass over the folder only warms the file cache.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import time
from collections.abc import Callable

from absl import app, flags

from mtpret_jax import config
from mtpret_jax.data import pipeline, sources, transforms

_FOLDER = flags.DEFINE_string("folder", None, "Prepared folder.", required=True)
_SIZE = flags.DEFINE_integer("image_size", 128, "Side of the input, pixels.")
_BATCH = flags.DEFINE_integer("batch_size", 32, "Examples of a batch.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Length of each measurement.")
_THREADS = flags.DEFINE_integer(
    "threads", config.InputConfig().threads, "Threads that read and augment."
)


def _rate_of_calls(read: Callable[[int], object], count: int) -> float:
    """Calls per second of `read` over records, on as many threads as a stream has."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS.value) as pool:
        start = time.perf_counter()
        done = 0
        while (elapsed := time.perf_counter() - start) < _SECONDS.value:
            records = range(done, done + _BATCH.value * _THREADS.value)
            collections.deque(pool.map(lambda i: read(i % count), records), maxlen=0)
            done += len(records)
        return done / elapsed


def _rate_of_stream(stream: pipeline.Stream) -> float:
    """Examples per second of a stream, after its buffer has been emptied."""
    with stream:
        warm_up = config.InputConfig().buffer + 1
        collections.deque(itertools.islice(stream, warm_up), maxlen=0)
        start = time.perf_counter()
        done = 0
        while (elapsed := time.perf_counter() - start) < _SECONDS.value:
            done += len(next(stream).arrays["record"])
        return done / elapsed


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
        tasks["detection"] = dataclasses.replace(common, kind="detection")
    return tasks


def _print(what: str, rate: float) -> None:
    print(f"{what:32} {rate:8.0f} images/s", flush=True)  # noqa: T201


def main(arguments: list[str]) -> None:
    """Measures and prints."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    folder = os.path.expanduser(_FOLDER.value)
    source = sources.open_prepared(folder, "train")
    settings = config.InputConfig(threads=_THREADS.value)
    height, width = transforms.decode(source[0]["image"]).shape
    _print(
        f"read ({height} x {width} stored)",
        _rate_of_calls(source.__getitem__, len(source)),
    )
    _print(
        "read and decode",
        _rate_of_calls(lambda i: transforms.decode(source[i]["image"]), len(source)),
    )
    for kind, task in _tasks(source).items():
        stream = pipeline.train_stream(kind, task, settings, folder, seed=0)
        _print(f"{kind} stream", _rate_of_stream(stream))
    contrastive = config.ContrastiveConfig(
        datasets={"all": 1.0}, image_size=_SIZE.value, batch_size=_BATCH.value
    )
    stream = pipeline.contrastive_stream(contrastive, settings, {"all": folder}, seed=0)
    _print("contrastive stream (two views)", _rate_of_stream(stream))


if __name__ == "__main__":
    app.run(main)
