"""Anchors for the training boxes of a config's detectors, as lines for the config.

    mtpret_jax config anchors --config=mine.py --data_dir=runs/data

Says of each task how many boxes of its training split an anchor overlaps by half or
more, with the anchors that it has and with one to three sizes a level that are fitted
to the boxes, of RetinaNet also with its other finest level. More sizes and finer levels
cost time and meet more boxes. The sets are to be prepared.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator

import numpy as np

from mtpret_jax import config as schema
from mtpret_jax.cli import command
from mtpret_jax.data import sources
from mtpret_jax.experiment import anchors, estimate

_MOST = 3  # sizes a level


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_config()
    parser.add_data_dir("prepared sets, whose training boxes are read")


def run(options: argparse.Namespace) -> None:
    """Prints lines on every task that has anchors."""
    for line in lines(schema.parse(options.config), options.data_dir):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def lines(config: schema.ExperimentConfig, data_dir: str) -> Iterator[str]:
    """Lines on every task that has anchors.

    Args:
      config: The whole config.
      data_dir: Folder of prepared sets.

    Raises:
      ValueError: If there is no such task.
      FileNotFoundError: If its set is not prepared.
    """
    found = {name: _places(config, name) for name in config.tasks}
    if not any(found.values()):
        raise ValueError(
            f"No task of the config finds boxes; its tasks are {sorted(found)}."
        )
    for name, where in found.items():
        if where is not None:
            yield from _task(name, where, config, data_dir)


def _places(
    config: schema.ExperimentConfig, name: str, **changed: int
) -> anchors.Places | None:
    """Where a task lays anchors, with some of its options of detection changed."""
    row = config.tasks[name]
    options = dataclasses.replace(row.detection, **changed)
    row = anchors.shared_out(dataclasses.replace(row, detection=options))
    one = dataclasses.replace(config, tasks={name: row})
    return anchors.places(estimate.build_tasks(one, {})[name], config.backbone)


def _task(
    name: str, where: anchors.Places, config: schema.ExperimentConfig, data_dir: str
) -> Iterator[str]:
    task = config.tasks[name]
    dataset = config.datasets[task.dataset]
    folder = sources.locate(data_dir, task.dataset, dataset)
    source = sources.open_prepared(folder, "train", dataset.splits)
    box, images = anchors.training_boxes(source, task, config.input.fit)
    if not len(box):
        raise ValueError(f"config.tasks.{name}: no picture of split 'train' has a box.")
    side = np.sqrt(np.prod(box[:, 2:] - box[:, :2], axis=1))
    low, middle, high = np.quantile(side, (0.05, 0.5, 0.95))
    yield (
        f"{name}: {len(box)} boxes in {images} images of split 'train', at "
        f"{task.image_size} pixels; sides {low:.0f}, {middle:.0f}, {high:.0f} "
        "(5, 50, 95 %)"
    )
    row, levels = task.detection, len(where.counts)
    each, left = divmod(len(row.anchor_sizes), levels)
    if left:
        yield f"  as it is: {levels} levels cannot share {len(row.anchor_sizes)} sizes"
    else:
        now = anchors.measure(box, where, row.anchor_sizes, row.anchor_ratios)
        yield f"  as it is, {each} a level: {_words(now)}"
    yield from _fitted(name, box, where, row, "")
    other = 5 - row.finest_level  # P2 or P3
    there = _places(config, name, finest_level=other)
    if there and there != where:
        yield f"  with finest_level={other}:"
        yield from _fitted(name, box, there, row, f"finest_level={other}, ")


def _fitted(
    name: str,
    box: np.ndarray,
    where: anchors.Places,
    row: schema.DetectionConfig,
    also: str,
) -> Iterator[str]:
    """Lines on fitted anchors; `also` is what else their line for the config sets."""
    for each in range(1, _MOST + 1):
        best = anchors.fitted(box, where, each=each, ratios=len(row.anchor_ratios))
        best = anchors.measure(box, where, best.sizes, best.ratios)  # of all boxes
        sizes, ratios = (
            "".join(f"{number:g}, " for number in numbers).rstrip()
            for numbers in (best.sizes, best.ratios)
        )
        yield f"  {each} a level: {_words(best)}"
        yield (
            f"    config.tasks.{name}.detection.update({also}anchor_sizes=({sizes}), "
            f"anchor_ratios=({ratios}))"
        )


def _words(found: anchors.Anchors) -> str:
    return (
        f"{100 * found.met:.1f} % of boxes overlap an anchor by half or more; mean "
        f"overlap {found.overlap:.2f}"
    )
