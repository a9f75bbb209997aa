"""Which labels of a split a run may use: a nested part of it, group by group.

A part with a larger fraction holds every smaller one of the same seed. It is a pure
function of the index, so every process and every later run finds the same.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import kinds, sources

Row = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Subset:
    """A part of a split.

    Attributes:
      seed: What decides the choice; another seed draws other groups.
      fraction: Share of the groups of each stratum, rounded up, (0, 1].
      most: Records kept of these, evenly of all strata and whatever the seed; 0: all.
      excluded: The `image_id` of images that must not be read.
    """

    seed: int = 0
    fraction: float = 1.0
    most: int = 0
    excluded: Collection[str] = frozenset()


ALL = Subset()


def usable_records(
    source: sources.Source, task: config.TaskConfig, subset: Subset = ALL
) -> np.ndarray:
    """Records of a split with labels for the task that may be used.

    Returns:
      int32 [records], rising; not empty.

    Raises:
      ValueError: As `kinds.usable_records`, or if all are excluded.
    """
    records = kinds.usable_records(source, task)
    ids = [source.index[record]["image_id"] for record in records]
    records = records[[name not in subset.excluded for name in ids]]
    if not len(records):
        raise ValueError(
            f"All {len(ids)} training images of dataset {source.name!r} are excluded, "
            "since validation or test splits hold them again. Give the set other "
            "splits, or set exclude_copies to False to train on them nevertheless."
        )
    return choose(source.index, records, task, subset)


def choose(
    rows: Sequence[Row],
    records: np.ndarray,
    task: config.TaskConfig,
    subset: Subset,
) -> np.ndarray:
    """The records whose group is in the part.

    A group's stratum is the label that the fewest groups have of those it has (so a
    part has at least two classes if the split has); for boxes, whether it has any; for
    numbers, the quarter of them that it is in; for masks there is one. In each, groups
    come in the order of a hash of seed, set and group, and the first are taken.

    Args:
      rows: The split's index.
      records: Positions in `rows` that the task can use, int32 [records].
      task: Its set, kind and target.
      subset: The part.

    Returns:
      int32, rising: some of `records`, at least one of each stratum (as far as `most`
      allows).
    """
    if subset.fraction < 1:
        records = _of_groups(rows, records, task, subset)
    if not 0 < subset.most < len(records):
        return records
    images = _held(records, lambda record: f"image {rows[record]['image_id']}")
    # A place in its stratum from 0 to 1, so that every beginning holds of each alike.
    places = [
        (number / len(members), _rank(0, task.dataset, image), images[image])
        for members in _strata(rows, images, task, 0)
        for number, image in enumerate(members)
    ]
    chosen = [record for *_, held in sorted(places) for record in held]
    return np.asarray(sorted(chosen[: subset.most]), np.int32)


def _of_groups(
    rows: Sequence[Row],
    records: np.ndarray,
    task: config.TaskConfig,
    subset: Subset,
) -> np.ndarray:
    """The fraction of `choose`."""
    groups = _held(records, lambda record: group_of(rows[record]))
    chosen: list[int] = []
    for members in _strata(rows, groups, task, subset.seed):
        # A fraction such as 0.07 of 100 groups is 7 of them, not 8.
        count = math.ceil(round(subset.fraction * len(members), 9))
        for group in members[:count]:
            chosen += groups[group]
    return np.asarray(sorted(chosen), np.int32)


def _held(records: np.ndarray, name: Callable[[int], str]) -> dict[str, list[int]]:
    """The records of each name."""
    held: dict[str, list[int]] = {}
    for record in records.tolist():
        held.setdefault(name(record), []).append(record)
    return held


def _strata(
    rows: Sequence[Row],
    groups: Mapping[str, Sequence[int]],
    task: config.TaskConfig,
    seed: int,
) -> list[list[str]]:
    """The groups of each stratum, in the order that `choose` takes them."""
    kind = kinds.KINDS[task.kind]
    records = [record for held in groups.values() for record in held]
    found = kind.strata([rows[record] for record in records], task)
    of_record = dict(zip(records, found, strict=True))
    labels = {
        group: {label for record in held for label in of_record[record]}
        for group, held in groups.items()
    }
    holders = collections.Counter(label for found in labels.values() for label in found)
    strata: dict[str, list[str]] = {}
    for group, found in labels.items():
        rarest = min(found, key=lambda label: (holders[label], label))
        strata.setdefault(rarest, []).append(group)
    for members in strata.values():
        members.sort(key=lambda group: _rank(seed, task.dataset, group))
    return list(strata.values())


def group_of(row: Row) -> str:
    """Whom an image is of; images of nobody known are groups of their own."""
    return f"group {row['group']}" if row["group"] else f"image {row['image_id']}"


def _rank(seed: int, dataset: str, group: str) -> str:
    return hashlib.sha256(f"{seed}|{dataset}|{group}".encode()).hexdigest()


def describe(
    source: sources.Source, task: config.TaskConfig, subset: Subset = ALL
) -> dict[str, Any]:
    """What a report says of the labels that were used.

    Returns:
      `fraction`; how many `records` and `groups`, and `positives`, those of what is
      rarest; `sha256` of the images' identifiers, a line each, in order.
    """
    records = usable_records(source, task, subset)
    rows = source.index
    kind = kinds.KINDS[task.kind]
    _, names = kind.headings(task, source.metadata)
    used = [rows[record] for record in records]
    lines = "".join(f"{rows[record]['image_id']}\n" for record in records)
    return {
        "fraction": subset.fraction,
        "records": len(records),
        "groups": len({group_of(rows[record]) for record in records}),
        "positives": kind.positives(used, task, names),
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }
