"""GRAZPEDWRI-DX: X-rays of children's wrists with boxes of nine kinds."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.sources import box_formats, files, tables

TABLE = "dataset.csv"
LABELS = ("no_fracture", "fracture")
FLAGS = ("initial_exam", "cast", "diagnosis_uncertain", "osteopenia", "metal")
# In the order of YOLO's class numbers.
OBJECTS = (
    "boneanomaly",
    "bonelesion",
    "foreignbody",
    "fracture",
    "metal",
    "periostealreaction",
    "pronatorsign",
    "softtissue",
    "text",
)
ANNOTATIONS = ("yolov5", "pascalvoc", "supervisely")
_FORMAT_SUFFIXES = {"yolov5": ".txt", "pascalvoc": ".xml", "supervisely": ".json"}
_COLUMNS = (
    "filestem",
    "patient_id",
    "study_number",
    "gender",
    "age",
    "laterality",
    "projection",
    "fracture_visible",
)
_PROJECTIONS = {"1": "PA/AP", "2": "lateral", "3": "other", "": ""}
_SIDES = {"L": "left wrist", "R": "right wrist", "": "wrist"}
_PARTS = 4
_PART = re.compile(r"(?:^|/)images_part(\d+)/", re.IGNORECASE)
_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclasses.dataclass
class GrazpedwriDxConfig(release.ReleaseConfig):
    """How GRAZPEDWRI-DX is prepared.

    Attributes:
      objects: Kinds of boxes to keep, some of `OBJECTS`; none means all. Others are
        ignored, so that ("fracture",) makes a set for the detection of fractures.
      annotations: "yolov5", "pascalvoc" or "supervisely"; "" for the first of them that
        is there.
    """

    objects: tuple[str, ...] = ()
    annotations: str = ""

    def __post_init__(self) -> None:
        """Refuses kinds and formats that the release does not have."""
        self.objects = tuple(self.objects)
        for option, values, known in (
            ("objects", self.objects, OBJECTS),
            ("annotations", (self.annotations,), (*ANNOTATIONS, "")),
        ):
            for value in values:
                if value not in known:
                    expected = ", ".join(filter(None, known))
                    raise ValueError(
                        f"{self.name}: {option} holds {value!r}; expected one of "
                        f"{expected}.{files.nearest(value, known)}"
                    )


class Builder(release.ReleaseBuilder):
    """GRAZPEDWRI-DX as released."""

    BUILDER_CONFIGS: ClassVar[list[GrazpedwriDxConfig]] = [
        *release.standard_configs(GrazpedwriDxConfig),
        GrazpedwriDxConfig(
            name="fractures_px512",
            description="boxes of fractures alone, longest side 512 pixels",
            image_size=512,
            objects=("fracture",),
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get dataset.csv, images_part1.zip to images_part4.zip and "
        "folder_structure.zip from https://doi.org/10.6084/m9.figshare.14825193 "
        "(CC BY 4.0) and unpack the archives beside dataset.csv."
    )

    # Other sets have dataset.csv, images and labels too: there names must fit.
    MARKERS = (
        TABLE,
        "images_part*|folder_structure|yolov5|pascalvoc|supervisely|images/*_wri-*",
    )
    OWN = (
        *(TABLE, "images*", "labels*", "annotations*", "folder_structure*"),
        *("yolov5*", "pascalvoc*", "supervisely*"),
    )
    EXPECTED: ClassVar = {
        "images": 20_327,
        "patients": 6_091,
        "label=no_fracture": 6_777,
        "label=fracture": 13_550,
    }

    builder_config: GrazpedwriDxConfig
    LABELS: ClassVar = {"label": LABELS, "flags": FLAGS}
    ABOUT = ("view", "age", "sex", "study_id", "body_part")

    def layout(self) -> xray_features.Layout:
        """See base class, with boxes of the kinds that are asked for."""
        kinds = self.builder_config.objects or OBJECTS
        return dataclasses.replace(super().layout(), object_names=kinds)

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        self._require_parts()
        content = self.content(TABLE)
        columns, rows = tables.parse(content, TABLE)
        tables.require(columns, (*_COLUMNS, *FLAGS), TABLE)
        pictures = self._pictures
        self.require_pictures(TABLE, [row["filestem"] for row in rows], pictures)
        items, listed = [], set()
        for number, row in enumerate(rows, start=2):
            stem = row["filestem"]
            if stem in listed:
                raise ValueError(f"{TABLE}: row {number}: {stem!r} comes twice.")
            listed.add(stem)
            # Rows are checked even where the image is missing.
            item = self._item(row, pictures.get(stem, ""), f"{TABLE}: row {number}")
            if item.image:
                items.append(item)
            else:
                self.leave_out(f"{stem}.png", f"in {TABLE} but not there")
        for stem in sorted(pictures.keys() - listed):
            self.leave_out(pictures[stem], f"not in {TABLE}")
        return items

    def _item(self, row: Mapping[str, str], image: str, where: str) -> release.Item:
        is_seen = bool(
            tables.flag(row["fracture_visible"], f"{where}, fracture_visible")
        )
        flags = [bool(tables.flag(row[f], f"{where}, {f}")) for f in FLAGS]
        if not row["patient_id"] or not row["filestem"]:
            raise ValueError(f"{where} lacks its filestem or patient_id.")
        patient = row["patient_id"]
        study = row["study_number"]
        return release.Item(
            image_id=row["filestem"],
            image=image,
            patient=f"graz:{patient}",
            labels={
                "label": np.array([not is_seen, is_seen], np.int8),
                "flags": np.array(flags, np.int8),
            },
            objects=self._objects(row["filestem"], is_seen=is_seen),
            about=xray_features.About(
                view=_code(row, "projection", _PROJECTIONS, where),
                age=tables.number(row["age"], f"{where}, age")
                if row["age"]
                else math.nan,
                sex=row["gender"] if row["gender"] in ("F", "M") else "",
                study_id=f"{patient}-{study}" if study else "",
                body_part=_code(row, "laterality", _SIDES, where),
            ),
            stratum=LABELS[is_seen],
        )

    def _objects(self, stem: str, *, is_seen: bool) -> box_formats.Objects | None:
        """The boxes; None where it is not known what there is.

        An image without a file has no boxes, but if the table sees a fracture in it the
        file is missing.
        """
        source, paths = self._annotations
        path = paths.get(stem)
        if path is None:
            if is_seen:
                return None
            boxes = box_formats.boxes([], [], None)
        else:
            boxes = _read(source, self.content(path), path)
        chosen = self.builder_config.objects or OBJECTS
        ignored = [name for name in OBJECTS if name not in chosen]
        return boxes.choose(chosen, ignored, path or stem)

    @functools.cached_property
    def _pictures(self) -> dict[str, str]:
        """Path of each image by its name without suffix, in whatever folder."""
        return files.by_name(self.release, _SUFFIXES)

    @functools.cached_property
    def _annotations(self) -> tuple[str, dict[str, str]]:
        """The format that is read and the file of each image in it."""
        wanted = self.builder_config.annotations
        for source in [wanted] if wanted else ANNOTATIONS:
            found = files.by_name(self.release, (_FORMAT_SUFFIXES[source],))
            # Supervisely's files keep the suffix of the image: name.png.json.
            paths = {stem.removesuffix(".png"): path for stem, path in found.items()}
            # Other files of the same kind, such as lists of classes, say nothing.
            if paths := {k: v for k, v in paths.items() if k in self._pictures}:
                return source, paths
        raise FileNotFoundError(
            f"{self.name}: no annotations of {wanted or ', '.join(ANNOTATIONS)} in "
            f"{str(self.release.root)!r}. Unpack folder_structure.zip there."
        )

    def _require_parts(self) -> None:
        """Refuses a copy of which some parts were not unpacked."""
        there = {
            int(number)
            for name in self.release.sizes
            if name.lower().endswith(_SUFFIXES)
            for number in _PART.findall(name)
        }
        wanted = range(1, _PARTS + 1)
        missing = [f"images_part{n}" for n in wanted if n not in there]
        if 0 < len(missing) < _PARTS:
            raise FileNotFoundError(
                f"{self.name}: nothing is in {', '.join(missing)} of "
                f"{str(self.release.root)!r}, though other parts are there. Unpack "
                f"{', '.join(f'{part}.zip' for part in missing)} too."
            )


def _read(source: str, content: bytes, path: str) -> box_formats.Boxes:
    if source == "yolov5":
        return box_formats.yolo(content, path, OBJECTS)
    if source == "pascalvoc":
        return box_formats.voc(content, path)
    return box_formats.supervisely(content, path)


def _code(
    row: Mapping[str, str], column: str, words: Mapping[str, str], where: str
) -> str:
    """The word that a code stands for."""
    if row[column] not in words:
        raise ValueError(
            f"{where}, {column}: expected one of {', '.join(filter(None, words))}, got "
            f"{row[column]!r}."
        )
    return words[row[column]]
