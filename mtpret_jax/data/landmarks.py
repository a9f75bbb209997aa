"""Landmarks of a picture: what a task needs of them, and how they move with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import kind, sources

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types


class Landmarks(kind.Kind):
    """Points, each with a name; some may be unknown."""

    wanted = "known landmarks"

    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        return task.kind, names.landmark_names

    def metadata(self, task: config.TaskConfig, names: Sequence[str]) -> types.Names:
        return {"landmark_names": names}

    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        if not source.metadata.landmark_names:
            return "has no landmarks to find."
        if task.augment.flip_probability and source.metadata.mirrored is None:
            return (
                "has no pairs of landmarks called left_… and right_…, or one of them "
                "without its partner, so that those of a mirrored image are not known: "
                "set augment.flip_probability of the task to 0."
            )
        return ""

    def is_usable(self, row: kind.Row, task: config.TaskConfig) -> bool:
        return row["n_landmarks"] not in ("", "0")

    def labels(self, row: kind.Row, task: config.TaskConfig) -> Iterable[str]:
        return ("known",)

    def targets(
        self,
        example: types.Example,
        task: config.TaskConfig,
        matrix: np.ndarray,
        shape: tuple[int, int],
        *,
        whole: bool,
    ) -> types.Example:
        point = warp(example["landmarks"], matrix, shape=shape, size=task.image_size)
        if np.linalg.det(matrix) < 0:
            point = point[example["landmark_mirrored"]]
        known = np.isfinite(point).all(axis=1)
        if not whole:
            known &= ((point >= 0) & (point <= 1)).all(axis=1)
        targets = {
            "landmark": np.where(known[:, np.newaxis], point, 0).astype(np.float32),
            "landmark_known": known,
        }
        if whole:
            width, height = task.image_size / np.diag(matrix)[:2]  # Nothing is turned.
            spacing = example.get("spacing", np.nan)
            targets["extent"] = np.array([height, width], np.float32)
            targets["longer_side"] = np.asarray(max(shape), np.float32)
            targets["spacing"] = np.asarray(spacing, np.float32)
        return targets

    def blank(self, task: config.TaskConfig, classes: int) -> types.Example:
        shape = (task.batch_size, classes)
        return {
            "landmark": np.full((*shape, 2), 0.5, np.float32),
            "landmark_known": np.ones(shape, bool),
        }


def warp(
    point: np.ndarray, matrix: np.ndarray, *, shape: tuple[int, int], size: int
) -> np.ndarray:
    """Moves points with the picture, also beyond the square's border.

    Args:
      point: y, x as fractions of the stored image, float32 [P, 2]; NaN where unknown.
      matrix: Stored picture to square, [3, 3]; see `transforms`.
      shape: Height and width of the stored image, pixels.
      size: Side of the square, pixels.

    Returns:
      The same of the square, float64 [P, 2].
    """
    x_y = (point.astype(np.float64) * shape)[:, ::-1]
    return (x_y @ matrix[:2, :2].T + matrix[:2, 2])[:, ::-1] / size
