"""Chest X-rays of children with and without pneumonia (Kermany 2018)."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfds_builders import xray_features
from tfds_builders.releases import release

_LABELS = ("normal", "pneumonia")
_SUBTYPES = ("normal", "bacteria", "virus")
# Folder of the release to split; Kaggle's val was taken out of Mendeley's train.
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_NEEDED = tuple(f"{part}/{label}" for part in ("train", "test") for label in _LABELS)
_SUFFIXES = (".jpeg", ".jpg", ".png")

# person1000_bacteria_2931: Kaggle and the second version of Mendeley.
_PERSON = re.compile(r"^(person\d+)_(bacteria|virus)_\d+$", re.IGNORECASE)
# IM-0115-0001 and NORMAL2-IM-0381-0001: the same, normal.
_IM = re.compile(r"^(?:NORMAL\d*-)?(IM-\d+)-\d+(?:-\d+)*$", re.IGNORECASE)
# BACTERIA-1008087-0001, VIRUS-..., NORMAL-...: the third version of Mendeley.
_NUMBERED = re.compile(r"^(BACTERIA|VIRUS|NORMAL)-(\d+)-\d+$", re.IGNORECASE)


class Builder(release.ReleaseBuilder):
    """Normal against pneumonia, and which kind of pneumonia."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Get chest-xray-pneumonia.zip from
    https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia, or
    ChestXRay2017.zip from https://data.mendeley.com/datasets/rscbjbr9sj (CC BY 4.0),
    and unpack it, so that there is a folder chest_xray with train and test, each with
    NORMAL and PNEUMONIA.
    """
    MARKERS = ("train/normal|train/pneumonia",)
    EXPECTED: ClassVar = {
        "images": 5_856,
        "label=normal": 1_583,
        "label=pneumonia": 4_273,
        "subtype=normal": 1_583,
        "subtype=bacteria": 2_780,
        "subtype=virus": 1_493,
    }
    HAS_OFFICIAL_SPLIT = True
    LABELS: ClassVar = {"label": _LABELS, "subtype": _SUBTYPES}

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        found: dict[str, release.Item] = {}
        inner: dict[str, int] = {}
        seen = set()
        for name in self.release.sizes:
            parts = name.split("/")
            folder = "/".join(parts[:-1]).lower()
            part, _, label = folder.partition("/")
            if part not in _SPLITS or label not in _LABELS:
                if len(parts) > 1 and part not in _SPLITS:
                    inner[parts[0]] = inner.get(parts[0], 0) + 1
                else:
                    self.leave_out(name, "lies in no folder of the release")
                continue
            seen.add(folder)
            if pathlib.PurePosixPath(name).suffix.lower() not in _SUFFIXES:
                self.leave_out(name, "not an image")
                continue
            item = _item(name, part, label)
            if item.image_id in found:
                self.leave_out(name, "has the same name as another image")
                continue
            found[item.image_id] = item
        for folder, count in inner.items():
            self.leave_out(
                folder, f"{count} files beside the release, such as a second copy of it"
            )
        lacking = [folder for folder in _NEEDED if folder not in seen]
        if lacking:
            raise FileNotFoundError(
                f"{self.name}: no file in {', '.join(lacking)} of "
                f"{str(self.release.root)!r}. Unpack the whole archive again."
            )
        return list(found.values())

    def official(self, found: Sequence[release.Item]) -> Mapping[str, str]:
        """The folders; a tenth of train for validation where there is no val (ours)."""
        split_of = {item.image_id: item.split for item in found}
        if "validation" in split_of.values():
            return split_of
        return release.carve_validation(found, self.name)


def _item(name: str, part: str, label: str) -> release.Item:
    """What folder and name of a file tell about it."""
    stem = pathlib.PurePosixPath(name).stem
    patient, subtype = _patient_and_subtype(stem)
    if label == "normal":
        subtype = "normal"
    elif subtype == "normal":
        subtype = ""
    # Val counts as train, so that the two mirrors agree on the name of an image.
    home = "test" if part == "test" else "train"
    return release.Item(
        image_id=f"{home}/{label.upper()}/{stem}",
        image=name,
        split=_SPLITS[part],
        patient=f"kermany:{patient}" if patient else "",
        labels={
            "label": xray_features.one_hot(_LABELS, label),
            "subtype": xray_features.one_hot(_SUBTYPES, subtype),
        },
        stratum=label,
    )


def _patient_and_subtype(stem: str) -> tuple[str, str]:
    """The patient's key and the kind of image; "" for what a name does not tell.

    One number is one patient wherever it stands: numbers start anew in places, so two
    children may share a group, but no child is in two.
    """
    if match := _PERSON.match(stem):
        return match[1].lower(), match[2].lower()
    if match := _IM.match(stem):
        return match[1].upper(), "normal"
    if match := _NUMBERED.match(stem):
        return match[2], match[1].lower()
    return "", ""
