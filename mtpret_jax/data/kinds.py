"""What each kind of task needs of a prepared set: one class a kind, and their table."""

from __future__ import annotations

import abc
import collections
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import boxes, masks, sources, transforms

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types

Row = Mapping[str, str]


class Kind(abc.ABC):
    """A kind of task, as its records are concerned.

    Attributes:
      wanted: What a record must have, in words.
      has_studies: Whether predictions of one study are also measured together.
    """

    wanted: str
    has_studies = False

    @abc.abstractmethod
    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        """What the classes are classes of, in words, and their names in the set."""

    @abc.abstractmethod
    def metadata(
        self, task: config.TaskConfig, names: Sequence[str]
    ) -> dict[str, object]:
        """The names of classes where `sources.Metadata` has them."""

    @abc.abstractmethod
    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        """What a set lacks for the task, as the end of a sentence; "" for nothing."""

    @abc.abstractmethod
    def is_usable(self, row: Row, task: config.TaskConfig) -> bool:
        """Whether a record can be learnt from."""

    @abc.abstractmethod
    def labels(self, row: Row, task: config.TaskConfig) -> Iterable[str]:
        """By what usable records are counted, to draw a part of them, or all alike."""

    def positives(
        self, rows: Sequence[Row], task: config.TaskConfig, names: Sequence[str]
    ) -> int:
        """How many of some usable records there are of what is rarest."""
        del task, names
        return len(rows)

    def refuse(self, rows: Sequence[Row], task: config.TaskConfig, split: str) -> str:
        """Why they can't be used, to follow the name of the task; "" if they can."""
        del rows, task, split
        return ""

    def boxes(self, example: types.Example) -> np.ndarray | None:
        """Boxes around which a view may be put, float32 [N, 4], or None."""
        del example
        return None

    @abc.abstractmethod
    def targets(
        self,
        example: types.Example,
        task: config.TaskConfig,
        matrix: np.ndarray,
        shape: tuple[int, int],
        *,
        whole: bool,
    ) -> types.Example:
        """The targets of an example.

        Args:
          example: As `sources.Source` gives it.
          task: Its options.
          matrix: Stored picture to square, [3, 3].
          shape: Height and width of the stored picture.
          whole: Whether all of the picture counts, and not the view alone.
        """

    @abc.abstractmethod
    def blank(self, task: config.TaskConfig, classes: int) -> types.Example:
        """Targets of a whole batch, in the shapes of `mtpret_jax.types`."""


class Classification(Kind):
    """Labels of a column; -1 is unknown."""

    wanted = "a known label"
    has_studies = True

    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        return f"label '{task.target}'", names.label_names.get(task.target, ())

    def metadata(
        self, task: config.TaskConfig, names: Sequence[str]
    ) -> dict[str, object]:
        return {"label_names": {task.target: names}}

    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        known = sorted(source.metadata.label_names)
        if task.target in known:
            return ""
        near = difflib.get_close_matches(task.target, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return (
            f"has no label column {task.target!r} (a task's `target`); it has "
            f"{known}.{hint}"
        )

    def is_usable(self, row: Row, task: config.TaskConfig) -> bool:
        return row[task.target] != ""

    def labels(self, row: Row, task: config.TaskConfig) -> Iterable[str]:
        return row[task.target].split("|")

    def positives(
        self, rows: Sequence[Row], task: config.TaskConfig, names: Sequence[str]
    ) -> int:
        images = collections.Counter(
            label for row in rows for label in self.labels(row, task)
        )
        return min(images[name] for name in names)

    def refuse(self, rows: Sequence[Row], task: config.TaskConfig, split: str) -> str:
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


class Segmentation(Kind):
    """A mask of class indices."""

    wanted = "a mask"

    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        return task.kind, names.mask_names

    def metadata(
        self, task: config.TaskConfig, names: Sequence[str]
    ) -> dict[str, object]:
        return {"mask_names": names}

    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        return "" if source.metadata.mask_names else "has no masks to segment."

    def is_usable(self, row: Row, task: config.TaskConfig) -> bool:
        return row["has_mask"] in ("1", "True")

    def labels(self, row: Row, task: config.TaskConfig) -> Iterable[str]:
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


class Detection(Kind):
    """Boxes, each of a class; none may be right."""

    wanted = "known boxes"

    def headings(
        self, task: config.TaskConfig, names: sources.Metadata
    ) -> tuple[str, Sequence[str]]:
        return task.kind, names.object_names

    def metadata(
        self, task: config.TaskConfig, names: Sequence[str]
    ) -> dict[str, object]:
        return {"object_names": names}

    def lack(self, source: sources.Source, task: config.TaskConfig) -> str:
        return "" if source.metadata.object_names else "has no boxes to detect."

    def is_usable(self, row: Row, task: config.TaskConfig) -> bool:
        return row["n_boxes"] != ""

    def labels(self, row: Row, task: config.TaskConfig) -> Iterable[str]:
        return (str(int(row["n_boxes"]) > 0),)

    def positives(
        self, rows: Sequence[Row], task: config.TaskConfig, names: Sequence[str]
    ) -> int:
        return sum(int(row["n_boxes"]) > 0 for row in rows)

    def refuse(self, rows: Sequence[Row], task: config.TaskConfig, split: str) -> str:
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


KINDS: Mapping[str, Kind] = {
    "classification": Classification(),
    "segmentation": Segmentation(),
    "detection": Detection(),
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
