"""Boxes as releases write them down: Pascal VOC, YOLO and Supervisely; COCO's: `coco`.

Opens no image and no file: content in, corners and names of classes out. A box may be
degenerate or leave the image; what is kept is decided where the image is read.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tfds_builders.sources import files

Frame = tuple[float, float]
FRACTIONS: Frame = (1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Objects:
    """The boxes of one image that a set keeps.

    Attributes:
      corners: float64 [M, 4] as x0, y0, x1, y1 in units of `frame`; a box may be
        degenerate or leave the image.
      labels: Class index of each box, int64 [M].
      frame: Height and width that the corners refer to, (1, 1) for fractions; None for
        the pixels of the image.
    """

    corners: np.ndarray
    labels: np.ndarray
    frame: Frame | None


@dataclasses.dataclass(frozen=True)
class Boxes:
    """The boxes of one image as a file tells them: `Objects` with names of classes."""

    corners: np.ndarray
    names: tuple[str, ...]
    frame: Frame | None

    def choose(
        self, classes: Sequence[str], ignored: Sequence[str], where: str
    ) -> Objects:
        """Boxes of some classes.

        Args:
          classes: The classes to keep, in the order of their indices.
          ignored: Classes to leave out.
          where: The file, for errors.

        Raises:
          ValueError: If a class is in neither list.
        """
        known = {*classes, *ignored}
        for name in self.names:
            if name not in known:
                raise ValueError(
                    f"{where}: a box of class {name!r}, which the set does not have. "
                    f"Its classes: {files.brief(sorted(known))}."
                    f"{files.nearest(name, known)}"
                )
        kept = [name in classes for name in self.names]
        labels = [classes.index(name) for name in self.names if name in classes]
        corners = self.corners[np.asarray(kept, bool)]
        return Objects(corners, np.asarray(labels, np.int64), self.frame)


def boxes(
    corners: Sequence[Sequence[float]], names: Sequence[str], frame: Frame | None
) -> Boxes:
    """Boxes from lists; see `Boxes`."""
    array = np.asarray(corners, np.float64).reshape(-1, 4)
    return Boxes(array, tuple(names), frame)


def voc(content: bytes, name: str) -> Boxes:
    """Reads Pascal VOC's XML, in which one file tells about one image.

    Raises:
      ValueError: If it is not XML or an object lacks its name or a corner.
    """
    try:
        root = ElementTree.fromstring(content)
    # Of an unknown encoding, the parser raises LookupError.
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{name} is not XML: {error}.") from error
    corners, names = [], []
    for place, item in enumerate(root.iter("object")):
        where = f"{name}: object {place}"
        names.append((item.findtext("name") or "").strip())
        if not names[-1]:
            raise ValueError(f"{where} has no name.")
        sides = ("xmin", "ymin", "xmax", "ymax")
        corners.append(
            [number(item.findtext(f"bndbox/{s}"), f"{where}, {s}") for s in sides]
        )
    height, width = root.findtext("size/height"), root.findtext("size/width")
    return boxes(corners, names, frame(height, width, f"{name}: size"))


def yolo(content: bytes, name: str, classes: Sequence[str]) -> Boxes:
    """Reads YOLO's text: a line a box, of fractions: class, centre, width and height.

    Lines of polygons (class, x, y, x, y, ...) give the box around them. A file without
    lines says that there is nothing.

    Args:
      content: The file.
      name: Name of the file, for errors.
      classes: Name of each class, by its number.

    Raises:
      ValueError: If a line holds something else.
    """
    corners, names = [], []
    for place, line in enumerate(content.decode("utf-8-sig", "replace").splitlines()):
        cells = line.split()
        if not cells:
            continue
        where = f"{name}: line {place + 1}"
        if len(cells) < 5 or len(cells) % 2 == 0:
            raise ValueError(
                f"{where} must be `class x y width height`, or a class and the x and "
                f"y of at least three corners; it is {line[:80]!r}."
            )
        index, *values = (number(cell, where) for cell in cells)
        if index not in range(len(classes)):
            raise ValueError(
                f"{where}: class {cells[0]}; expected 0 to {len(classes) - 1}: "
                f"{files.brief(classes)}."
            )
        names.append(classes[int(index)])
        if len(values) == 4:
            x, y, w, h = values
            corners.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        else:
            corners.append(_around(values[::2], values[1::2]))
    return boxes(corners, names, FRACTIONS)


def supervisely(content: bytes, name: str) -> Boxes:
    """Reads Supervisely's JSON, in which one file tells about one image.

    Raises:
      ValueError: If an object has no class or no points.
    """
    data = json_object(content, name)
    corners, names = [], []
    keys = ("classTitle", "points")
    for place, entry in enumerate(entries(data, "objects", keys, name)):
        where = f"{name}: objects[{place}]"
        points = entry["points"]
        outline = points.get("exterior") if isinstance(points, dict) else None
        pairs = [p for p in outline or [] if isinstance(p, list) and len(p) == 2]
        if len(pairs) < 2 or len(pairs) != len(outline or []):
            raise ValueError(
                f"{where}: points.exterior must be at least two [x, y], got "
                f"{str(outline)[:80]}."
            )
        xs, ys = ([number(p[i], where) for p in pairs] for i in (0, 1))
        names.append(str(entry["classTitle"]).strip())
        corners.append(_around(xs, ys))
    size = data.get("size")
    size = size if isinstance(size, dict) else {}
    size = frame(size.get("height"), size.get("width"), f"{name}: size")
    return boxes(corners, names, size)


def clip(
    corners: np.ndarray, frame: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Clips boxes to the image and leaves out those without area.

    Args:
      corners: float [M, 4] as x0, y0, x1, y1, in any order of the two corners.
      frame: Height and width in the same unit.

    Returns:
      float32 [K, 4] as y0, x0, y1, x1, fractions; bool [M], which boxes were kept.
    """
    x, y = np.asarray(corners, np.float64).reshape(-1, 2, 2).transpose(2, 0, 1)
    height, width = frame
    both = np.stack([np.sort(y) / height, np.sort(x) / width], axis=-1)
    clipped = both.clip(0.0, 1.0).reshape(-1, 4).astype(np.float32)
    finite = np.isfinite(clipped).all(axis=1)
    kept = finite & (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    return clipped[kept], kept


def json_object(content: bytes, name: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
      ValueError: If it holds something else.
    """
    try:
        data = json.loads(content)
    # Text that is nested too deeply ends in a RecursionError.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{name} must hold an object, not a {type(data).__name__}.")
    return data


def entries(
    data: Mapping[str, Any],
    part: str,
    keys: Sequence[str],
    name: str,
) -> list[dict[str, Any]]:
    """A list of objects that all have these keys.

    Raises:
      ValueError: If there is no such list, or an object lacks a key.
    """
    found = data.get(part)
    if not isinstance(found, list):
        raise ValueError(
            f"{name} needs a list {part!r}; it holds {files.brief(map(repr, data))}."
        )
    for place, entry in enumerate(found):
        absent = [k for k in keys if not isinstance(entry, dict) or k not in entry]
        if absent:
            raise ValueError(f"{name}: {part}[{place}] has no {', '.join(absent)}.")
    return found


def _around(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    return [min(xs), min(ys), max(xs), max(ys)]


def frame(height: Any, width: Any, where: str) -> Frame | None:
    """Height and width; None where either is not told or 0."""
    if not height or not width:
        return None
    sides = (number(height, f"{where}, height"), number(width, f"{where}, width"))
    return sides if min(sides) > 0 else None


def number(value: Any, where: str) -> float:
    """A finite number.

    Raises:
      ValueError: If it is not one; says where.
    """
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result):
        raise ValueError(f"{where}: expected a number, got {str(value)[:40]!r}.")
    return result
