"""FracAtlas: X-rays of hands, legs, hips and shoulders with boxes of fractures."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from tfds_builders import xray_features
from tfds_builders.prepare import xray_builder
from tfds_builders.releases import release
from tfds_builders.sources import box_formats, coco, files, tables

TABLE = "dataset.csv"
LABELS = ("normal", "fractured")
PARTS = ("hand", "leg", "hip", "shoulder", "mixed")
VIEWS = ("frontal", "lateral", "oblique")
FLAGS = ("hardware", "multiscan")
OBJECTS = ("fractured",)
# Folder and suffix of each format. YOLO's polygons are said to be incomplete: last.
ANNOTATIONS = {
    "coco": ("Annotations/COCO JSON/", ".json"),
    "pascalvoc": ("Annotations/PASCAL VOC/", ".xml"),
    "yolo": ("Annotations/YOLO/", ".txt"),
}
_FOLDERS = {"fractured": True, "non_fractured": False}
_COLUMNS = ("image_id", "fractured", *PARTS[:-1], *VIEWS, *FLAGS)
# A frame of boxes with another ratio of sides than the image is that of another image.
_MAX_ASPECT = 1.02
_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass
class FracatlasConfig(release.ReleaseConfig):
    """How FracAtlas is prepared.

    Attributes:
      annotations: "coco", "pascalvoc" or "yolo"; "" for the first that is there.
    """

    annotations: str = ""

    def __post_init__(self) -> None:
        """Refuses a format that the release does not have."""
        if self.annotations not in ("", *ANNOTATIONS):
            hint = files.nearest(self.annotations, ANNOTATIONS)
            raise ValueError(
                f"{self.name}: annotations is {self.annotations!r}; expected one of "
                f"{', '.join(ANNOTATIONS)}.{hint}"
            )


class Builder(release.ReleaseBuilder):
    """FracAtlas as released."""

    BUILDER_CONFIGS: ClassVar[list[FracatlasConfig]] = release.standard_configs(
        FracatlasConfig
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get FracAtlas.zip from https://doi.org/10.6084/m9.figshare.22363012 (CC BY "
        "4.0) and unpack it: the folder holds dataset.csv, images/ and Annotations/."
    )

    MARKERS = (TABLE, "images/fractured|images/non_fractured")
    OWN = (TABLE, "images", "annotations")
    EXPECTED: ClassVar = {
        "images": 4_083,
        "label=normal": 3_366,
        "label=fractured": 717,
        "boxes=fractured": 922,
    }

    builder_config: FracatlasConfig
    LABELS: ClassVar = {
        "label": LABELS,
        "part": PARTS,
        "projection": VIEWS,
        "flags": FLAGS,
    }
    OBJECTS = OBJECTS
    ABOUT = ("view", "body_part")

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        self._require_folders()
        content = self.content(TABLE)
        columns, rows = tables.parse(content, TABLE)
        tables.require(columns, _COLUMNS, TABLE)
        pictures = files.by_name(self.release, _SUFFIXES, under="images/")
        stems = [pathlib.PurePosixPath(row["image_id"]).stem for row in rows]
        self.require_pictures(TABLE, stems, pictures)
        boxes = self._boxes(pictures)
        items, listed = [], set()
        for number, row in enumerate(rows, start=2):
            where = f"{TABLE}: row {number}"
            stem = pathlib.PurePosixPath(row["image_id"]).stem
            if not stem or stem in listed:
                raise ValueError(
                    f"{where}, image_id: {row['image_id']!r} is blank or comes twice."
                )
            listed.add(stem)
            item = _item(row, stem, pictures.get(stem, ""), boxes.get(stem), where)
            if item.image:
                items.append(item)
            else:
                self.leave_out(row["image_id"], f"in {TABLE} but not there")
        for stem in sorted(pictures.keys() - listed):
            self.leave_out(pictures[stem], f"not in {TABLE}")
        self._leave_out_others(pictures)
        return items

    def load(self, record: xray_builder.Record) -> xray_features.Xray:
        """See base class; boxes that were drawn in another frame are unknown."""
        xray, objects = super().load(record), record.source.objects
        if xray.boxes is None or objects.frame in (None, box_formats.FRACTIONS):
            return xray
        height, width = xray.image.shape
        aspect = objects.frame[0] * width / (objects.frame[1] * height)
        if 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
            return xray
        dropped = len(objects.labels)
        return dataclasses.replace(
            xray, boxes=None, box_labels=None, dropped_boxes=dropped
        )

    def _leave_out_others(self, pictures: Mapping[str, str]) -> None:
        """Tells of images that have the name of one that is taken."""
        for name in self.release.sizes:
            path = pathlib.PurePosixPath(name)
            is_picture = path.suffix.lower() in _SUFFIXES and path.stem in pictures
            if not is_picture or not name.lower().startswith("images/"):
                continue
            if name != pictures[path.stem]:
                reason = f"has the same name as {pictures[path.stem]}"
                self.leave_out(name, reason)

    def _boxes(self, stems: Mapping[str, str]) -> Mapping[str, box_formats.Boxes]:
        """Boxes of each image that is annotated, by its name without suffix."""
        source, paths = self._annotations
        result: dict[str, box_formats.Boxes] = {}
        for stem, path in paths.items():
            if source == "coco":
                found = coco.boxes(self.content(path), path)
                for name, boxes in found.items():
                    result[pathlib.PurePosixPath(name).stem] = boxes
            elif stem in stems and source == "yolo":
                content = self.content(path)
                result[stem] = box_formats.yolo(content, path, OBJECTS)
            elif stem in stems:
                result[stem] = box_formats.voc(self.content(path), path)
        return result

    @functools.cached_property
    def _annotations(self) -> tuple[str, dict[str, str]]:
        """The format that is read, and its files by their names without suffix."""
        wanted = self.builder_config.annotations
        for source in [wanted] if wanted else ANNOTATIONS:
            folder, suffix = ANNOTATIONS[source]
            found = files.by_name(self.release, (suffix,), under=folder)
            if found:
                return source, found
        raise FileNotFoundError(
            f"{self.name}: no annotations of {wanted or ', '.join(ANNOTATIONS)} in "
            f"{str(self.release.root / 'Annotations')!r}. Unpack FracAtlas.zip anew."
        )

    def _require_folders(self) -> None:
        for folder in _FOLDERS:
            start = f"images/{folder.capitalize()}/"
            if not any(n.lower().startswith(start.lower()) for n in self.release.sizes):
                raise FileNotFoundError(
                    f"{self.name}: nothing is in {start} of "
                    f"{str(self.release.root)!r}. Unpack FracAtlas.zip anew."
                )


def _item(
    row: Mapping[str, str],
    stem: str,
    image: str,
    boxes: box_formats.Boxes | None,
    where: str,
) -> release.Item:
    """An image; its label is unknown where folder and table disagree."""

    def flags(names: Sequence[str]) -> np.ndarray:
        cells = [tables.flag(row.get(n, ""), f"{where}, {n}") for n in names]
        unknown = xray_features.UNKNOWN_LABEL
        return np.array([unknown if c is None else c for c in cells], np.int8)

    is_fractured = tables.flag(row["fractured"], f"{where}, fractured")
    if is_fractured is None:
        raise ValueError(f"{where}, fractured: expected 0 or 1, got a blank cell.")
    label = np.array([not is_fractured, is_fractured], np.int8)
    folder = pathlib.PurePosixPath(image).parent.name.lower()
    if _FOLDERS.get(folder, is_fractured) != is_fractured:
        label = np.full(2, xray_features.UNKNOWN_LABEL, np.int8)
    objects = None
    if boxes is not None and boxes.names:
        objects = boxes.choose(OBJECTS, (), where)
    elif label[0] == 1:
        objects = box_formats.boxes([], [], None).choose(OBJECTS, (), where)
    parts, views = flags(PARTS), flags(VIEWS)
    return release.Item(
        image_id=stem,
        image=image,
        labels={
            "label": label,
            "part": parts,
            "projection": views,
            "flags": flags(FLAGS),
        },
        objects=objects,
        about=xray_features.About(
            view=_joined(VIEWS, views), body_part=_joined(PARTS, parts)
        ),
        stratum=LABELS[is_fractured] if label.max() == 1 else "",
    )


def _joined(names: Sequence[str], present: np.ndarray) -> str:
    return "|".join(n for n, there in zip(names, present, strict=True) if there == 1)
