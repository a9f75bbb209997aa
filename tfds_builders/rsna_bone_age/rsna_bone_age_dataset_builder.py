"""Hands of children with their bone age (RSNA 2017)."""

from __future__ import annotations

import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.rsna_bone_age import workbook
from tfds_builders.sources import files, folders, tables

# Patterns of the names of each split's table, the best first.
_TABLES = {
    "train": ("boneage-training-dataset.csv", "train.csv"),
    "validation": ("validation?dataset.csv", "boneage-validation-dataset.csv"),
    "test": (
        "bone?age?ground?truth*.csv",
        "bone?age?ground?truth*.xlsx",
        "boneage-test-dataset.csv",
    ),
}
# Columns in lower case; every table has its own names.
_ID = ("id", "image id", "case id")
_MONTHS = ("boneage", "bone age (months)", "ground truth bone age (months)")
_SEX = ("male", "sex", "gender")
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
_NUMBER = re.compile(r"(\d+)(?:\.0+|\.png)?", re.IGNORECASE)
_SUFFIXES = (".png", ".jpg", ".jpeg")
_VALUE = "bone_age_months"
_OLDEST = 300.0  # months; the atlas ends at 228

# A folder that tells the split of the images in it.
_FOLDER = re.compile(r"bone.?age.?(training|validation|test)|(test).set.images")
# Archives that hold a folder of their own name.
_PART = re.compile(r"boneage-")
_ANNOTATIONS = "annotations"
_SPLIT_OF = {"training": "train", "validation": "validation", "test": "test"}


class Builder(release.ReleaseBuilder):
    """Hands; the bone age that readers gave is kept as a value, and as `age`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    From https://s3.amazonaws.com/east1.public.rsna.org/AI/2017/ get
    Bone+Age+Training+Set.zip (9.6 GB), Bone+Age+Training+Set+Annotations.zip,
    Bone+Age+Validation+Set.zip (1.1 GB) and Bone+Age+Test+Set.zip (170 MB), under
    RSNA's terms of use (research and education, with attribution), and unpack all into
    one folder; the validation set holds two more zips. Or get rsna-bone-age.zip from
    https://www.kaggle.com/datasets/kmader/rsna-bone-age (no validation set).
    """
    MARKERS = (
        "boneage-training-dataset|boneage-training-dataset.csv|bone?age?training?set",
    )
    EXPECTED: ClassVar = {"images": 14_236}
    HAS_OFFICIAL_SPLIT = True
    ABOUT = ("age", "sex")
    VALUES: ClassVar = {_VALUE: "months"}

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        pictures = self._pictures()
        found = []
        for split, patterns in _TABLES.items():
            there = pictures[split]
            self._refuse_packed(split, there)
            # Mirrors lack validation or test, but not the table of what they have.
            if split != "train" and not there and not self.release.matching(*patterns):
                self._refuse_beside(split)
                continue
            table = self.find_file(*patterns)
            about = self._table(table)
            lacking = sorted(about.keys() - there.keys(), key=int)
            if lacking:
                self._refuse_packed(split, there, lacking[0])
            self.require_pictures(table, about.keys(), there)
            for number in lacking:
                self.leave_out(f"{split}/{number}", f"in {table}, but not there")
            for number in sorted(there.keys() - about.keys(), key=int):
                self.leave_out(there[number], f"not in {table}")
            for number in sorted(there.keys() & about.keys(), key=int):
                item = release.Item(
                    image_id=f"{split}/{number}",
                    image=there[number],
                    split=split,
                    about=about[number],
                    values={_VALUE: round(12 * about[number].age, 3)},
                )
                found.append(item)
        return found

    def official(self, found: Sequence[release.Item]) -> Mapping[str, str]:
        """The folders; a tenth of train for validation where there is none (ours)."""
        if any(item.split == "validation" for item in found):
            return super().official(found)
        return release.carve_validation(found, self.name)

    def _pictures(self) -> dict[str, dict[str, str]]:
        """Path of each image by split and number.

        Numbers may come again in another split, so the folders must tell it.
        """
        found: dict[str, dict[str, str]] = {split: {} for split in _TABLES}
        # Copies lie deeper than what they repeat; an empty file is the last choice.
        for name in sorted(
            self.release.sizes,
            key=lambda n: (self.release.sizes[n] <= 0, n.count("/"), n),
        ):
            path = pathlib.PurePosixPath(name)
            homes = [m for part in path.parts[:-1] if (m := _FOLDER.search(_low(part)))]
            if not homes or path.suffix.lower() not in _SUFFIXES:
                continue
            if not path.stem.isdecimal():
                self.leave_out(name, "its name is not a number")
                continue
            split = _SPLIT_OF[homes[-1][1] or homes[-1][2]]
            number = str(int(path.stem))
            first = found[split].setdefault(number, name)
            if first != name:
                self.leave_out(name, "a second copy of an image")
        return found

    def _refuse_packed(
        self, split: str, there: Mapping[str, str], lacking: str = ""
    ) -> None:
        """Says which archive is to be unpacked, where images are missing.

        Args:
          split: The archives of this split are looked at.
          there: Path of each image of the split by its number.
          lacking: Number of an image that a table names; "" for none.
        """
        for name in self.release.sizes:
            path = pathlib.PurePosixPath(name)
            if path.suffix.lower() != ".zip" or _split(path.stem) != split:
                continue
            if _ANNOTATIONS in _low(path.stem) or (there and not lacking):
                continue
            # What the archives of RSNA hold is not in a folder of their name.
            is_outer = not _PART.match(_low(path.stem))
            folder = f"/{_low(path.stem)}/"
            if (is_outer and there) or any(
                folder in f"/{_low(other)}" for other in self.release.sizes
            ):
                continue
            raise FileNotFoundError(
                f"{self.name}: {f'image {lacking}' if lacking else 'any image'} of "
                f"{split} is not there, but the archive {name} is. Unpack it; if you "
                "did, take it away."
            )

    def _refuse_beside(self, split: str) -> None:
        """Refuses a root beside which a split lies that it lacks itself."""
        root = self.release.root
        if root == self.folder:
            return
        for place in folders.entries(root.parent):
            if place == root:
                continue
            there = [place, *(folders.entries(place) if place.is_dir() else [])]
            is_copy = place.is_dir() and not folders.lacking(place, self.MARKERS)
            if is_copy or not any(_split(path.stem) == split for path in there):
                continue
            raise FileNotFoundError(
                f"{self.name}: {str(root)!r} holds no {split} images, but "
                f"{str(place)!r} beside it does. Move it into {str(root)!r}, or take "
                "it away."
            )

    def _table(self, name: str) -> dict[str, xray_features.About]:
        """What a table tells about each image, by its number."""
        content, where = self.content(name), f"{self.name}: {name}"
        if name.lower().endswith(".xlsx"):
            content = workbook.to_csv(content, where)
        columns, rows = tables.parse(content, where)
        known = {_low(column): column for column in columns}
        names = [
            next((known[c] for c in wanted if c in known), None)
            for wanted in (_ID, _MONTHS, _SEX)
        ]
        key, months, sex = names
        if key is None or sex is None:
            raise ValueError(
                f"{where} needs a column {' or '.join(map(repr, _ID))} and one "
                f"{' or '.join(map(repr, _SEX))}; it has {files.brief(columns)}."
            )
        found: dict[str, xray_features.About] = {}
        for number, row in enumerate(rows, start=2):
            place = f"{where}, row {number}, column"
            match = _NUMBER.fullmatch(row[key])
            if not match:
                raise ValueError(f"{place} {key}: expected a number, got {row[key]!r}.")
            name_of_image = str(int(match[1]))
            if name_of_image in found:
                raise ValueError(f"{place} {key}: {name_of_image} comes twice.")
            found[name_of_image] = xray_features.About(
                age=_years(row[months], f"{place} {months}") if months else math.nan,
                sex=_sex(row[sex], f"{place} {sex}", is_flag=_low(sex) == "male"),
            )
        return found


def _split(name: str) -> str:
    """The split that a folder or an archive tells; "" if none."""
    match = _FOLDER.search(_low(name))
    return _SPLIT_OF[match[1] or match[2]] if match else ""


def _years(months: str, place: str) -> float:
    """Years; not a number where the cell is empty."""
    if not months:
        return math.nan
    value = tables.number(months, place)
    if not 0 <= value <= _OLDEST:
        raise ValueError(f"{place}: expected 0 to {_OLDEST:g} months, got {months!r}.")
    return value / 12


def _sex(cell: str, place: str, *, is_flag: bool) -> str:
    """M, F, or "" where the cell is empty; a flag says whether it is a boy."""
    if is_flag:
        return {True: "M", False: "F", None: ""}[tables.flag(cell, place)]
    if cell and cell.lower() not in _SEXES:
        raise ValueError(f"{place}: expected M or F, got {cell!r}.")
    return _SEXES.get(cell.lower(), "")


def _low(text: str) -> str:
    """Lower case, any white space as one space."""
    return " ".join(text.lower().split())
