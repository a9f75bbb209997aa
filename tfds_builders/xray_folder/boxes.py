"""Boxes of a folder of X-rays, from COCO's JSON; opens no picture."""

from __future__ import annotations

import collections
import dataclasses
import json
from typing import Any

import numpy as np

from tfds_builders import files, reader
from tfds_builders.xray_folder import configuration

_ASPECT_TOLERANCE = 0.02  # relative; rounding of a small picture's side


@dataclasses.dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image, as the JSON gives them.

    Attributes:
      corners: x, y, width, height in pixels, float64 [M, 4].
      labels: Class index, int64 [M].
      size: Height and width of the picture in which they are measured; None if the
        JSON does not say.
      dropped: Boxes left out: crowds.
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
    by_image: dict[Any, list[dict[str, Any]]] = collections.defaultdict(list)
    for annotation in annotations:
        by_image[annotation["image_id"]].append(annotation)
    strangers = by_image.keys() - {image["id"] for image in listed}
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
        found[path] = _of_image(image, by_image[image["id"]], label_of, name)
    return found, missing


def to_fractions(
    boxes: ImageBoxes, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Clips boxes to the picture and drops those without area.

    Args:
      boxes: Of one image.
      height: Of the picture as it was read, pixels.
      width: Likewise.

    Returns:
      y0, x0, y1, x1 as fractions, float32 [M, 4]; class index, int64 [M]; how many
      boxes were left out in all.

    Raises:
      reader.UnreadableImage: If the JSON was made for a picture of another shape.
    """
    full_height, full_width = boxes.size or (height, width)
    aspect = (full_width / full_height) / (width / height)
    if abs(aspect - 1) > _ASPECT_TOLERANCE:
        raise reader.UnreadableImage(
            f"the picture is {width}x{height} pixels but its boxes are for "
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
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[Any, str]]:
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
            wrong = [
                key
                for key in keys
                if key != "bbox" and not isinstance(entry[key], int | str)
            ]
            if wrong:
                raise ValueError(
                    f"{name}: {part}[{place}] holds {entry[wrong[0]]!r} as "
                    f"{wrong[0]!r}; expected a number or text."
                )
    categories = {entry["id"]: str(entry["name"]) for entry in data["categories"]}
    return data["images"], data["annotations"], categories


def _classes(
    config: configuration.XrayFolderConfig,
    annotations: list[dict[str, Any]],
    categories: dict[Any, str],
) -> dict[Any, int | None]:
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
        categories.get(annotation["category_id"], annotation["category_id"])
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
    label_of: dict[Any, int | None],
    name: str,
) -> ImageBoxes:
    corners: list[list[float]] = []
    labels: list[int] = []
    dropped = 0
    for annotation in annotations:
        label = label_of[annotation["category_id"]]
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
            corners.append([float(value) for value in box])
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{name}: a box of {image['file_name']!r} must hold four numbers, got "
                f"{box!r}."
            ) from error
        labels.append(label)
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
        np.array(corners, np.float64).reshape(-1, 4),
        np.array(labels, np.int64),
        size,
        dropped,
    )
