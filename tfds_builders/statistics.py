"""Counts what a prepared set holds, one image at a time, for `preparation.json`."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import numpy as np

from tfds_builders import xray_features


@dataclasses.dataclass
class Tally:
    """Running sums over a set; only the train split counts, but for dropped boxes."""

    pixels: int = 0
    total: float = 0.0  # of the pixels, each a fraction of the stored range
    squares: float = 0.0
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
        fraction = xray.image / np.float64(np.iinfo(xray.image.dtype).max)
        self.pixels += fraction.size
        self.total += float(fraction.sum())
        self.squares += float(np.square(fraction).sum())
        for column, label in xray.labels.items():
            for index in np.flatnonzero(np.asarray(label) == 1):
                self.labels[column, int(index)] += 1
        if xray.mask is not None:
            for value, count in zip(
                *np.unique(xray.mask, return_counts=True), strict=True
            ):
                self.mask_pixels[int(value)] += int(count)
        if xray.boxes is not None and xray.box_labels is not None:
            self.objects.update(int(label) for label in xray.box_labels)

    def summary(self, layout: xray_features.Layout) -> dict[str, Any]:
        """Returns what `preparation.json` says about the pixels and classes.

        `pixel_mean` and `pixel_std` are fractions of the stored range, null without a
        train split. Labels and objects are counted, masks in pixels.
        """
        mean = self.total / self.pixels if self.pixels else None
        std = None
        if mean is not None:
            std = math.sqrt(max(0.0, self.squares / self.pixels - mean**2))
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
