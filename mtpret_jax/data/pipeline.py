"""Streams of batches whose position is a pure function of the step.

A stream opened at `first_batch=k` yields what the uninterrupted one yields from batch k
on, and the global batch holds the same examples in the same order for any number of
shards: a shard takes consecutive rows of it. Nothing of a stream needs saving.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import types as python_types
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import grain
import numpy as np

from mtpret_jax import config, types
from mtpret_jax.data import (
    balance,
    elements,
    mixing,
    readers,
    sources,
    subsets,
    transforms,
)

_NOTHING: Mapping[str, Any] = python_types.MappingProxyType({})
_FEWEST_THREADS = 4
_MOST_WORKERS = 32  # by default: they feed 30,000 pairs of views a second


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which part of every global batch this process gets.

    Attributes:
      index: From 0.
      count: Number of processes that share a batch.
    """

    index: int = 0
    count: int = 1


class Stream(Iterator[types.Batch]):
    """Batches read and augmented ahead; see `readers`."""

    def __init__(
        self, dataset: grain.MapDataset, *, task: str, settings: config.InputConfig
    ) -> None:
        self._task = task
        self._ahead = readers.Ahead(
            dataset,
            threads=count_threads(settings),
            workers=max(0, settings.workers),
            batches=settings.buffer,
        )

    def __next__(self) -> types.Batch:
        return types.Batch(arrays=next(self._ahead), task=self._task)

    def close(self) -> None:
        """Stops reading ahead. The stream must not be used afterwards."""
        self._ahead.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def count_threads(settings: config.InputConfig) -> int:
    """Threads that read: as many as the config says, or as this machine can use."""
    return settings.threads or max(_FEWEST_THREADS, count_cores())


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on every system.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_workers(
    settings: config.InputConfig, *, is_accelerator: bool
) -> config.InputConfig:
    """Settles how many processes read where the config leaves it open.

    On a CPU device threads do: processes take seconds to start and a few hundred MiB
    each, and the steps need the cores themselves.
    """
    if settings.workers >= 0:
        return settings
    most = min(count_cores(), _MOST_WORKERS) if is_accelerator else 0
    return dataclasses.replace(settings, workers=most)


def train_stream(
    name: str,
    task: config.TaskConfig,
    input_config: config.InputConfig,
    source: sources.Source,
    *,
    seed: int,
    subset: subsets.Subset = subsets.ALL,
    first_batch: int = 0,
    shard: Shard = Shard(),
) -> Stream:
    """Endless augmented batches of a task's train split, shuffled anew each epoch.

    A set smaller than a batch is repeated within it. With `balanced_sampling` there are
    no epochs: each record is drawn by itself.

    Args:
      name: The task's name, which becomes `Batch.task`.
      task: The task; `batch_size` is that of the global batch.
      input_config: Fit, normalisation, threads and buffer.
      source: The train split of the task's dataset.
      seed: What order and augmentation are drawn from, by each task its own.
      subset: The part of the split whose labels may be used.
      first_batch: Index of the first batch to yield.
      shard: Part of each global batch to yield.

    Raises:
      ValueError: If nothing in the split can be used, or shards do not divide a batch.
    """
    rows = _rows_per_shard(
        task.batch_size, shard, option=f"config.tasks.{name}.batch_size"
    )
    records = subsets.usable_records(source, task, subset)
    weight = balance.class_weights(source, task, records)
    prepare = elements.TaskElement(source, task, input_config, label_weight=weight)
    order = _derive(seed, "shuffle", name)
    examples = mixing.Examples(
        [prepare.random],
        [
            mixing.Draws(records, balance.chances(source, task, records), order)
            if task.balanced_sampling
            else mixing.Epochs(records, order)
        ],
        [_derive(seed, "augment", name)],
    )
    batches = _training_batches(examples, rows, shard, first_batch)
    return Stream(batches, task=name, settings=input_config)


def eval_batches(
    name: str,
    task: config.TaskConfig,
    input_config: config.InputConfig,
    source: sources.Source,
    *,
    subset: subsets.Subset = subsets.ALL,
    shard: Shard = Shard(),
    batch_size: int | None = None,
    statistics: transforms.Statistics | None = None,
) -> Stream:
    """Every usable example of a split once, in order, without chance.

    The last batch is filled with examples of zeros whose `example_valid` is False and
    whose `record` is -1, so all shards yield equally many batches of one shape.

    Args:
      name: The task's name, which becomes `Batch.task`.
      task: The task.
      input_config: Fit, normalisation, threads and buffer.
      source: The split of the task's dataset.
      subset: The part of the split whose labels may be used.
      shard: Part of each global batch to yield.
      batch_size: Examples of the global batch; the task's own when None.
      statistics: Mean and deviation to normalise by, in place of the set's own.

    Raises:
      ValueError: If nothing in the split can be used, or shards do not divide a batch.
    """
    if batch_size is None:
        batch_size = task.batch_size
    rows = _rows_per_shard(batch_size, shard, option=f"config.tasks.{name}.batch_size")
    records = subsets.usable_records(source, task, subset)
    missing = -len(records) % batch_size
    padded = np.concatenate([records, np.full(missing, -1, np.int32)])
    prepare = elements.TaskElement(source, task, input_config, statistics)
    batches = grain.MapDataset.source(padded.tolist()).map(prepare).batch(rows)
    return Stream(batches[shard.index :: shard.count], task=name, settings=input_config)


def contrastive_stream(
    name: str,
    settings: config.ContrastiveConfig,
    input_config: config.InputConfig,
    opened: Mapping[str, sources.Source],
    *,
    seed: int,
    excluded: Mapping[str, Collection[str]] = _NOTHING,
    taught: Mapping[str, np.ndarray] = _NOTHING,
    first_batch: int = 0,
    shard: Shard = Shard(),
) -> Stream:
    """Endless batches of two views of each image, from the train splits of many sets.

    And of `settings.local_views` small ones. A positive view lies in another row than
    its query, which `partner` tells; see `mixing`. Each view is read where it lies.

    Sets are interleaved in fixed proportions, weight times size to the power
    `size_exponent` (to within a hundredth of the smallest); each is repeated before
    mixing, so a small set never ends the stream. `record` is the position in the train
    splits joined in the order of `settings.datasets`, excluded images counted, too.

    Args:
      name: The stream's name, which becomes `Batch.task`.
      settings: Sets, weights, image size, batch size and augmentation.
      input_config: Fit, normalisation, threads and buffer.
      opened: Dataset name to its train split.
      seed: What order and augmentation are drawn from.
      excluded: Dataset name to the `image_id` of images that must not be read.
      taught: Dataset name to features that come with the views of each record.
      first_batch: Index of the first batch to yield.
      shard: Part of each global batch to yield.

    Raises:
      ValueError: If there is no set, a train split is empty or wholly excluded, or
        shards do not divide a batch.
    """
    rows = _rows_per_shard(settings.batch_size, shard, option="contrastive.batch_size")
    epochs, proportions = [], []
    for dataset, weight in settings.datasets.items():
        records = pool_records(opened[dataset], excluded.get(dataset, ()))
        order = _derive(seed, "shuffle", dataset)
        epochs.append(mixing.Epochs(np.asarray(records), order))
        proportions.append(weight * len(records) ** settings.size_exponent)

    def examples(which: str, small_views: int) -> mixing.Examples:
        seeds = [_derive(seed, "augment", which, name) for name in settings.datasets]
        views = _views(settings, input_config, opened, taught, small_views)
        return mixing.Examples(views, epochs, seeds, proportions)

    pairs = mixing.Pairs(
        examples("query", settings.local_views),
        examples("positive", 0),
        seed=_derive(seed, "partners"),
        batch_size=settings.batch_size,
        rows=settings.batch_norm_rows or settings.batch_size,
    )
    batches = _training_batches(pairs, rows, shard, first_batch)
    return Stream(batches, task=name, settings=input_config)


def _views(
    settings: config.ContrastiveConfig,
    input_config: config.InputConfig,
    opened: Mapping[str, sources.Source],
    taught: Mapping[str, np.ndarray],
    small_views: int,
) -> list[elements.View]:
    """What reads a view of each set, all of one depth of pixels, records joined."""
    names = list(settings.datasets)
    pool = [opened[name] for name in names]
    depth = max((source.depth for source in pool), key=lambda depth: depth.itemsize)
    first = itertools.accumulate(map(len, pool), initial=0)
    return [
        elements.View(
            source,
            settings,
            input_config,
            first_record=start,
            depth=depth,
            small_views=small_views,
            teacher=taught.get(name),
        )
        for name, source, start in zip(names, pool, first, strict=False)
    ]


def pool_records(source: sources.Source, excluded: Collection[str]) -> list[int]:
    """Records of a train split that stage 1 may read, rising.

    Args:
      source: The split.
      excluded: The `image_id` of images that must not be read.

    Raises:
      ValueError: If the split is empty, or nothing of it is left.
    """
    if not len(source):
        raise ValueError(f"Split 'train' of dataset {source.name!r} is empty.")
    rows = enumerate(source.index)
    records = [record for record, row in rows if row["image_id"] not in excluded]
    if not records:
        raise ValueError(
            f"All {len(source)} training images of dataset {source.name!r} are "
            "excluded, since validation or test splits hold them again. Take the set "
            "out of contrastive.datasets, or set contrastive.pool to 'paper' to train "
            "on them nevertheless."
        )
    return records


def _rows_per_shard(batch_size: int, shard: Shard, *, option: str) -> int:
    if not 0 <= shard.index < shard.count:
        raise ValueError(
            f"Shard {shard.index} of {shard.count}: expected 0 <= index < count."
        )
    if batch_size < 1 or batch_size % shard.count:
        raise ValueError(
            f"{option} is {batch_size}; expected a positive multiple of the "
            f"{shard.count} processes that share it."
        )
    return batch_size // shard.count


def _training_batches(
    examples: mixing.Examples | mixing.Pairs, rows: int, shard: Shard, first_batch: int
) -> grain.MapDataset:
    """Batches of `rows`, of which every `shard.count`-th is this shard's."""
    batches = grain.MapDataset.source(mixing.Batches(examples, rows))
    batches = batches[shard.index :: shard.count]
    return batches[first_batch:] if first_batch else batches


def _derive(seed: int, *words: str) -> int:
    """A seed for one purpose, [0, 2**32): chains of two purposes share no draws."""
    text = "|".join([str(seed), *words])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
