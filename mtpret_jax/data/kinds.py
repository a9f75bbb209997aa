"""What each kind of task needs of a prepared set: one class a kind, and their table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import boxes, labels, landmarks, masks, sources, transforms, values
from mtpret_jax.data import kind as kind_lib

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types


class Segmentation(kind_lib.Kind):
    """A mask of class indices."""

    wanted = "a mask"

    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        return task.kind, names.mask_names

    def metadata(self, task: config.TaskConfig, names: Sequence[str]) -> types.Names:
        return {"mask_names": names}

    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        return "" if source.metadata.mask_names else "has no masks to segment."

    def is_usable(self, row: kind_lib.Row, task: config.TaskConfig) -> bool:
        return row["has_mask"] in ("1", "True")

    def labels(self, row: kind_lib.Row, task: config.TaskConfig) -> Iterable[str]:
        return ("mask",)

    def targets(
        self,
        example: types.Example,
        task: config.TaskConfig,
        matrix: np.ndarray,
        shape: tuple[int, int],
        *,
        whole: bool,
    ) -> types.Example:
        mask = transforms.decode(example["mask"])
        if mask.shape != shape:
            raise ValueError(
                f"The mask of record {example['record']} has {mask.shape} pixels, its "
                f"image {shape}. Prepare the set again with --rebuild."
            )
        warped = masks.warp(mask, matrix, size=task.image_size)
        pixel_known = warped != masks.UNKNOWN_CLASS
        targets = {
            "segmentation": np.where(pixel_known, warped, np.uint8(0)),
            "pixel_known": pixel_known,
        }
        if whole:
            width, height = 1 / np.diag(matrix)[:2]  # Nothing is turned here.
            targets["pixel_size"] = np.array([height, width], np.float32)
            targets["outside"] = masks.count_outside(mask, matrix, size=task.image_size)
        return targets

    def blank(self, task: config.TaskConfig, classes: int) -> types.Example:
        shape = (task.batch_size, task.image_size, task.image_size)
        return {
            "segmentation": np.zeros(shape, np.uint8),
            "pixel_known": np.ones(shape, bool),
        }


class Detection(kind_lib.Kind):
    """Boxes, each of a class; none may be right."""

    wanted = "known boxes"

    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        return task.kind, names.object_names

    def metadata(self, task: config.TaskConfig, names: Sequence[str]) -> types.Names:
        return {"object_names": names}

    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        return "" if source.metadata.object_names else "has no boxes to detect."

    def is_usable(self, row: kind_lib.Row, task: config.TaskConfig) -> bool:
        return row["n_boxes"] != ""

    def labels(self, row: kind_lib.Row, task: config.TaskConfig) -> Iterable[str]:
        return (str(int(row["n_boxes"]) > 0),)

    def positives(
        self,
        rows: Sequence[kind_lib.Row],
        task: config.TaskConfig,
        names: Sequence[str],
    ) -> int:
        return sum(int(row["n_boxes"]) > 0 for row in rows)

    def refuse(
        self, rows: Sequence[kind_lib.Row], task: config.TaskConfig, split: str
    ) -> str:
        most, room = max(int(row["n_boxes"]) for row in rows), task.detection.max_boxes
        if most > room:
            return (
                f".detection.max_boxes: expected at least {most}, the boxes of a "
                f"picture of split '{split}'; got {room}."
            )
        if split != "train":
            return ""
        if task.balanced_sampling and all(int(row["n_boxes"]) for row in rows):
            return (
                ".balanced_sampling: every picture of split 'train' has a box; there "
                "are none without to draw as often. Leave it out."
            )
        return "" if most else ": no picture of split 'train' has a box."

    def boxes(self, example: types.Example) -> np.ndarray | None:
        return example["box"]

    def targets(
        self,
        example: types.Example,
        task: config.TaskConfig,
        matrix: np.ndarray,
        shape: tuple[int, int],
        *,
        whole: bool,
    ) -> types.Example:
        height, width = shape
        box = boxes.warp(
            example["box"], matrix, height=height, width=width, size=task.image_size
        )
        keep = boxes.area(box) > 0
        if not whole:
            box, keep = boxes.clip(box)
        return boxes.pad(
            box[keep], example["box_class"][keep], max_boxes=task.detection.max_boxes
        )

    def blank(self, task: config.TaskConfig, classes: int) -> types.Example:
        shape = (task.batch_size, task.detection.max_boxes)
        return {
            "box": np.zeros((*shape, 4), np.float32),
            "box_class": np.zeros(shape, np.int32),
            "box_valid": np.zeros(shape, bool),
        }


KINDS: Mapping[str, kind_lib.Kind] = {
    "classification": labels.Classification(),
    "segmentation": Segmentation(),
    "detection": Detection(),
    "regression": values.Regression(),
    "ordinal": labels.Ordinal(),
    "landmarks": landmarks.Landmarks(),
}


def usable_records(source: sources.Source, task: config.TaskConfig) -> np.ndarray:
    """Records of a split that the task can learn from, int32 [records], rising.

    Raises:
      ValueError: If none is left, or the set has nothing for this kind of task.
    """
    if task.kind not in KINDS:
        raise ValueError(f"Unknown task kind {task.kind!r}. Known: {sorted(KINDS)}.")
    kind = KINDS[task.kind]
    if lack := kind.lack(source, task):
        raise ValueError(f"Dataset {source.name!r} {lack}")
    records = [i for i, row in enumerate(source.index) if kind.is_usable(row, task)]
    if not records:
        raise ValueError(
            f"Split {source.split!r} of dataset {source.name!r} has no example with "
            f"{kind.wanted} for a {task.kind} task ({len(source)} records without). "
            "Give the task another dataset, or prepare the set with these annotations."
        )
    return np.asarray(records, np.int32)
