"""NIH ChestX-ray14 as the NIH Clinical Center and its mirrors release it."""

from __future__ import annotations

import collections
import hashlib
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.sources import box_formats, files, tables

# Each finding with the published numbers of its images and of its boxes.
_PUBLISHED = {
    "Atelectasis": (11_559, 180),
    "Cardiomegaly": (2_776, 146),
    "Consolidation": (4_667, 0),
    "Edema": (2_303, 0),
    "Effusion": (13_317, 153),
    "Emphysema": (2_516, 0),
    "Fibrosis": (1_686, 0),
    "Hernia": (227, 0),
    "Infiltration": (19_894, 123),
    "Mass": (5_782, 85),
    "Nodule": (6_331, 79),
    "Pleural_Thickening": (3_385, 0),
    "Pneumonia": (1_431, 120),
    "Pneumothorax": (5_302, 98),
}
FINDINGS = tuple(_PUBLISHED)
BOXED = tuple(name for name, (_, boxes) in _PUBLISHED.items() if boxes)
_NOTHING = "No Finding"
# The table of boxes has a word of its own.
_ALSO_CALLED = {"Infiltrate": "Infiltration"}
_ID = "Image Index"
_NAME = re.compile(r"(\d{8})_\d{3}")  # patient and follow-up
_SIDE = 1024.0  # pixels, of every image; the boxes refer to it
_OLDEST = 100.0  # years; ages above are slips of the pen
_UNITS = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}  # in a year
_AGE = re.compile(r"(\d+)(?:\.0*)?\s*([YMWD]?)", re.IGNORECASE)
_SUFFIXES = (".png", ".jpg", ".jpeg")
# Of the release; others, as images_224, hold smaller copies.
_FOLDERS = ("images", "images_00[1-9]", "images_01[0-2]")
_RARE_FIRST = sorted(FINDINGS, key=lambda name: _PUBLISHED[name][0])


class Builder(release.ReleaseBuilder):
    """Chest X-rays of 30,805 patients with fourteen findings mined from reports."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    From https://nihcc.app.box.com/v/ChestXray-NIHCC take images/images_001.tar.gz to
    images_012.tar.gz (unpack them), Data_Entry_2017_v2020.csv, BBox_List_2017.csv,
    train_val_list.txt and test_list.txt; or the Kaggle mirror nih-chest-xrays/data, as
    it unpacks. Use is free with attribution: link to the page, cite Wang et al. (CVPR
    2017), acknowledge the NIH Clinical Center.
    """
    MARKERS = ("data_entry_2017*.csv",)
    OWN = (
        *_FOLDERS,
        "data_entry_2017*.csv",
        "bbox_list_2017*.csv",
        "train_val_list.txt",
        "test_list.txt",
        "????????_???.*",
    )
    EXPECTED: ClassVar = {
        "images": 112_120,
        "patients": 30_805,
        **{f"finding={name}": images for name, (images, _) in _PUBLISHED.items()},
        **{f"boxes={name}": _PUBLISHED[name][1] for name in BOXED},
    }
    HAS_OFFICIAL_SPLIT = True
    DEFAULT_MANIFEST = "official"
    LABELS: ClassVar = {"finding": FINDINGS}
    OBJECTS = BOXED
    ABOUT = ("view", "age", "sex")

    def items(self) -> Sequence[release.Item]:
        """See base class; stored splits are the two lists of the release."""
        name = self.find_file("data_entry_2017_v2020*.csv", "data_entry_2017*.csv")
        columns, rows = tables.parse(self.content(name), name)
        needed = [_ID, "Finding Labels", "Patient ID", "Patient Age", "Patient Gender"]
        tables.require(columns, [*needed, "View Position"], name)
        split_of, boxes = self._splits(), self._boxes()
        pictures = self._pictures()
        found = {}
        for number, row in enumerate(rows, start=2):
            where = f"{name}: row {number}"
            key, patient = _key(row[_ID], where)
            if key in found:
                raise ValueError(f"{where}: {row[_ID]} comes a second time.")
            if tables.number(row["Patient ID"], f"{where}, Patient ID") != int(patient):
                raise ValueError(
                    f"{where}: Patient ID is {row['Patient ID']!r}, but {row[_ID]} is "
                    f"of patient {int(patient)}. Take the table as it was released."
                )
            label, stratum = _label(row["Finding Labels"], where)
            found[key] = release.Item(
                image_id=key,
                image=pictures.get(key, ""),
                split=split_of.get(key, ""),
                patient=_patient(key),
                labels={"finding": label},
                objects=boxes.get(key),
                about=_about(row, where),
                stratum=stratum,
            )
        self.require_pictures(name, found.keys(), pictures.keys())
        for key in sorted(pictures.keys() - found.keys()):
            self.leave_out(pictures[key], f"not in {name}")
        return [item for item in found.values() if self._is_whole(item)]

    def official(self, found: Sequence[release.Item]) -> Mapping[str, str]:
        """The two lists; an eighth of train_val is for validation, by patient.

        Patients come in the order of sha256 of "nih_chest_xray14|official|patient"
        until they have an eighth of the names in the list, so that the split is the
        same where only a part of the images was fetched.
        """
        images = collections.Counter(
            _patient(key) for key, split in self._splits().items() if split == "train"
        )
        lacking = images.total() / 8
        held: set[str] = set()
        for patient in sorted(images, key=_digest):
            if lacking <= 0:
                break
            held.add(patient)
            lacking -= images[patient]
        return {
            item.image_id: "validation"
            if item.split == "train" and item.patient in held
            else item.split
            for item in found
        }

    def _pictures(self) -> dict[str, str]:
        """Path of each image by its name, in the root or the folders of the release.

        The twelve folders are one: whatever the layout, names are unique. Of copies the
        largest file is taken, then that nearest to the root.
        """
        copies: dict[str, list[str]] = {}
        for name in self.release.sizes:
            path = pathlib.PurePosixPath(name)
            is_ours = all(files.fits(part, _FOLDERS) for part in path.parts[:-1])
            if is_ours and path.suffix.lower() in _SUFFIXES:
                copies.setdefault(path.stem, []).append(name)
        for names in copies.values():
            names.sort(key=lambda n: (-self.release.sizes[n], n.count("/"), n))
            for name in names[1:]:
                self.leave_out(name, f"a second copy of {names[0]}")
        return {key: names[0] for key, names in copies.items()}

    def _splits(self) -> dict[str, str]:
        """Stored split of each image in the two lists."""
        split_of: dict[str, str] = {}
        patients: dict[str, set[str]] = {}
        for split, file in (("train", "train_val_list.txt"), ("test", "test_list.txt")):
            name = self.find_file(file)
            for number, line in enumerate(tables.lines(self.content(name), name), 1):
                key, _ = _key(line, f"{name}: line {number}")
                split_of[key] = split
                patients.setdefault(split, set()).add(_patient(key))
        both = sorted(patients["train"] & patients["test"])
        if both:
            raise ValueError(
                f"train_val_list.txt and test_list.txt share {len(both)} patients, "
                f"which those of the release do not: {files.brief(both, 5)}. Take both "
                "lists from the same release."
            )
        return split_of

    def _boxes(self) -> dict[str, box_formats.Objects]:
        """The boxes of each listed image."""
        name = self.find_file("bbox_list_2017*.csv")
        found: dict[str, tuple[list[list[float]], list[int]]] = {}
        # The header has nine cells, the rows have six.
        columns = ("image", "label", "x", "y", "w", "h")
        rows = tables.positional(self.content(name), name, columns)
        for number, row in enumerate(rows, start=2):
            where = f"{name}: row {number}"
            key, _ = _key(row["image"], where)
            label = _ALSO_CALLED.get(row["label"], row["label"])
            if label not in BOXED:
                raise ValueError(
                    f"{where}: {row['label']!r} is none of {', '.join(BOXED)}."
                )
            x, y, w, h = (tables.number(row[c], f"{where}, {c}") for c in columns[2:])
            corners, classes = found.setdefault(key, ([], []))
            corners.append([x, y, x + w, y + h])
            classes.append(BOXED.index(label))
        return {
            key: box_formats.Objects(np.asarray(box), np.asarray(label), (_SIDE, _SIDE))
            for key, (box, label) in found.items()
        }

    def _is_whole(self, item: release.Item) -> bool:
        """Whether the image is there and in a list; notes it otherwise."""
        if not item.image:
            self.leave_out(item.image_id, "in the table, but the file is not there")
        elif not item.split:
            self.leave_out(item.image, "neither in train_val_list nor in test_list")
        return bool(item.image and item.split)


def _key(name: str, where: str) -> tuple[str, str]:
    """Returns the name of an image without its suffix, and the patient's digits."""
    key = name.rsplit(".", maxsplit=1)[0]
    match = _NAME.fullmatch(key)
    if not match:
        raise ValueError(
            f"{where}: {name!r} is not the name of an image, as 00000001_000.png."
        )
    return key, match[1]


def _patient(key: str) -> str:
    return f"nih:{int(key.split('_')[0])}"


def _digest(patient: str) -> bytes:
    return hashlib.sha256(f"nih_chest_xray14|official|{patient}".encode()).digest()


def _label(cell: str, where: str) -> tuple[np.ndarray, str]:
    """Codes the findings of an image, int8 [14]; and gives the rarest as stratum."""
    names = [_ALSO_CALLED.get(n.strip(), n.strip()) for n in cell.split("|")]
    strangers = [n for n in names if n not in (*FINDINGS, _NOTHING)]
    if strangers or (_NOTHING in names and len(names) > 1):
        raise ValueError(
            f"{where}, Finding Labels: {cell!r}; expected {_NOTHING!r} alone or some "
            f"of {', '.join(FINDINGS)}, separated by '|'."
        )
    label = np.array([name in names for name in FINDINGS], np.int8)
    return label, next((name for name in _RARE_FIRST if name in names), _NOTHING)


def _about(row: Mapping[str, str], where: str) -> xray_features.About:
    sex = row["Patient Gender"].upper()
    if sex not in xray_features.SEXES:
        raise ValueError(f"{where}, Patient Gender: expected M or F, got {sex!r}.")
    return xray_features.About(
        view=row["View Position"],
        age=_age(row["Patient Age"], f"{where}, Patient Age"),
        sex=sex,
    )


def _age(cell: str, where: str) -> float:
    """Years from "58", "058Y" or "010M"; not a number where none or above a hundred."""
    if not cell:
        return math.nan
    match = _AGE.fullmatch(cell)
    if not match:
        raise ValueError(f"{where}: expected years, as 58 or 058Y, got {cell!r}.")
    years = int(match[1]) / _UNITS[match[2].upper() or "Y"]
    return years if years <= _OLDEST else math.nan
