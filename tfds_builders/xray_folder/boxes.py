"""Boxes of a folder of X-rays, from COCO's JSON; opens no image."""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfds_builders.images import reader
from tfds_builders.sources import files
from tfds_builders.xray_folder import configuration

_ASPECT_TOLERANCE = 0.02  # relative; rounding of a small image's side
_REACH = 1.0  # pixels beyond the image that rounding explains
# Of the boxes, reaching beyond their images, that make corners of widths and heights.
_SHARE_OF_CORNERS = 0.1


@dataclasses.dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image, as the JSON gives them.

    Attributes:
      corners: x, y, width, height in pixels, float64 [M, 4].
      labels: Class index, int64 [M].
      size: Height and width of the image in which they are measured; None if the
        JSON does not say.
      dropped: Boxes left out: crowds, and those that repeat another.
    """

    corners: np.ndarray
    labels: np.ndarray
    size: tuple[float, float] | None
    dropped: int


def parse(
    config: configuration.XrayFolderConfig, content: bytes, images: files.Listing
) -> tuple[dict[str, ImageBoxes], list[str]]:
    """Reads the JSON.

    Returns:
      The boxes of each image that it lists, by the image's path, and the names that it
      lists but that are not there.

    Raises:
      ValueError: If it is not COCO's format, or a category is in no class.
    """
    name = config.annotations
    listed, annotations, categories = _lists(content, name)
    label_of = _classes(config, annotations, categories)
    by_image: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for annotation in annotations:
        by_image[_key(annotation["image_id"])].append(annotation)
    strangers = by_image.keys() - {_key(image["id"]) for image in listed}
    if strangers:
        raise ValueError(
            f"{name}: {len(strangers)} image_id of annotations are not among the "
            f"images, for example {next(iter(strangers))!r}."
        )
    found: dict[str, ImageBoxes] = {}
    missing = []
    for image in listed:
        path = images.find(str(image["file_name"]))
        if path is None:
            missing.append(str(image["file_name"]))
            continue
        if path in found:
            raise ValueError(f"{name} lists the image {path!r} twice.")
        found[path] = _of_image(image, by_image[_key(image["id"])], label_of, name)
    _check_form(list(found.values()), name)
    _tell_not_read(annotations, name)
    return found, missing


def _key(identifier: Any) -> str:
    """An id as text: 1, 1.0 and "1" are one, as programs write them."""
    if isinstance(identifier, float) and identifier.is_integer():
        identifier = int(identifier)
    return str(identifier).strip()


def _check_form(found: Sequence[ImageBoxes], name: str) -> None:
    """Looks whether the numbers can be x, y, width and height in pixels.

    Raises:
      ValueError: If they are fractions of the image, or the corners of the boxes.
    """
    corners = [boxes.corners for boxes in found if boxes.size]
    if not sum(map(len, corners)):
        return
    # Height and width of the image of each box, float64 [N].
    height, width = np.concatenate(
        [np.tile(boxes.size, (len(boxes.corners), 1)) for boxes in found if boxes.size]
    ).T
    x, y, w, h = np.concatenate(corners).T
    if (
        max(x.max(), y.max(), w.max(), h.max()) <= 1
        and min(height.min(), width.min()) > 2
    ):
        raise ValueError(
            f"{name}: no number of any bbox is above 1, so they look like fractions of "
            "the image; expected [x, y, width, height] in pixels. Multiply them."
        )
    reaches = (x + w > width + _REACH) | (y + h > height + _REACH)
    reaches |= (x < -_REACH) | (y < -_REACH)
    if not reaches.any():
        return
    are_corners = (w > x) & (h > y) & (w <= width + _REACH) & (h <= height + _REACH)
    if are_corners.all() and reaches.mean() > _SHARE_OF_CORNERS and len(x) > 1:
        raise ValueError(
            f"{name}: {reaches.sum()} of {len(x)} boxes reach beyond their images, and "
            "all would lie inside as [x0, y0, x1, y1]; expected [x, y, width, height]. "
            "Subtract the first corner from the second."
        )
    logging.getLogger(__name__).warning(
        "%s: %d of %d boxes reach beyond their images and are cut. Are they [x, y, "
        "width, height] in pixels of the image that the JSON describes?",
        name,
        reaches.sum(),
        len(x),
    )


def _tell_not_read(annotations: Sequence[Mapping[str, Any]], name: str) -> None:
    """Says what annotations hold that is not learnt from."""
    counts = {
        "keypoints": sum(bool(entry.get("keypoints")) for entry in annotations),
        "outlines (segmentation)": sum(
            bool(entry.get("segmentation")) for entry in annotations
        ),
        "crowds": sum(bool(entry.get("iscrowd")) for entry in annotations),
    }
    told = [f"{what} of {count} annotations" for what, count in counts.items() if count]
    if told:
        logging.getLogger(__name__).warning(
            "%s: only boxes are read; left aside: %s.", name, ", ".join(told)
        )


def to_fractions(
    boxes: ImageBoxes, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Clips boxes to the image and drops those without area.

    Args:
      boxes: The boxes of one image.
      height: Height of the image as it was read, pixels.
      width: Width of the image as it was read, pixels.

    Returns:
      y0, x0, y1, x1 as fractions, float32 [M, 4]; class index, int64 [M]; how many
      boxes were left out in all.

    Raises:
      reader.UnreadableImage: If the JSON was made for an image of another shape.
    """
    full_height, full_width = boxes.size or (height, width)
    aspect = (full_width / full_height) / (width / height)
    if abs(aspect - 1) > _ASPECT_TOLERANCE:
        raise reader.UnreadableImage(
            f"the image is {width}x{height} pixels but its boxes are for "
            f"{full_width:g}x{full_height:g}"
        )
    x, y, w, h = boxes.corners.T
    ends = np.stack([y, x, y + h, x + w], axis=1)
    ends = ends / [full_height, full_width, full_height, full_width]
    low, high = (
        np.minimum(ends[:, :2], ends[:, 2:]),
        np.maximum(ends[:, :2], ends[:, 2:]),
    )
    fractions = np.clip(np.concatenate([low, high], axis=1), 0, 1).astype(np.float32)
    sides = fractions[:, 2:] - fractions[:, :2]
    # A comparison with NaN is false, so a box of NaN goes too.
    keep = (sides > 0).all(axis=1)
    return fractions[keep], boxes.labels[keep], boxes.dropped + int((~keep).sum())


def _lists(
    content: bytes, name: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, str]]:
    """Returns images, annotations and category names, checked for what is needed."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}.") from error
    needed = {
        "images": ("id", "file_name"),
        "annotations": ("image_id", "category_id", "bbox"),
        "categories": ("id", "name"),
    }
    for part, keys in needed.items():
        entries = data.get(part) if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise ValueError(
                f"{name} is not in COCO's format: it needs the lists {list(needed)}, "
                f"and {part!r} is not one."
            )
        for place, entry in enumerate(entries):
            is_object = isinstance(entry, dict)
            absent = [key for key in keys if not is_object or key not in entry]
            if absent:
                raise ValueError(f"{name}: {part}[{place}] has no {absent}.")
            wrong = [key for key in keys if key != "bbox" and not _may_name(entry[key])]
            if wrong:
                raise ValueError(
                    f"{name}: {part}[{place}] holds {entry[wrong[0]]!r} as "
                    f"{wrong[0]!r}; expected a number or text."
                )
    for part, label in (("images", "file_name"), ("categories", "name")):
        _refuse_twins(data[part], label, f"{name}: {part}")
    categories = {_key(entry["id"]): str(entry["name"]) for entry in data["categories"]}
    return data["images"], data["annotations"], categories


def _may_name(value: Any) -> bool:
    """Whether a value can be an id or a name: text, or a finite number."""
    return isinstance(value, int | str) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _refuse_twins(entries: Sequence[Mapping[str, Any]], label: str, where: str) -> None:
    """Refuses ids that two entries have: boxes could be of either.

    Raises:
      ValueError: If there are any; names them with what has them.
    """
    owners: dict[str, list[str]] = collections.defaultdict(list)
    for entry in entries:
        owners[_key(entry["id"])].append(str(entry[label]))
    twins = {key: names for key, names in owners.items() if len(names) > 1}
    if twins:
        told = files.brief(
            (f"{key} ({files.brief(map(repr, n), 3)})" for key, n in twins.items()), 3
        )
        raise ValueError(
            f"{where} give {len(twins)} ids more than once: {told}. Give each its own "
            "id; if files were merged, renumber one of them first."
        )


def _classes(
    config: configuration.XrayFolderConfig,
    annotations: list[dict[str, Any]],
    categories: dict[str, str],
) -> dict[str, int | None]:
    """Returns the class index of each category's id; None for ignored ones."""
    classes = config.classes_of_boxes()
    index = {v: i for i, values in enumerate(classes.values()) for v in values}
    known = set(categories.values())
    for option, names in (
        ("box_classes", index),
        ("ignored_categories", config.ignored_categories),
    ):
        for category in names:
            if category not in known:
                raise ValueError(
                    f"{config.annotations} has no category {category!r}, which option "
                    f"`{option}` names. Its categories: {files.brief(sorted(known))}."
                    f"{files.nearest(category, known)}"
                )
    used = collections.Counter(
        categories.get(_key(annotation["category_id"]), annotation["category_id"])
        for annotation in annotations
    )
    strangers = {
        category: n
        for category, n in used.items()
        if category not in index and category not in config.ignored_categories
    }
    if strangers:
        seen = files.brief(f"{c!r} ({n} boxes)" for c, n in strangers.items())
        raise ValueError(
            f"{config.annotations} holds boxes of categories that are in no class: "
            f"{seen}. Put each into a class of `box_classes` or into "
            f"`ignored_categories`."
        )
    return {key: index.get(category) for key, category in categories.items()}


def _of_image(
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    label_of: dict[str, int | None],
    name: str,
) -> ImageBoxes:
    seen: dict[tuple[int, tuple[float, ...]], None] = {}  # a set that keeps its order
    dropped = 0
    for annotation in annotations:
        label = label_of[_key(annotation["category_id"])]
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(
                f"{name}: a box of {image['file_name']!r} must be [x, y, width, "
                f"height] in pixels, got {box!r}."
            )
        if label is None:
            continue
        if annotation.get("iscrowd"):
            dropped += 1
            continue
        try:
            values = tuple(float(value) for value in box)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{name}: a box of {image['file_name']!r} must hold four numbers, got "
                f"{box!r}."
            ) from error
        if (label, values) in seen:  # No two objects have one and the same box.
            dropped += 1
            continue
        seen[label, values] = None
    size = None
    height, width = image.get("height"), image.get("width")
    if height and width:
        if not all(isinstance(n, int | float) and 0 < n < 1e9 for n in (height, width)):
            raise ValueError(
                f"{name}: {image['file_name']!r} has height {height!r} and width "
                f"{width!r}; expected pixels."
            )
        size = (float(height), float(width))
    return ImageBoxes(
        np.array([values for _, values in seen], np.float64).reshape(-1, 4),
        np.array([label for label, _ in seen], np.int64),
        size,
        dropped,
    )
