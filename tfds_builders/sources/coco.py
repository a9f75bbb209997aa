"""COCO's JSON, in which one file lists images, categories and boxes."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfds_builders.sources import box_formats, files

Entry = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Coco:
    """What a file holds; ids are compared by `key`.

    Attributes:
      images: The objects of its images, with `id` and `file_name`.
      categories: Name of each category by the key of its id.
      annotations: The objects of all annotations, with `image_id`, `category_id` and
        what they hold.
      by_image: The annotations of each image by the key of its id.
      keypoints: Names of the points of each category by the key of its id.
    """

    images: Sequence[Entry]
    categories: Mapping[str, str]
    annotations: Sequence[Entry]
    by_image: Mapping[str, Sequence[Entry]]
    keypoints: Mapping[str, Sequence[str]]


def parse(
    content: bytes,
    name: str,
    *,
    may_lack_annotations: bool = False,
    needed: Sequence[str] = ("bbox",),
) -> Coco:
    """Reads a file.

    Args:
      content: Content of the file.
      name: Name of the file, for errors.
      may_lack_annotations: Whether their list may be absent, as where labels are
        withheld.
      needed: What each annotation must hold besides its ids.

    Raises:
      ValueError: If it is not in COCO's format, or an id is given twice.
    """
    data = box_formats.json_object(content, name)
    if may_lack_annotations:
        data.setdefault("annotations", [])
    images = box_formats.entries(data, "images", ("id", "file_name"), name)
    categories = box_formats.entries(data, "categories", ("id", "name"), name)
    keys = ("image_id", "category_id", *needed)
    annotations = box_formats.entries(data, "annotations", keys, name)
    for part, found in (
        ("images", images),
        ("categories", categories),
        ("annotations", annotations),
    ):
        for place, entry in enumerate(found):
            _check_names(entry, f"{name}: {part}[{place}]")
    _refuse_twins(images, "file_name", f"{name}: images")
    _refuse_twins(categories, "name", f"{name}: categories")
    by_image: dict[str, list[Entry]] = {key(image["id"]): [] for image in images}
    strangers = {key(entry["image_id"]) for entry in annotations} - by_image.keys()
    if strangers:
        raise ValueError(
            f"{name}: {len(strangers)} image_id of annotations are not among the "
            f"images, for example {min(strangers)!r}."
        )
    for entry in annotations:
        by_image[key(entry["image_id"])].append(entry)
    names = {key(entry["id"]): str(entry["name"]).strip() for entry in categories}
    points = {key(entry["id"]): _keypoints(entry, name) for entry in categories}
    return Coco(images, names, annotations, by_image, points)


def boxes(content: bytes, name: str) -> dict[str, box_formats.Boxes]:
    """Reads the boxes of each image that a file lists, by `file_name`, without crowds.

    Args:
      content: Content of the file.
      name: Name of the file, for errors.

    Raises:
      ValueError: If it is not in COCO's format, or an image comes twice.
    """
    data = parse(content, name, may_lack_annotations=True)
    for place, entry in enumerate(data.annotations):
        if key(entry["category_id"]) not in data.categories:
            raise ValueError(
                f"{name}: annotations[{place}] has category_id "
                f"{entry['category_id']!r}; the categories are "
                f"{files.brief(f'{k} {v}' for k, v in data.categories.items())}."
            )
    found: dict[str, box_formats.Boxes] = {}
    for image in data.images:
        file_name = str(image["file_name"])
        where = f"{name}: {file_name}"
        if file_name in found:
            raise ValueError(f"{name} lists the image {file_name!r} twice.")
        own = [e for e in data.by_image[key(image["id"])] if not e.get("iscrowd")]
        frame = box_formats.frame(image.get("height"), image.get("width"), where)
        found[file_name] = box_formats.boxes(
            [_from_sides(entry["bbox"], where) for entry in own],
            [data.categories[key(entry["category_id"])] for entry in own],
            frame,
        )
    return found


def key(identifier: Any) -> str:
    """An id as text: 1, 1.0 and "1" are one, as programs write them."""
    if isinstance(identifier, float) and identifier.is_integer():
        identifier = int(identifier)
    return str(identifier).strip()


def _check_names(entry: Entry, where: str) -> None:
    """Refuses ids and names that are neither text nor finite numbers."""
    for name in ("id", "file_name", "name", "image_id", "category_id"):
        value = entry.get(name, "")
        is_finite = isinstance(value, float) and math.isfinite(value)
        if not isinstance(value, int | str) and not is_finite:
            raise ValueError(
                f"{where} holds {value!r} as {name!r}; expected a number or text."
            )


def _keypoints(category: Entry, name: str) -> Sequence[str]:
    """Names of the points of a category; none where it has none."""
    found = category.get("keypoints") or ()
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ValueError(
            f"{name}: keypoints of category {category['name']!r} must be a list of "
            f"names, got {found!r}."
        )
    return tuple(str(point).strip() for point in found)


def _refuse_twins(entries: Sequence[Entry], label: str, where: str) -> None:
    """Refuses ids that two entries have: boxes could be of either.

    Raises:
      ValueError: If there are any; names them with what has them.
    """
    owners: dict[str, list[str]] = collections.defaultdict(list)
    for entry in entries:
        owners[key(entry["id"])].append(str(entry[label]))
    twins = {key: names for key, names in owners.items() if len(names) > 1}
    if twins:
        told = files.brief(
            (f"{key} ({files.brief(map(repr, n), 3)})" for key, n in twins.items()), 3
        )
        raise ValueError(
            f"{where} give {len(twins)} ids more than once: {told}. Give each its own "
            "id; if files were merged, renumber one of them first."
        )


def _from_sides(box: Any, where: str) -> list[float]:
    """Corners of a box that is given as x, y, width and height."""
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"{where}: bbox must be [x, y, width, height], got {box!r}.")
    x, y, w, h = (box_formats.number(value, f"{where}, bbox") for value in box)
    return [x, y, x + w, y + h]
