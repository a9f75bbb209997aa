"""Counts what a prepared set holds, one image at a time, for `preparation.json`.

A tally is one counter of integers, so sums depend neither on the order nor on how the
set was shared out to shards. Its keys: "dropped_boxes" and "dropped_landmarks", of all
splits; and of the train split "pixels", their "total" and the total of their "squares"
in units of the stored type, "label/<column>/<class index>" in images, "mask/<value>" in
pixels, "object/<class index>" in boxes and "landmark/<index>" in images.
"""

from __future__ import annotations

import collections
import math

import numpy as np

from tfds_builders import prepared_types, xray_features

Tally = collections.Counter[str]


def tally(xray: xray_features.Xray, *, is_train: bool) -> Tally:
    """Counts one image, at the size at which it is stored."""
    found = Tally(
        dropped_boxes=xray.dropped_boxes, dropped_landmarks=xray.dropped_landmarks
    )
    if not is_train:
        return found
    # The square of 65,535 just fits.
    squares = np.square(xray.image, dtype=np.uint32)
    found["pixels"] = xray.image.size
    found["total"] = int(xray.image.sum(dtype=np.uint64))
    found["squares"] = int(squares.sum(dtype=np.uint64))
    for column, label in xray.labels.items():
        present = np.flatnonzero(np.asarray(label) == 1)
        found.update(f"label/{column}/{index}" for index in present)
    if xray.mask is not None:
        counts = np.bincount(xray.mask.ravel(), minlength=256)
        found.update({f"mask/{v}": int(counts[v]) for v in np.flatnonzero(counts)})
    if xray.boxes is not None and xray.box_labels is not None:
        found.update(f"object/{int(label)}" for label in xray.box_labels)
    if xray.landmarks is not None:
        seen = np.flatnonzero(np.isfinite(xray.landmarks[:, 0]))
        found.update(f"landmark/{index}" for index in seen)
    return found


def is_only_background(found: Tally) -> bool:
    """Whether there are masks, and none has a pixel of any class."""
    values = {key for key in found if key.startswith("mask/")}
    return values - {f"mask/{xray_features.NOT_ANNOTATED}"} == {"mask/0"}


def summary(found: Tally, layout: xray_features.Layout) -> prepared_types.Summary:
    """What `preparation.json` says of the pixels and classes of a set."""
    mean = std = None
    if pixels := found["pixels"]:
        largest = int(np.iinfo(layout.dtype).max)
        mean = found["total"] / pixels / largest
        spread = found["squares"] * pixels - found["total"] ** 2  # exact: never below 0
        std = math.sqrt(spread) / pixels / largest
    masks = enumerate(layout.mask_names, start=1)
    objects = enumerate(layout.object_names)
    points = enumerate(layout.landmark_names)
    return prepared_types.Summary(
        pixel_mean=mean,
        pixel_std=std,
        label_counts={
            column: {n: found[f"label/{column}/{i}"] for i, n in enumerate(names)}
            for column, names in layout.label_names.items()
        },
        mask_pixel_counts={name: found[f"mask/{i}"] for i, name in masks},
        object_counts={name: found[f"object/{i}"] for i, name in objects},
        landmark_counts={name: found[f"landmark/{i}"] for i, name in points},
        dropped_boxes=found["dropped_boxes"],
    )
