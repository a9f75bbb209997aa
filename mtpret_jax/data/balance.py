"""How rare each class is among the labels that a run uses, and what makes up for it.

Positives are counted in the index, so that not every picture is read for them. It does
not tell a label that nobody knows, of an image with others that are known, from a
negative one; the share of these is looked up in some records.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import kinds, sources

LOOKED_UP = 1000  # records, evenly spaced: seconds from a disk


def class_weights(
    source: sources.Source, task: config.TaskConfig, records: np.ndarray
) -> np.ndarray | None:
    """What each class weighs in the loss, float32 [L]; None where all weigh alike.

    A class without an image, or one that every image has, gets 1. How many labels are
    unknown is exact up to `LOOKED_UP` records, beyond that an estimate.

    Args:
      source: The train split.
      task: The task.
      records: Those of the split that are used, int32 [N].

    Source:
      Of classes that exclude each other scikit-learn's "balanced", N / (K n) for the n
      images of a class and the K classes that have any; else the `pos_weight` that
      PyTorch's BCEWithLogitsLoss advises, negatives / positives.
    """
    if not task.class_weights:
        return None
    _, names = kinds.KINDS[task.kind].headings(task, source.metadata)
    counts = collections.Counter(
        itertools.chain.from_iterable(_labels(source, task, records))
    )
    found = np.array([counts[name] for name in names], float)
    total, known = len(records), np.count_nonzero(found)
    if task.exclusive:
        wanted = np.full(len(found), total / known)
    else:
        wanted = np.rint(total * (1 - _unknown(source, task, records))) - found
    has_both = (found > 0) & (wanted > 0)
    return np.where(has_both, wanted / np.maximum(found, 1), 1.0).astype(np.float32)


def _unknown(
    source: sources.Source, task: config.TaskConfig, records: np.ndarray
) -> np.ndarray:
    """Share of the records for which each label is not known, float64 [L]."""
    some = np.linspace(0, len(records) - 1, min(len(records), LOOKED_UP)).astype(int)
    labels = [source[record][f"labels/{task.target}"] for record in records[some]]
    return (np.stack(labels) == -1).mean(axis=0)


def chances(
    source: sources.Source, task: config.TaskConfig, records: np.ndarray
) -> np.ndarray:
    """How often each record is drawn where every class is alike, float64 [N].

    Of many findings one is drawn, or none, and then an image that has it. Arguments are
    as for `class_weights`.

    Source:
      The weights that PyTorch's WeightedRandomSampler is mostly given, 1 / n.
    """
    labels = _labels(source, task, records)
    counts = collections.Counter(itertools.chain.from_iterable(labels))
    return np.array([sum(1 / counts[label] for label in each) for each in labels])


def _labels(
    source: sources.Source, task: config.TaskConfig, records: np.ndarray
) -> list[Iterable[str]]:
    """What each record has; see `kinds.Kind.labels`."""
    kind = kinds.KINDS[task.kind]
    return [kind.labels(source.index[record], task) for record in records.tolist()]
