"""From a loaded X-ray to the example that is stored and its row of index.csv."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tfds_builders import prepared, xray_features
from tfds_builders.images import content, reader, sizes
from tfds_builders.prepare import records


def shrink(xray: xray_features.Xray, longest_side: int) -> xray_features.Xray:
    """The X-ray at the size at which it is stored.

    Args:
      xray: As it was loaded.
      longest_side: Pixels; 0 as it is.
    """
    mask = xray.mask
    if mask is not None:
        mask = sizes.shrink(mask, longest_side, is_mask=True)
    image = sizes.shrink(xray.image, longest_side, is_mask=False)
    spacing = xray.spacing * max(xray.image.shape) / max(image.shape)
    return dataclasses.replace(xray, image=image, mask=mask, spacing=spacing)


def example(
    layout: xray_features.Layout, record: records.Record, xray: xray_features.Xray
) -> dict[str, Any]:
    """The features of an X-ray as TFDS takes them, a mask encoded."""
    found: dict[str, Any] = {
        "image": xray.image[..., np.newaxis],
        "image_id": record.image_id,
        "patient_id": record.group,
    }
    if layout.label_names:
        found["labels"] = {
            column: np.asarray(xray.labels[column], np.int8)
            for column in layout.label_names
        }
    if layout.values:
        found["values"] = {name: xray.values[name] for name in layout.values}
    if layout.mask_names:
        mask = xray.mask
        if mask is None:
            mask = np.full(xray.image.shape, xray_features.NOT_ANNOTATED, np.uint8)
        found["mask"] = reader.encode_png(mask)
    if layout.object_names:
        found["objects"] = _objects(xray)
        found["objects_known"] = xray.boxes is not None
    if layout.landmark_names:
        found["landmarks"] = _landmarks(layout, xray)
    if layout.has_spacing:
        found["spacing"] = xray.spacing
    for name in layout.about:
        found[name] = getattr(record.about, name)
    return found


def index_row(
    layout: xray_features.Layout,
    split: str,
    record: records.Record,
    xray: xray_features.Xray,
    *,
    looks_inverted: bool,
) -> prepared.NewRow:
    """A row of index.csv, but for the position of the record.

    A label column names the classes that are present, joined by "|": empty where
    nothing is known, "(none)" where it is known that there is none. A value column
    has the number, and is empty where it is not known.

    Args:
      layout: Features and class names of the dataset.
      split: In which the record is stored.
      record: What was known before it was loaded.
      xray: As it is stored.
      looks_inverted: Whether it seems to be dark where rays were stopped.
    """
    row: prepared.NewRow = {
        "split": split,
        "image_id": record.image_id,
        "group": record.group,
    }
    for column, names in layout.label_names.items():
        label = xray.labels[column]
        present = [n for n, v in zip(names, label, strict=True) if v == 1]
        known = (label != xray_features.UNKNOWN_LABEL).any()
        row[column] = "|".join(present) or ("(none)" if known else "")
    for column in layout.values:
        number = float(xray.values[column])
        row[column] = number if math.isfinite(number) else ""
    row["has_mask"] = int(xray.mask is not None)
    row["n_boxes"] = "" if xray.boxes is None else len(xray.boxes)
    points = xray.landmarks
    row["n_landmarks"] = "" if points is None else int(np.isfinite(points[:, 0]).sum())
    for name in xray_features.ABOUT:
        value = getattr(record.about, name)
        row[name] = "" if value != value else value
    row["looks_inverted"] = int(looks_inverted)
    row["is_blank"] = int(content.is_blank(xray.image))
    return row


def _objects(xray: xray_features.Xray) -> list[Mapping[str, tfds.features.BBox | int]]:
    """The boxes as TFDS stores them."""
    if xray.boxes is None or xray.box_labels is None:
        return []
    return [
        {"bbox": tfds.features.BBox(*map(float, box)), "label": int(label)}
        for box, label in zip(xray.boxes, xray.box_labels, strict=True)
    ]


def _landmarks(layout: xray_features.Layout, xray: xray_features.Xray) -> np.ndarray:
    """The landmarks, float32 [P, 2]; not a number where nobody looked for them."""
    if xray.landmarks is None:
        return np.full((len(layout.landmark_names), 2), np.nan, np.float32)
    return np.asarray(xray.landmarks, np.float32)
