"""MoCo v2 against PyTorch: the step alone, and from stored files to new weights.

Simulated chests, prepared for ours and laid out as PNG files with the same bytes for
PyTorch.

Run:     python -m benchmarks.contrastive --torch_python=<python with PyTorch>
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from benchmarks import comparison, harness, ours
from mtpret_jax import config as schema
from mtpret_jax.data import sources
from mtpret_jax.experiment import preparation
from tfds_builders.images import reader

_FEW = harness.CORES <= 2
_MANY = [harness.CORES // 2, harness.CORES]


def _parse() -> argparse.Namespace:
    parser = comparison.parser(__doc__)
    whole_numbers = {
        "queue_size": (4096, "negatives, a multiple of the batch"),
        "batch_norm_rows": (0, "of a group of ours; PyTorch's BatchNorm has one group"),
        "images": (256, "stored images"),
        "stored_size": (512, "their longest side, pixels"),
        "buffer": (2, "batches that ours, and each worker of PyTorch, reads ahead"),
        "end_to_end_steps": (16, "steps of a turn with files: many times --buffer"),
        "warm_up": (4, "steps before these"),
    }
    for name, (default, text) in whole_numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=text)
    readers = {
        "threads": ([1, 2] if _FEW else _MANY, "reading threads of ours to try"),
        "torch_workers": ([0, 1, 2] if _FEW else _MANY, "workers of PyTorch to try"),
    }
    for name, (counts, text) in readers.items():
        parser.add_argument(f"--{name}", type=int, nargs="+", default=counts, help=text)
    parser.add_argument("--folder", default="", help="keeps the images for another run")
    return parser.parse_args()


def store_images(folder: pathlib.Path, *, images: int, size: int) -> dict[str, Any]:
    """Simulates images, prepares them, and lays the same bytes out as files.

    Args:
      folder: Gets both; what is there already is used.
      images: How many.
      size: Longest side, pixels.

    Returns:
      Settings: `dataset`, `prepared` (folder) and `files` (folder).
    """
    options = {"body": "chest", "image_size": size, "train": images}
    options |= {"validation": 0, "test": 0}
    row = schema.DatasetConfig("phantom_xray", options)
    made = preparation.prepare({ours.SET: row}, folder / "prepared")
    prepared = os.fspath(made[ours.SET])
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    source = sources.open_prepared(prepared, "train")
    for record in range(len(source)):
        path = files / f"{record:06d}.png"
        path.write_bytes(reader.encode_png(source[record]["image"]))
    dataset = {"builder": "phantom_xray", **options}
    return {"dataset": dataset, "prepared": prepared, "files": os.fspath(files)}


def _choose_readers(
    started: Mapping[str, harness.Side], options: argparse.Namespace
) -> dict[str, Any]:
    """Each side finds its best number of readers; returns pairs/s by number."""
    tried = {comparison.OURS: options.threads, comparison.TORCH: options.torch_workers}
    steps, found = options.end_to_end_steps, {}
    for name, side in started.items():
        timed = side.ask(
            "choose_readers", tried=tried[name], steps=steps, warm_up=options.warm_up
        )
        pairs = [steps * options.batch_size / seconds for seconds in timed]
        found[name] = dict(zip(tried[name], pairs, strict=True))
    return found


def main() -> None:
    """Measures both, shows and writes."""
    options = _parse()
    moco = {
        "queue_size": options.queue_size,
        "batch_norm_rows": options.batch_norm_rows,
        "embedding_size": 128,
        "momentum": 0.999,
        "temperature": 0.2,
    }
    shared = comparison.settings("contrastive", options, contrastive=moco)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.folder or temporary).absolute()
        made_from = {
            **shared,
            **store_images(folder, images=options.images, size=options.stored_size),
            "augment": dataclasses.asdict(schema.AUGMENT_PRESETS["contrastive"]),
            "buffer": options.buffer,
            "input": {"buffer": options.buffer},
        }
        with comparison.sides("contrastive", made_from, options) as (started, facts):
            found = {"step": comparison.measure(started, options, "step")}
            readers = _choose_readers(started, options)
            found["end_to_end"] = comparison.measure(
                started,
                options,
                "end_to_end",
                steps=options.end_to_end_steps,
                warm_up=options.warm_up,
            )
    comparison.show(found, "pairs/s")
    harness.show(f"Readers tried, pairs/s: {readers}.")
    names = ("images", "stored_size", "buffer", "end_to_end_steps", "warm_up")
    shared |= {name: getattr(options, name) for name in names}
    comparison.write(
        "contrastive", found, shared, facts, options, readers_tried=readers
    )


if __name__ == "__main__":
    main()
