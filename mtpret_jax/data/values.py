"""What tasks of numbers need of a prepared set: a value column, and its scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import kind, sources

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types

_QUARTERS = 4  # parts of equal size by which a share of the labels is drawn


class Regression(kind.Kind):
    """Numbers of a value column."""

    wanted = "a known value"
    has_scale = True

    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        return "values", [task.target] if task.target in names.values else []

    def metadata(self, task: config.TaskConfig, names: Sequence[str]) -> types.Names:
        return {"values": dict.fromkeys(names, "")}  # The unit is told by the scale.

    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        known = source.metadata.values
        lack = kind.lack_of_column(task.target, "target", "value", known)
        return lack or (_lack_of_second(source, task) if task.second_input else "")

    def is_usable(self, row: kind.Row, task: config.TaskConfig) -> bool:
        return row[task.target] != ""

    def labels(self, row: kind.Row, task: config.TaskConfig) -> Iterable[str]:
        return (task.target,)

    def strata(
        self, rows: Sequence[kind.Row], task: config.TaskConfig
    ) -> list[set[str]]:
        """The quarter of the values that each is in."""
        found = np.array([float(row[task.target]) for row in rows])
        ends = np.quantile(found, np.arange(1, _QUARTERS) / _QUARTERS)
        return [{str(place)} for place in np.searchsorted(ends, found, side="right")]

    def refuse(
        self, rows: Sequence[kind.Row], task: config.TaskConfig, split: str
    ) -> str:
        found = {float(row[task.target]) for row in rows}
        if split != "train" or len(found) > 1:
            return ""
        return f": every image of split 'train' has the value {found.pop():g}."

    def scale(self, source: sources.Source, task: config.TaskConfig) -> dict[str, Any]:
        rows = [row for row in source.index if self.is_usable(row, task)]
        found = np.array([float(row[task.target]) for row in rows])
        return {
            "mean": float(found.mean()),
            "deviation": float(found.std()) or 1.0,
            "unit": source.metadata.values[task.target],
            "second": task.second_names(source.metadata.label_names),
        }

    def second(
        self, source: sources.Source, task: config.TaskConfig
    ) -> np.ndarray | None:
        names = task.second_names(source.metadata.label_names)
        if not names:
            return None
        place = {name: number for number, name in enumerate(names)}
        told = [place.get(row.get(task.second_input, ""), -1) for row in source.index]
        return np.array(told, np.int32)

    def targets(
        self,
        example: types.Example,
        task: config.TaskConfig,
        matrix: np.ndarray,
        shape: tuple[int, int],
        *,
        whole: bool,
    ) -> types.Example:
        del matrix, shape, whole  # A number does not move with the image.
        return {"value": example[f"values/{task.target}"]}

    def blank(self, task: config.TaskConfig, classes: int) -> types.Example:
        del classes
        found = {"value": np.zeros(task.batch_size, np.float32)}
        second = {"second": np.zeros(task.batch_size, np.int32)}
        return found | (second if task.second_input else {})


def _lack_of_second(source: sources.Source, task: config.TaskConfig) -> str:
    """What a split lacks to tell a head the second input; "" for nothing."""
    column, labels = task.second_input, source.metadata.label_names
    if lack := kind.lack_of_column(column, "second_input", "label", {"sex", *labels}):
        return lack
    names = set(task.second_names(labels))
    told = {row.get(column, "") for row in source.index}
    several = sorted(cell for cell in told - names if "|" in cell)
    if several:
        return (
            f"has images of several classes of {column!r} (a task's `second_input`), "
            f"such as {several[0]!r}; a head is told one. Name another column."
        )
    if not told & names:
        return (
            f"has no image of split {source.split!r} whose {column!r} (a task's "
            "`second_input`) is known. Name another column, or none."
        )
    return ""
