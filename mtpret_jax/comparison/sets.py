"""The prepared sets that encoders are judged on: images, labels and groups."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.data import kinds, sources, subsets
from mtpret_jax.metrics import classification
from tfds_builders import prepared

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """The images of a split that have labels for the task.

    Attributes:
      source: The split.
      records: Their positions in it, int32 [N], rising.
      label: 0 or 1, one-hot if classes exclude each other, float32 [N, L].
      known: Which labels are known, bool [N, L].
    """

    source: sources.Source
    records: np.ndarray
    label: np.ndarray
    known: np.ndarray

    @functools.cached_property
    def rows(self) -> list[prepared.Row]:
        """What the index says of each image."""
        return [self.source.index[record] for record in self.records]

    @property
    def image_ids(self) -> list[str]:
        """How the set calls each image."""
        return [row["image_id"] for row in self.rows]

    @functools.cached_property
    def groups(self) -> np.ndarray:
        """Whom each image is of, str [N]."""
        return np.array([subsets.group_of(row) for row in self.rows])

    def records_of(self, probability: np.ndarray) -> dict[str, np.ndarray]:
        """What a metric of labels summarises; `probability` is float [N, L]."""
        return {
            "probability": probability,
            "label": self.label,
            "label_known": self.known,
            "record": self.records,
        }


@dataclasses.dataclass(frozen=True)
class Task:
    """A row of `config.tasks` with its prepared set.

    Attributes:
      name: Name of the row.
      row: Its options.
      made: What the set's `preparation.json` says; see `sources.describe`.
      metric: Turns predictions into values.
      splits: The splits by name.
      owners: Whom each image of all splits is of, by its `image_id`.
    """

    name: str
    row: schema.TaskConfig
    made: Mapping[str, Any]
    metric: classification.ClassificationMetric
    splits: Mapping[str, Split]
    owners: Mapping[str, str]


def choose(config: schema.ExperimentConfig, names: Iterable[str]) -> list[str]:
    """The tasks that are judged: those named, or all that can be probed.

    Raises:
      ValueError: If one is not known or can't be probed, or none is left.
    """
    asked = list(dict.fromkeys(names))
    for name in asked:
        if name not in config.tasks:
            raise ValueError(
                f"--tasks: '{name}' is no row of config.tasks; it has "
                f"{list(config.tasks)}."
            )
        if not config.tasks[name].can_be_probed:
            raise ValueError(
                f"--tasks: '{name}' is of kind '{config.tasks[name].kind}'; frozen "
                "features are judged by tasks of classes alone. Leave it out, and see "
                "docs/compare.md for a study of others."
            )
    found = asked or [n for n, row in config.tasks.items() if row.can_be_probed]
    if not found:
        raise ValueError(
            "config.tasks: none is of classes, which features could be judged by."
        )
    return found


def read(
    config: schema.ExperimentConfig, name: str, data_dir: sources.PathLike
) -> Task:
    """Reads labels and groups of a task's splits, no pixels.

    Args:
      config: The config.
      name: A row of its tasks.
      data_dir: Folder of the prepared sets.

    Raises:
      FileNotFoundError: If the set is not prepared there.
      ValueError: If it has nothing for the task.
    """
    row = config.tasks[name]
    dataset = config.datasets[row.dataset]
    folder = sources.locate(data_dir, row.dataset, dataset)
    splits = {part: _read_split(folder, part, dataset.splits, row) for part in SPLITS}
    names = splits["test"].source.metadata
    _, classes = kinds.KINDS[row.kind].headings(row, names)
    return Task(
        name=name,
        row=row,
        made=dict(sources.describe(folder, dataset.splits)),
        metric=classification.ClassificationMetric(tuple(classes), row.exclusive),
        splits=splits,
        owners={
            each["image_id"]: subsets.group_of(each)
            for each in prepared.read_index(epath.Path(folder))
        },
    )


def _read_split(
    folder: epath.Path, part: str, splits: str, row: schema.TaskConfig
) -> Split:
    """A split with its labels."""
    source = sources.open_prepared(folder, part, splits)
    records = kinds.usable_records(source, row)
    label = np.stack([source[int(n)][f"labels/{row.target}"] for n in records])
    return Split(source, records, (label == 1).astype(np.float32), label != -1)
