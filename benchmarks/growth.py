"""What grows with the size of a set, with the queue, with the number of tasks.

Each row is a start of the command itself, as in `startup`, with a warm compilation
cache: until its first step, and then the time of a step and the peak of memory. A set
repeats the bytes of two tiny images, so that a hundred thousand records are made in a
minute; what depends on their number is the same as with real ones.

Run:     python -m benchmarks.growth
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from benchmarks import harness, watched_run
from mtpret_jax import config as schema
from tfds_builders import xray_folder
from tfds_builders.prepare import records, shards

_GROWS = {
    "records": ([1000, 10_000, 100_000], "sizes of the sets; the last also for queues"),
    "queue_sizes": ([4096, 16_384, 65_536], "negatives; at most 0.8 of the last set"),
    "tasks": ([1, 3, 7], "numbers of tasks of stage 2"),
}
_CLASSES = ("a", "b")
_STEPS = 8  # of a start, or twice the number of tasks


def _repeating(encode: shards.Encode) -> shards.Encode:
    """Encodes the first image of each class, and gives its bytes for all others."""
    known: dict[bytes, Any] = {}

    def repeat(split: str, record: records.Record) -> shards.Encoded:
        key = record.source.labels["label"].tobytes()
        if key not in known:
            known[key] = encode(split, record)
        own = {"split": split, "image_id": record.image_id, "group": record.group}
        return dataclasses.replace(known[key], row={**known[key].row, **own})

    return repeat


def make_set(folder: pathlib.Path, count: int, side: int) -> schema.DatasetConfig:
    """Writes a folder of `count` images, and prepares it.

    Args:
      folder: Gets the source, and the prepared set in `data`.
      count: How many records; 0.8 of them for training.
      side: Height and width of an image, pixels.

    Returns:
      Its row of a config.
    """
    images = folder / "source" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in _CLASSES:
        image = rng.integers(0, 256, (side, side)).astype(np.uint8)
        cv2.imwrite(os.fspath(folder / f"{name}.png"), image)
    lines = ["file,label"]
    for index in range(count):
        name, label = f"{index:06d}.png", _CLASSES[index % len(_CLASSES)]
        os.link(folder / f"{label}.png", images / name)
        lines.append(f"images/{name},{label}")
    (folder / "source" / "labels.csv").write_text("\n".join(lines) + "\n")
    options = {
        "folder": os.fspath(folder / "source"),
        "image_size": side,
        "labels": {"label": list(_CLASSES)},
    }
    config = xray_folder.Config(name="set", **options)
    builder: Any = xray_folder.Builder(data_dir=folder / "data", config=config)
    builder.encode = _repeating(builder.encode)
    builder.download_and_prepare()
    return schema.DatasetConfig("xray_folder", options)


def experiment(
    dataset: schema.DatasetConfig,
    stage: str,
    options: argparse.Namespace,
    *,
    tasks: int = 1,
    queue_size: int = 0,
) -> schema.ExperimentConfig:
    """A config of one run on a set of `make_set`."""
    names = tuple(f"task{index}" for index in range(tasks))
    task = schema.TaskConfig(
        dataset="set",
        image_size=options.image_size,
        batch_size=options.batch_size,
    )
    run = schema.RunConfig(
        stage=stage,
        steps=1 if stage == "continual" else 100,  # So that tasks alternate.
        finetune=schema.FinetuneConfig(task=names[0], batch_norm_batches=0),
        continual=schema.ContinualConfig(tasks=names),
        contrastive=schema.ContrastiveConfig(
            datasets={"set": 1.0},
            pool="paper",
            image_size=options.image_size,
            batch_size=options.batch_size,
            queue_size=queue_size or 2 * options.batch_size,
        ),
    )
    return schema.ExperimentConfig(
        backbone=schema.BackboneConfig(name="resnet18", width=options.width),
        datasets={"set": dataset},
        tasks=dict.fromkeys(names, task),
        runs={"run": run},
    )


def _starts(
    name: str, config: schema.ExperimentConfig, folder: pathlib.Path, rounds: int
) -> dict[str, Any]:
    """Starts of one config; the first fills the compilation cache and is left out."""
    steps = max(_STEPS, 2 * len(config.tasks))
    cache = os.fspath(folder.parent / "cache")
    found = [
        watched_run.start(
            config, folder, workdir=f"{name}-{turn}", cache=cache, steps=steps
        )
        for turn in range(rounds + 1)
    ]
    return watched_run.summary(found[1:])


def added(summaries: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """What the most of something has above the least of it, medians."""
    least, most = summaries[min(summaries)], summaries[max(summaries)]
    keys = ("first_step_seconds", "step_seconds", "peak_mib")
    return {key: most[key]["median"] - least[key]["median"] for key in keys}


def _measure(
    folder: pathlib.Path, options: argparse.Namespace
) -> dict[str, dict[int, dict[str, Any]]]:
    """Summaries by what grows and by how many there are of it."""
    rounds = options.rounds
    places, sets = {}, {}
    for count in sorted(options.records):
        places[count] = folder / str(count)
        sets[count] = make_set(places[count], count, options.image_size)
    least, most = min(sets), max(sets)
    found: dict[str, dict[int, dict[str, Any]]] = {"records": {}}
    for count, row in sets.items():
        config = experiment(row, "finetune", options)
        found["records"][count] = _starts("records", config, places[count], rounds)
    found["queue"], found["tasks"] = {}, {}
    for size in options.queue_sizes:
        config = experiment(sets[most], "contrastive", options, queue_size=size)
        found["queue"][size] = _starts(f"queue{size}", config, places[most], rounds)
    for count in options.tasks:
        config = experiment(sets[least], "continual", options, tasks=count)
        found["tasks"][count] = _starts(f"tasks{count}", config, places[least], rounds)
    return found


def main() -> None:
    """Measures, shows and writes."""
    # Small, so that what grows is seen.
    parser = harness.parser(__doc__, width=16, image_size=64, batch_size=32, rounds=2)
    for name, (default, text) in _GROWS.items():
        parser.add_argument(
            f"--{name}", type=int, nargs="+", default=default, help=text
        )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = _measure(pathlib.Path(temporary), options)
    rows, results, device = [watched_run.HEAD], {}, "cpu"
    for what, summaries in found.items():
        for count, one in summaries.items():
            rows.append(watched_run.row(f"{what} {count}", one))
            device = one["device"]
        results[what] = {"starts": summaries, "added": added(summaries)}
    harness.table(rows)
    for what, result in results.items():
        more = result["added"]
        harness.show(
            f"{what}, {min(result['starts'])} to {max(result['starts'])}: "
            f"{more['first_step_seconds']:+.1f} s to the first step, "
            f"{1e3 * more['step_seconds']:+.1f} ms a step, {more['peak_mib']:+.0f} MiB."
        )
    results |= {
        "image_size": options.image_size,
        "batch_size": options.batch_size,
    }
    harness.write("growth", results, options, n=options.rounds, device=device)


if __name__ == "__main__":
    main()
