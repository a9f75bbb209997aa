"""From a record number to one element of a batch: read, warp, add targets.

The arrays are those of the table in `mtpret_jax.types`, without the leading axis.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mtpret_jax import config
from mtpret_jax.data import augment, kinds, sources, transforms

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types

T = TypeVar("T")
_AREAS = 8  # the largest small view, over the smallest, as in DINO


class TaskElement:
    """Elements of a supervised task's batch.

    Called with a record it uses no chance; -1 gives padding, zeros with `record` -1 and
    `example_valid` False. `random` adds the task's augmentation and `label_weight`.
    """

    def __init__(
        self,
        source: sources.Source,
        task: config.TaskConfig,
        settings: config.InputConfig,
        statistics: transforms.Statistics | None = None,
        label_weight: np.ndarray | None = None,
    ) -> None:
        self._source = source
        self._task = task
        self._input = settings
        self._statistics = statistics or _statistics(source, settings)
        self._label_weight = label_weight
        kind = kinds.KINDS[task.kind]
        self._study = _studies(source) if kind.has_studies else None
        self._second = kind.second(source, task)

    def __call__(self, record: int) -> types.Example:
        """The element of evaluation."""
        if record < 0:
            padding = {k: np.zeros_like(v) for k, v in self(0).items()}
            padding["image_statistics"][1] = 1
            return padding | {"record": np.asarray(-1, np.int32)}
        example = _read(self._source, self._source.__getitem__, int(record))
        image = example["image"]
        view = transforms.plain_view(
            image,
            size=self._task.image_size,
            mode=self._input.fit,
            resample=self._input.resample,
        )
        element = self._assemble(example, image.shape, view, whole=True)
        if self._study is not None:
            element["study"] = self._study[record]
        return element

    def random(self, record: int, rng: np.random.Generator) -> types.Example:
        """The element of training."""
        example = _read(self._source, self._source.__getitem__, int(record))
        image = example["image"]
        view = augment.draw_view(
            rng,
            self._task.augment,
            image,
            size=self._task.image_size,
            mode=self._input.fit,
            resample=self._input.resample,
            box=kinds.KINDS[self._task.kind].boxes(example),
            box_probability=self._task.crop_box_probability,
        )
        element = self._assemble(example, image.shape, view, whole=False)
        if self._label_weight is not None:
            element["label_weight"] = self._label_weight
        return element

    def _assemble(
        self,
        example: types.Example,
        shape: tuple[int, int],
        view: transforms.View,
        *,
        whole: bool,
    ) -> types.Example:
        """With the targets of what the view shows, or of the whole picture."""
        image, statistics = transforms.to_input(view, statistics=self._statistics)
        element = {
            "image": image,
            "image_statistics": statistics,
            "record": example["record"],
            "example_valid": np.asarray(True),
        }
        if self._second is not None:
            element["second"] = self._second[example["record"]]
        kind = kinds.KINDS[self._task.kind]
        return element | kind.targets(
            example, self._task, view.matrix, shape, whole=whole
        )


class View:
    """Elements of a contrastive stream: a random view of a picture."""

    def __init__(
        self,
        source: sources.Source,
        settings: config.ContrastiveConfig,
        input_config: config.InputConfig,
        *,
        first_record: int,
        depth: np.dtype | type = np.uint8,
        small_views: int = 0,
        teacher: np.ndarray | None = None,
    ) -> None:
        """`depth` is the deepest pixel of all sets: a batch has one type.

        Of each image as many small views are drawn besides, all from its own chance;
        and it brings its row of `teacher`, float32 [records, D].
        """
        self._source = source
        self._settings = settings
        self._small_views, self._teacher = small_views, teacher
        self._small = dataclasses.replace(
            settings.augment,
            crop_min_area=settings.local_max_area / _AREAS,
            crop_max_area=settings.local_max_area,
        )
        self._input = input_config
        self._statistics = _statistics(source, input_config)
        self._first_record = first_record
        self._depth = depth
        # A digest, so that it is the same whatever other sets there are.
        self._owner = np.array(
            [zlib.crc32(f"{source.name}/{r['group']}".encode()) for r in source.index],
            np.uint32,
        ).view(np.int32)

    def __call__(self, record: int, rng: np.random.Generator) -> types.Example:
        """Draws a view; `record` in the element counts from `first_record`."""
        settings = self._settings
        image = _read(self._source, self._source.image, int(record))
        view, statistics = self._draw(rng, settings.augment, image, settings.image_size)
        element = {
            "view": view,
            "statistics": statistics,
            "owner": self._owner[record],
            "record": np.asarray(self._first_record + record, np.int32),
            "example_valid": np.asarray(True),
        }
        if self._teacher is not None:
            element["teacher"] = self._teacher[record]
        if self._small_views:
            drawn = [
                self._draw(rng, self._small, image, settings.local_size)
                for _ in range(self._small_views)
            ]
            pictures, found = zip(*drawn, strict=True)
            element |= {
                "local": np.stack(pictures),
                "local_statistics": np.stack(found),
            }
        return element

    def _draw(
        self,
        rng: np.random.Generator,
        changes: config.AugmentConfig,
        image: np.ndarray,
        size: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        view = augment.draw_view(
            rng,
            changes,
            image,
            size=size,
            mode=self._input.fit,
            resample=self._input.resample,
            contrastive=True,
        )
        picture, statistics = transforms.to_input(view, statistics=self._statistics)
        return picture.astype(self._depth, copy=False), statistics


def _statistics(
    source: sources.Source, settings: config.InputConfig
) -> transforms.Statistics | None:
    """Mean and deviation to normalise by, or None for each image's own."""
    if settings.normalisation == "image":
        return None
    if settings.normalisation == "fixed":
        return settings.fixed.statistics
    if settings.normalisation == "dataset":
        mean, deviation = source.pixel_statistics()
        return mean, deviation + transforms.EPSILON
    raise ValueError(
        f"config.input.normalisation is {settings.normalisation!r}; expected 'image', "
        "'dataset' or 'fixed'."
    )


def _studies(source: sources.Source) -> np.ndarray | None:
    """Study of each record, int32 [records], -1 for none; None without any study."""
    found = [row.get("study_id", "") for row in source.index]
    number = {name: place for place, name in enumerate(dict.fromkeys(found)) if name}
    if not number:
        return None
    return np.asarray([number.get(name, -1) for name in found], np.int32)


def _read(source: sources.Source, read: Callable[[int], T], record: int) -> T:
    """What a method of the source reads of a record; an error names the record."""
    try:
        return read(record)
    except Exception as error:
        error.add_note(
            f"While reading record {record} of split {source.split!r} of dataset "
            f"{source.name!r}."
        )
        raise
