"""Landmarks of a folder of X-rays, from COCO's keypoints; opens no image."""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tfds_builders.sources import box_formats, coco, files
from tfds_builders.xray_folder import boxes, configuration

_VISIBILITIES = (0, 1, 2)  # not known, hidden, seen
_APART = 0.1  # of the longer side; readers of one point are nearer to each other
_REACH = 1.0  # pixels beyond the image that rounding explains


@dataclasses.dataclass(frozen=True)
class ImageLandmarks:
    """The landmarks of one image, as the JSON gives them.

    Attributes:
      points: x, y in pixels, float64 [P, 2]; not a number where unknown. They may lie
        beyond the image.
      size: Height and width of the image in which they are measured; None if the
        JSON does not say.
    """

    points: np.ndarray
    size: tuple[float, float] | None


def parse(
    config: configuration.XrayFolderConfig, content: bytes, images: files.Listing
) -> tuple[dict[str, ImageLandmarks], list[str]]:
    """Reads the JSON.

    Several annotations of an image are readings of the same points; their mean counts.
    Those without keypoints, as of boxes, are skipped.

    Returns:
      The landmarks of each image that has annotations, by the image's path, and the
      names that it lists but that are not there.

    Raises:
      ValueError: If it is not COCO's format, has no landmark of a name that is asked
        for, holds fractions, or several objects in an image.
    """
    name = config.keypoints
    data = coco.parse(content, name, needed=())
    _check_names(config, data.keypoints)
    found: dict[str, ImageLandmarks] = {}
    missing, apart = [], {}
    for image in data.images:
        file_name = str(image["file_name"])
        path = images.find(file_name)
        if path is None:
            missing.append(file_name)
            continue
        if path in found:
            raise ValueError(f"{name} lists the image {path!r} twice.")
        where = f"{name}: {file_name}"
        readings = [
            _reading(entry, data.keypoints, config.landmark_names, where)
            for entry in data.by_image[coco.key(image["id"])]
            if entry.get("keypoints") and not entry.get("iscrowd")
        ]
        if not readings:
            continue
        points, distance = _mean(np.stack(readings))
        size = box_formats.frame(image.get("height"), image.get("width"), where)
        found[path] = ImageLandmarks(points, size)
        if len(readings) > 1:
            apart[path] = distance
    _check_form(found.values(), name)
    _check_readings(found, apart, name)
    _tell_skipped(data, name)
    return found, missing


def to_fractions(
    landmarks: ImageLandmarks, height: int, width: int
) -> tuple[np.ndarray, int]:
    """Makes points that lie beyond the image unknown.

    Args:
      landmarks: Those of one image.
      height: Height of the image as it was read, pixels.
      width: Width of the image as it was read, pixels.

    Returns:
      y, x as fractions of height and width, float32 [P, 2]; how many lay beyond.

    Raises:
      reader.UnreadableImage: If the JSON was made for an image of another shape.
    """
    size = boxes.measured_in(landmarks.size, height, width, what="points")
    points = landmarks.points.copy()
    most = np.array(size[::-1]) + _REACH
    outside = ((points < -_REACH) | (points > most)).any(axis=1)
    points[outside] = np.nan
    return (points[:, ::-1] / size).astype(np.float32), int(outside.sum())


def _check_names(
    config: configuration.XrayFolderConfig, known: Mapping[str, Sequence[str]]
) -> None:
    """Refuses landmarks that the JSON does not have, or has in several categories."""
    counts = collections.Counter(n for names in known.values() for n in names)
    for name in config.landmark_names:
        if counts[name] == 1:
            continue
        if counts[name]:
            raise ValueError(
                f"{config.keypoints}: {counts[name]} keypoints are called {name!r}. "
                "Give each its own name."
            )
        raise ValueError(
            f"{config.keypoints} has no keypoint {name!r}, which the option "
            f"`landmark_names` names. Its keypoints: "
            f"{files.brief(map(repr, counts), 40)}.{files.nearest(name, counts)}"
        )


def _reading(
    entry: coco.Entry,
    known: Mapping[str, Sequence[str]],
    wanted: Sequence[str],
    where: str,
) -> np.ndarray:
    """x, y of the wanted points as one annotation has them, float64 [P, 2]."""
    points = np.full((len(wanted), 2), np.nan)
    category = coco.key(entry["category_id"])
    if category not in known:
        raise ValueError(f"{where}: no category has the id {entry['category_id']!r}.")
    names, values = known[category], entry["keypoints"]
    if not isinstance(values, list) or len(values) != 3 * len(names):
        raise ValueError(
            f"{where}: keypoints must be [x, y, visibility] of each of the "
            f"{len(names)} points of its category, got {str(values)[:60]}."
        )
    for place, name in enumerate(names):
        x, y, seen = (
            box_formats.number(value, f"{where}, keypoint {name!r}")
            for value in values[3 * place : 3 * place + 3]
        )
        if seen not in _VISIBILITIES:
            raise ValueError(
                f"{where}, keypoint {name!r}: the visibility must be one of "
                f"{_VISIBILITIES}, got {seen:g}."
            )
        if seen and name in wanted:
            points[wanted.index(name)] = x, y
    return points


def _mean(readings: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean of the readings that know a point, and how far they are from it at most.

    Args:
      readings: float64 [readings, P, 2].

    Returns:
      float64 [P, 2]; the largest distance of a reading from the mean, pixels.
    """
    known = np.isfinite(readings)
    count = known.sum(axis=0)
    total = np.where(known, readings, 0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    away = np.hypot(*np.moveaxis(np.where(known, readings - mean, 0), -1, 0))
    return mean, float(away.max(initial=0.0))


def _check_form(found: Iterable[ImageLandmarks], name: str) -> None:
    """Refuses fractions of the image; expected are pixels."""
    points = [x.points for x in found if x.size is None or min(x.size) > 2]
    largest = _largest(points)
    if 0 < largest <= 1:
        raise ValueError(
            f"{name}: no coordinate of any keypoint is above 1, so they look like "
            "fractions of the image; expected pixels. Multiply them."
        )


def _largest(points: Iterable[np.ndarray]) -> float:
    """The largest coordinate of all, at least 0."""
    return max((float(np.nan_to_num(each).max()) for each in points), default=0.0)


def _check_readings(
    found: Mapping[str, ImageLandmarks], apart: Mapping[str, float], name: str
) -> None:
    """Looks whether several annotations of an image can be of the same points.

    Args:
      found: The landmarks of each image.
      apart: How far the readings of one image are from their mean, pixels.
      name: Name of the file.
    """
    log = logging.getLogger(__name__)
    reach = _largest(each.points for each in found.values())
    # Where the JSON tells no size, its points reach about as far as its images.
    side = {path: max(found[path].size or (reach,)) for path in apart}
    far = sum(distance > _APART * side[path] for path, distance in apart.items())
    if far > len(apart) / 2:
        raise ValueError(
            f"{name}: {len(apart)} images have several annotations, and in {far} of "
            f"them some lie more than {100 * _APART:g} % of the longer side from their "
            "mean, so they look like several objects and not like several readers. "
            "Keep one annotation for each image."
        )
    if apart:
        log.warning(
            "%s: %d images have several annotations, which are taken for readings of "
            "the same points: their mean counts%s.",
            name,
            len(apart),
            f"; in {far} they lie far apart" if far else "",
        )


def _tell_skipped(data: coco.Coco, name: str) -> None:
    """Says how many annotations of categories with keypoints have none."""
    skipped = sum(
        bool(data.keypoints.get(coco.key(entry["category_id"])))
        for entry in data.annotations
        if not entry.get("keypoints")
    )
    if skipped:
        logging.getLogger(__name__).warning(
            "%s: %d annotations hold no keypoints, though their category names some; "
            "they are skipped.",
            name,
            skipped,
        )
