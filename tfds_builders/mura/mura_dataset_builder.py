"""Radiographs of upper extremities, normal and abnormal (MURA v1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.sources import folders, tables

_LABELS = ("normal", "abnormal")
_OF_WORD = {"negative": "normal", "positive": "abnormal"}
_OF_DIGIT = {"0": "normal", "1": "abnormal"}
_SPLITS = {"train": "train", "valid": "validation"}
_SUFFIXES = (".png", ".jpg", ".jpeg")

# The end of a path in the tables; folders may stand in front.
_STUDY = (
    r"(?:^|/)(?P<study>(?P<part>train|valid)/(?P<body>XR_[A-Z]+)"
    r"/patient(?P<patient>\d+)/study\d+_(?P<word>positive|negative))"
)
_STUDY_PATH = re.compile(_STUDY + r"/?$")
_IMAGE_PATH = re.compile(_STUDY + r"/(?P<file>(?P<stem>[^/]+)\.\w+)$")
_EXAMPLE = "MURA-v1.1/train/XR_ELBOW/patient00011/study1_negative/"


class Builder(release.ReleaseBuilder):
    """Normal against abnormal in seven parts of the arm; the label is the study's."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Ask for MURA-v1.1.zip at https://stanfordmlgroup.github.io/competitions/mura/
    (Stanford's MURA Dataset Research Use Agreement: no commercial use, no passing on)
    and unpack it, so that there is a folder with train, valid and the tables
    train_image_paths.csv and valid_image_paths.csv.
    """
    MARKERS = ("train_image_paths.csv|valid_image_paths.csv|train/xr_*|valid/xr_*",)
    EXPECTED: ClassVar = {
        "images": 40_005,
        "label=normal": 23_602,
        "label=abnormal": 16_403,
    }
    HAS_OFFICIAL_SPLIT = True
    LABELS: ClassVar = {"label": _LABELS}
    ABOUT = ("study_id", "body_part")

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        found: dict[str, release.Item] = {}
        listed = set()
        for part in _SPLITS:
            table = self.find_file(f"{part}_image_paths.csv")
            label_of = self._labels(part)
            lines = self._lines(table)
            before = len(found)
            for row, path in enumerate(lines, start=1):
                match = _IMAGE_PATH.search(path)
                if not match or match["part"] != part:
                    raise ValueError(
                        f"{self.name}: {table}, row {row}, column 1: expected a path "
                        f"such as {_EXAMPLE.replace('train', part)}image1.png, got "
                        f"{path!r}."
                    )
                item = self._item(match, table)
                if item is None:
                    continue
                listed.add(item.image)
                if label_of.get(match["study"], item.stratum) != _stratum(match):
                    raise ValueError(
                        f"{self.name}: {table}, row {row}: {match['study']} has "
                        f"another label in {part}_labeled_studies.csv. Take the tables "
                        "as they were released."
                    )
                if item.image_id in found:
                    self.leave_out(path, f"listed twice in {table}")
                    continue
                found[item.image_id] = item
            there = lines if len(found) > before else ()
            self.require_pictures(table, lines, there)
        self._note_unlisted(listed)
        return list(found.values())

    def official(self, found: Sequence[release.Item]) -> Mapping[str, str]:
        """The release's valid is for testing; validation is carved from train (ours).

        The test of the release is hidden.
        """
        test = {i.image_id: "test" for i in found if i.split == "validation"}
        rest = [item for item in found if item.split == "train"]
        return {**release.carve_validation(rest, self.name), **test}

    def _lines(self, table: str) -> list[str]:
        name = f"{self.name}: {table}"
        return [
            line.replace("\\", "/") for line in tables.lines(self.content(table), name)
        ]

    def _item(self, match: re.Match[str], table: str) -> release.Item | None:
        """The image of a row; None for a row without one."""
        study, name = match["study"], match["file"]
        if folders.is_junk(name):
            self.leave_out(f"{study}/{name}", "not an image but what macOS left")
            return None
        image = self.release.find(f"{study}/{name}")
        if image is None:
            self.leave_out(f"{study}/{name}", f"in {table}, but not there")
            return None
        return release.Item(
            image_id=f"{study}/{match['stem']}",
            image=image,
            split=_SPLITS[match["part"]],
            patient=f"mura:{int(match['patient'])}",
            labels={"label": xray_features.one_hot(_LABELS, _OF_WORD[match["word"]])},
            about=xray_features.About(study_id=study, body_part=match["body"]),
            stratum=_stratum(match),
        )

    def _labels(self, part: str) -> dict[str, str]:
        """Stratum of each study by the second table, which only repeats the first."""
        label_of: dict[str, str] = {}
        for table in self.release.matching(f"{part}_labeled_studies.csv")[:1]:
            for row, line in enumerate(self._lines(table), start=1):
                path, _, digit = line.rpartition(",")
                match = _STUDY_PATH.search(path.strip())
                if not match or digit.strip() not in _OF_DIGIT:
                    raise ValueError(
                        f"{self.name}: {table}, row {row}: expected a study and 0 or "
                        f"1, such as {_EXAMPLE},0, got {line!r}."
                    )
                label = _OF_DIGIT[digit.strip()]
                label_of[match["study"]] = f"{match['body']} {label}"
        return label_of

    def _note_unlisted(self, listed: set[str]) -> None:
        """Leaves out images that no table names."""
        elsewhere: dict[str, int] = {}
        for name in self.release.sizes:
            top = name.split("/")[0]
            if name in listed or not name.lower().endswith(_SUFFIXES):
                continue
            if top in _SPLITS:
                self.leave_out(name, f"not in {top}_image_paths.csv")
            else:
                elsewhere[top] = elsewhere.get(top, 0) + 1
        for top, count in elsewhere.items():
            self.leave_out(top, f"{count} images outside train and valid")


def _stratum(match: re.Match[str]) -> str:
    """Body part and label, the strata of MUSCLE's split."""
    return f"{match['body']} {_OF_WORD[match['word']]}"
