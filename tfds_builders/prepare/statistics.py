"""Counts what a prepared set holds, one image at a time, for `preparation.json`."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfds_builders import xray_features


@dataclasses.dataclass
class Tally:
    """Running sums over a set; only the train split counts, but for dropped boxes.

    All sums are integers, so they do not depend on the order or on how the set was
    shared out to shards.

    Attributes:
      pixels: Number of pixels.
      total: Their sum, in units of the stored type.
      squares: The sum of their squares.
      labels: Images that have a class, by label column and index.
      mask_pixels: Pixels of a mask by value.
      objects: Boxes by class index.
      dropped_boxes: Boxes that were left out.
    """

    pixels: int = 0
    total: int = 0
    squares: int = 0
    labels: collections.Counter[tuple[str, int]] = dataclasses.field(
        default_factory=collections.Counter
    )
    mask_pixels: collections.Counter[int] = dataclasses.field(
        default_factory=collections.Counter
    )
    objects: collections.Counter[int] = dataclasses.field(
        default_factory=collections.Counter
    )
    dropped_boxes: int = 0

    def add(self, xray: xray_features.Xray, *, is_train: bool) -> None:
        """Takes one image, at the size at which it is stored, into account."""
        self.dropped_boxes += xray.dropped_boxes
        if not is_train:
            return
        self.pixels += xray.image.size
        self.total += int(xray.image.sum(dtype=np.uint64))
        # The square of 65,535 just fits.
        squares = np.square(xray.image, dtype=np.uint32)
        self.squares += int(squares.sum(dtype=np.uint64))
        for column, label in xray.labels.items():
            for index in np.flatnonzero(np.asarray(label) == 1):
                self.labels[column, int(index)] += 1
        if xray.mask is not None:
            counts = np.bincount(xray.mask.ravel(), minlength=256)
            for value in np.flatnonzero(counts):
                self.mask_pixels[int(value)] += int(counts[value])
        if xray.boxes is not None and xray.box_labels is not None:
            self.objects.update(int(label) for label in xray.box_labels)

    def is_only_background(self) -> bool:
        """Whether there are masks, and none has a pixel of any class."""
        known = {v for v in self.mask_pixels if v != xray_features.NOT_ANNOTATED}
        return known == {0}

    def merge(self, other: Tally) -> None:
        """Adds the sums of another part of the set."""
        for field in dataclasses.fields(self):
            mine, others = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, collections.Counter):
                mine.update(others)
            else:
                setattr(self, field.name, mine + others)

    def as_json(self) -> dict[str, Any]:
        """The sums as values that JSON can hold."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        labels = [[*key, count] for key, count in sorted(self.labels.items())]
        masks, objects = sorted(self.mask_pixels.items()), sorted(self.objects.items())
        return {**values, "labels": labels, "mask_pixels": masks, "objects": objects}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Tally:
        """Undoes `as_json`."""
        labels = {(column, index): count for column, index, count in values["labels"]}
        return cls(
            **{
                **values,
                "labels": collections.Counter(labels),
                "mask_pixels": collections.Counter(dict(values["mask_pixels"])),
                "objects": collections.Counter(dict(values["objects"])),
            }
        )

    def summary(self, layout: xray_features.Layout) -> dict[str, Any]:
        """Returns what `preparation.json` says about the pixels and classes.

        `pixel_mean` and `pixel_std` are fractions of the stored range, null without a
        train split. Labels and objects are counted, masks in pixels.
        """
        mean = std = None
        if self.pixels:
            largest = int(np.iinfo(layout.dtype).max)
            mean = self.total / self.pixels / largest
            spread = self.squares * self.pixels - self.total**2  # exact: never below 0
            std = math.sqrt(spread) / self.pixels / largest
        masks = enumerate(layout.mask_names, start=1)
        return {
            "pixel_mean": mean,
            "pixel_std": std,
            "label_counts": {
                column: {name: self.labels[column, i] for i, name in enumerate(names)}
                for column, names in layout.label_names.items()
            },
            "mask_pixel_counts": {name: self.mask_pixels[i] for i, name in masks},
            "object_counts": {
                name: self.objects[i] for i, name in enumerate(layout.object_names)
            },
            "dropped_boxes": self.dropped_boxes,
        }
