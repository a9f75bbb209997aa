"""The COVID-19 image data collection of Cohen and others (covid-chestxray-dataset)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.sources import tables

TABLE = "metadata.csv"
LABELS = ("other", "covid")
# Words of the findings, which are paths such as Pneumonia/Viral/COVID-19, and our class
# of each; other words stay without a class.
FINDINGS = {
    "no finding": "no_finding",
    "pneumonia": "pneumonia",
    "viral": "viral",
    "bacterial": "bacterial",
    "fungal": "fungal",
    "lipoid": "lipoid",
    "aspiration": "aspiration",
    "tuberculosis": "tuberculosis",
    "covid-19": "covid_19",
    "sars": "sars",
}
_COVID = "covid-19"
_KINDS = ("viral", "bacterial", "fungal")
# Early tables name a germ without the path to it: the words above it are not told.
_GERMS = {
    "viral": ("covid-19", "sars", "mers", "mers-cov", "influenza", "varicella"),
    "bacterial": (
        *("streptococcus", "klebsiella", "legionella", "mycoplasma", "e.coli"),
        *("chlamydophila", "nocardia"),
    ),
    "fungal": ("pneumocystis", "aspergillosis"),
}
_UNDECIDED = ("", "todo", "unknown")
# What early tables call a view though it is a slice of a CT.
_CT_VIEWS = ("ct", "axial", "coronal", "sagittal")
_IMAGES = "images"
_COLUMNS = ("patientid", "finding", "view", "filename")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_OLDEST = 120  # years


class Builder(release.ReleaseBuilder):
    """The X-rays of the collection; its CT images and volumes are left out."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Clone or download https://github.com/ieee8023/covid-chestxray-dataset (each "
        "image has its own licence, in the column `license` of metadata.csv) and give "
        "the folder that holds metadata.csv and images/."
    )

    # Other sets have metadata.csv and images too; every state of this one has some of
    # these.
    MARKERS = (
        TABLE,
        _IMAGES,
        "annotations/lungvae-masks|annotations/covid-severity-scores.csv|schema.md"
        "|images/auntminnie-*|images/sars-10.1148*",
    )
    OWN = (TABLE, _IMAGES)
    # X-rays of the last table, those with undecided findings included.
    EXPECTED: ClassVar = {"images": 866}
    LABELS: ClassVar = {"label": LABELS, "finding": tuple(FINDINGS.values())}
    ABOUT = ("view", "age", "sex", "study_id")

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        content = self.content(TABLE)
        _, rows = tables.parse(content, TABLE, fallback="latin-1", is_ragged=True)
        # Early tables say `Patientid` and ` url`.
        rows = [{k.lower(): v for k, v in row.items()} for row in rows]
        tables.require(rows[0], _COLUMNS, TABLE)
        paths = [
            f"{_IMAGES}/{row['filename']}"
            for row in rows
            if row.get("folder", _IMAGES) == _IMAGES
        ]
        self.require_pictures(TABLE, paths, self.release.sizes)
        listed: dict[str, str] = {}
        items = []
        for number, row in enumerate(rows, start=2):
            where = f"{TABLE}: row {number}"
            name = row["filename"]
            if not name:
                raise ValueError(f"{where} names no file. Take the table as released.")
            reason = self._why_not(row)
            if name in listed and not reason:
                if listed[name] != row["finding"]:
                    raise ValueError(
                        f"{where}: {name!r} comes twice, with the findings "
                        f"{listed[name]!r} and {row['finding']!r}."
                    )
                reason = "listed twice"
            if reason:
                folder = row.get("folder") or _IMAGES
                self.leave_out(f"{folder}/{name}", reason)
                continue
            listed[name] = row["finding"]
            items.append(_item(row))
        named = {f"{_IMAGES}/{row['filename']}" for row in rows}
        for path in self.release.sizes:
            if path.startswith(f"{_IMAGES}/") and path not in named:
                self.leave_out(path, f"not in {TABLE}")
        return items

    def _why_not(self, row: Mapping[str, str]) -> str:
        """Why an image is left out; "" if it is not."""
        modality, folder = row.get("modality", "X-ray"), row.get("folder", _IMAGES)
        if modality.lower() != "x-ray":
            return f"not an X-ray but {modality or 'not told what'}"
        if row["view"].lower() in _CT_VIEWS:
            return f"not an X-ray but a view {row['view']}"
        if folder != _IMAGES:
            return f"in the folder {folder}, not in {_IMAGES}"
        if f"{_IMAGES}/{row['filename']}" not in self.release.sizes:
            return f"in {TABLE} but not there"
        if row["finding"].lower() in _UNDECIDED:
            # What begins so counts as there; see `diagnosis`.
            return f"undecided: its finding is {row['finding'] or 'blank'}"
        return ""


def _item(row: Mapping[str, str]) -> release.Item:
    # Early tables join findings by commas, as in "COVID-19, ARDS".
    words = [word.strip().lower() for word in re.split("[/,]", row["finding"])]
    label = int(_COVID in words)
    patient, offset = row["patientid"], row.get("offset", "")
    sex = row.get("sex", "").upper()
    return release.Item(
        image_id=row["filename"],
        image=f"{_IMAGES}/{row['filename']}",
        patient=f"covid:{patient}" if patient else "",
        labels={
            "label": np.eye(len(LABELS), dtype=np.int8)[label],
            "finding": _finding(row["finding"], words),
        },
        about=xray_features.About(
            view=row["view"],
            age=_age(row.get("age", "")),
            sex=sex if sex in ("F", "M") else "",
            # Days since the illness began: images of one day belong together.
            study_id=f"{patient}-{offset}" if patient and offset else "",
        ),
        stratum=LABELS[label],
    )


def _finding(cell: str, words: Sequence[str]) -> np.ndarray:
    """Which words of FINDINGS there are, int8; -1 for those above a germ alone."""
    label = {word: int(word in words) for word in FINDINGS}
    alone = [w.strip().lower() for w in cell.split(",") if "/" not in w]
    for kind in _KINDS:
        if any(germ in alone for germ in _GERMS[kind]):
            for above in {kind, "pneumonia"} - {*words}:
                label[above] = xray_features.UNKNOWN_LABEL
    return np.array([*label.values()], np.int8)


def _age(cell: str) -> float:
    """Years; not a number where the cell is blank or says something else."""
    if not _NUMBER.fullmatch(cell) or float(cell) > _OLDEST:
        return math.nan
    return float(cell)
