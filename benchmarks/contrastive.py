"""MoCo v2 against PyTorch: the step alone, and from stored files to new weights.

    python -m benchmarks.contrastive --torch_python=<python with PyTorch>

Simulated chests of 512 pixels, prepared for ours and laid out as PNG files with the
same bytes for PyTorch. README.md beside this file says what is compared and how.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from absl import app, flags

from benchmarks import comparison, pairing, recording
from mtpret_jax import config as schema
from mtpret_jax.data import sources
from mtpret_jax.experiment import preparation
from tfds_builders.images import reader

_CORES = len(os.sched_getaffinity(0))
_QUEUE = flags.DEFINE_integer("queue_size", 4096, "Negatives, a multiple of the batch.")
_ROWS = flags.DEFINE_integer(
    "batch_norm_rows", 0, "Of a group of ours; PyTorch's BatchNorm has one group."
)
_IMAGES = flags.DEFINE_integer("images", 256, "Stored pictures.")
_STORED = flags.DEFINE_integer("stored_size", 512, "Longest side of these, pixels.")
_FOLDER = flags.DEFINE_string("folder", "", "Keeps the pictures here for another run.")
_BUFFER = flags.DEFINE_integer(
    "buffer", 2, "Batches ours reads ahead, and each of PyTorch's workers does."
)
_STEPS = flags.DEFINE_integer(
    "end_to_end_steps",
    16,
    "Steps timed in a turn with stored files: several times what is read ahead.",
)
_WARM_UP = flags.DEFINE_integer(
    "warm_up", 4, "Steps before them, after which as much is read ahead as ever is."
)
_THREADS = flags.DEFINE_list(
    "threads",
    ["1", "2"] if _CORES <= 2 else [str(_CORES // 2), str(_CORES)],
    "Numbers of reading threads of ours; the best of them is taken.",
)
_WORKERS = flags.DEFINE_list(
    "torch_workers",
    ["0", "1", "2"] if _CORES <= 2 else [str(_CORES // 2), str(_CORES)],
    "Numbers of PyTorch's DataLoader workers; the best of them is taken.",
)


def store_pictures(folder: pathlib.Path) -> dict[str, Any]:
    """Simulates pictures, prepares them, and lays the same bytes out as files.

    Args:
      folder: Gets both; what is there already is used.

    Returns:
      Settings: `dataset`, `prepared` (folder) and `files` (folder).
    """
    row = schema.dataset(
        "phantom_xray",
        body="chest",
        image_size=_STORED.value,
        train=_IMAGES.value,
        validation=0,
        test=0,
    )
    table = schema.defaults()
    table.datasets.pictures = row
    made = preparation.prepare(schema.parse(table).datasets, folder / "prepared")
    prepared = os.fspath(made["pictures"])
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    source = sources.open_prepared(prepared, "train")
    for record in range(len(source)):
        path = files / f"{record:06d}.png"
        path.write_bytes(reader.encode_png(source[record]["image"]))
    options = dict(row.options)
    dataset = {"builder": "phantom_xray", **options}
    return {"dataset": dataset, "prepared": prepared, "files": os.fspath(files)}


def _choose_readers(started: Mapping[str, pairing.Side]) -> dict[str, Any]:
    """Each side finds its best number of readers; returns pairs/s by number."""
    lists = {comparison.OURS: _THREADS.value, comparison.TORCH: _WORKERS.value}
    found = {}
    for name, side in started.items():
        timed = side.ask(
            "choose_readers",
            tried=[int(count) for count in lists[name]],
            steps=_STEPS.value,
            warm_up=_WARM_UP.value,
        )
        pairs = [comparison.images(_STEPS.value) / seconds for seconds in timed]
        found[name] = dict(zip(lists[name], pairs, strict=True))
    return found


def main(arguments: list[str]) -> None:
    """Measures both, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(_FOLDER.value or temporary).absolute()
        moco = {
            "queue_size": _QUEUE.value,
            "batch_norm_rows": _ROWS.value,
            "embedding_size": 128,
            "momentum": 0.999,
            "temperature": 0.2,
        }
        shared = comparison.settings("contrastive", contrastive=moco)
        made_from = {
            **shared,
            **store_pictures(folder),
            "augment": dataclasses.asdict(schema.AUGMENT_PRESETS["contrastive"]),
            "buffer": _BUFFER.value,
            "input": {"buffer": _BUFFER.value},
        }
        with comparison.sides(made_from, "benchmarks.reference.contrastive") as (
            started,
            facts,
        ):
            found = {"step": comparison.measure(started, "step")}
            readers = _choose_readers(started)
            found["end_to_end"] = comparison.measure(
                started, "end_to_end", steps=_STEPS.value, warm_up=_WARM_UP.value
            )
    comparison.show(found, "pairs/s")
    recording.show(f"Readers tried, pairs/s: {readers}.")
    shared |= {
        "images": _IMAGES.value,
        "stored_size": _STORED.value,
        "buffer": _BUFFER.value,
        "end_to_end_steps": _STEPS.value,
        "warm_up": _WARM_UP.value,
    }
    comparison.write("contrastive", found, shared, facts, readers_tried=readers)


if __name__ == "__main__":
    app.run(main)
