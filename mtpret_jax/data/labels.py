"""What tasks of labels need of a prepared set: classes, in an order or not."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import kind, sources

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types


class Classification(kind.Kind):
    """Labels of a column; -1 is unknown."""

    wanted = "a known label"
    has_studies = True

    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        return f"label '{task.target}'", names.label_names.get(task.target, ())

    def metadata(self, task: config.TaskConfig, names: Sequence[str]) -> types.Names:
        return {"label_names": {task.target: names}}

    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        known = source.metadata.label_names
        return kind.lack_of_column(task.target, "target", "label", known)

    def is_usable(self, row: kind.Row, task: config.TaskConfig) -> bool:
        return row[task.target] != ""

    def labels(self, row: kind.Row, task: config.TaskConfig) -> Iterable[str]:
        return row[task.target].split("|")

    def positives(
        self, rows: Sequence[kind.Row], task: config.TaskConfig, names: Sequence[str]
    ) -> int:
        images = collections.Counter(
            label for row in rows for label in self.labels(row, task)
        )
        return min(images[name] for name in names)

    def refuse(
        self, rows: Sequence[kind.Row], task: config.TaskConfig, split: str
    ) -> str:
        found = {row[task.target] for row in rows}
        if split != "train" or len(found) > 1:
            return ""
        return (
            f": every image of split 'train' is of class {sorted(found)}; at least two "
            "classes are needed to tell apart."
        )

    def targets(
        self,
        example: types.Example,
        task: config.TaskConfig,
        matrix: np.ndarray,
        shape: tuple[int, int],
        *,
        whole: bool,
    ) -> types.Example:
        del matrix, shape, whole  # A label does not move with the picture.
        label = example[f"labels/{task.target}"]  # int8 [L]: 1, 0, or -1 for unknown
        return {"label": (label == 1).astype(np.float32), "label_known": label != -1}

    def blank(self, task: config.TaskConfig, classes: int) -> types.Example:
        label = np.zeros((task.batch_size, classes), np.float32)
        found = {"label": label, "label_known": np.ones(label.shape, bool)}
        weight = {"label_weight": label + 1} if task.class_weights else {}
        return found | weight


class Ordinal(Classification):
    """Grades: labels whose order is that of the column's classes."""

    wanted = "a known grade"
    has_studies = False
