"""Boxes of a folder of X-rays, from COCO's JSON; opens no image."""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from tfds_builders.images import reader
from tfds_builders.sources import box_formats, coco, files
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
    data = coco.parse(content, name)
    label_of = _classes(config, data)
    found: dict[str, ImageBoxes] = {}
    missing = []
    for image in data.images:
        path = images.find(str(image["file_name"]))
        if path is None:
            missing.append(str(image["file_name"]))
            continue
        if path in found:
            raise ValueError(f"{name} lists the image {path!r} twice.")
        found[path] = _of_image(
            image, data.by_image[coco.key(image["id"])], label_of, name
        )
    _check_form(list(found.values()), name)
    _tell_not_read(data.annotations, name, reads_points=name == config.keypoints)
    return found, missing


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


def _tell_not_read(
    annotations: Sequence[coco.Entry], name: str, *, reads_points: bool
) -> None:
    """Says what annotations hold that is not learnt from."""
    counts = {
        "keypoints (see option `keypoints`)": 0
        if reads_points
        else sum(bool(entry.get("keypoints")) for entry in annotations),
        "outlines (segmentation)": sum(
            bool(entry.get("segmentation")) for entry in annotations
        ),
        "crowds": sum(bool(entry.get("iscrowd")) for entry in annotations),
    }
    told = [f"{what} of {count} annotations" for what, count in counts.items() if count]
    if told:
        logging.getLogger(__name__).warning(
            "%s: boxes are read; left aside: %s.", name, ", ".join(told)
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
    size = measured_in(boxes.size, height, width, what="boxes")
    x, y, w, h = boxes.corners.T
    corners = np.stack([x, y, x + w, y + h], axis=1)
    fractions, kept = box_formats.clip(corners, size)
    return fractions, boxes.labels[kept], boxes.dropped + int((~kept).sum())


def measured_in(
    size: tuple[float, float] | None, height: int, width: int, *, what: str
) -> tuple[float, float]:
    """Height and width in which annotations are measured, pixels.

    Args:
      size: What the JSON says of it; None for nothing.
      height: Height of the image as it was read, pixels.
      width: Width of the image as it was read, pixels.
      what: What is annotated, for the error.

    Raises:
      reader.UnreadableImage: If the JSON was made for an image of another shape.
    """
    full_height, full_width = size or (height, width)
    aspect = (full_width / full_height) / (width / height)
    if abs(aspect - 1) > _ASPECT_TOLERANCE:
        raise reader.UnreadableImage(
            f"the image is {width}x{height} pixels but its {what} are for "
            f"{full_width:g}x{full_height:g}"
        )
    return full_height, full_width


def _classes(
    config: configuration.XrayFolderConfig, data: coco.Coco
) -> dict[str, int | None]:
    """Returns the class index of each category's id; None for ignored ones."""
    classes = config.classes_of_boxes()
    index = {v: i for i, values in enumerate(classes.values()) for v in values}
    categories = data.categories
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
        categories.get(coco.key(annotation["category_id"]), annotation["category_id"])
        for annotation in data.annotations
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
    image: coco.Entry,
    annotations: Sequence[coco.Entry],
    label_of: dict[str, int | None],
    name: str,
) -> ImageBoxes:
    seen: dict[tuple[int, tuple[float, ...]], None] = {}  # a set that keeps its order
    dropped = 0
    for annotation in annotations:
        label = label_of[coco.key(annotation["category_id"])]
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
