"""The chest X-rays of Indiana University as Open-i and a mirror release them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar
from xml.etree import ElementTree

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.sources import files, tables

LABELS = ("normal", "abnormal")
_REPORTS, _PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"
_NOT_INDEXED = "no indexing"
# "CXR10_IM-0002-1001.png", "CXR1_1_IM-0001-3001.png" (report 1 alone), the mirror's
# "10_IM-0002-1001.dcm.png", and the DICOM files.
_NAME = re.compile(r"(?:CXR)?(\d+)_(?:\1_)?(IM(?:-\d+)+)(?:\.dcm)?(?:\.png)?", re.I)
# The order of preference where an image is there twice.
_SUFFIXES = (".png", ".dcm")


@dataclasses.dataclass(frozen=True)
class _Told:
    """What a report tells about one of its images.

    Attributes:
      report: Its number.
      label: "normal", "abnormal" or "" for unknown.
      view: As the mirror's table says; "" where there is none.
    """

    report: int
    label: str
    view: str


class Builder(release.ReleaseBuilder):
    """7,470 chest X-rays, frontal and lateral, of 3,851 reports."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack NLMCXR_reports.tgz and NLMCXR_png.tgz (1.4 GB) of
    https://openi.nlm.nih.gov/imgs/collections/ (described at
    https://openi.nlm.nih.gov/faq) into one folder, so that the PNGs lie beside or below
    the folder that holds ecgen-radiology; `python -m tfds_builders.fetch indiana_cxr
    --folder DIR` does it. Or the Kaggle mirror raddar/chest-xrays-indiana-university,
    as it unpacks. Licence: CC BY-NC-ND 4.0.
    """
    MARKERS = (f"ecgen-radiology|{_REPORTS}",)
    EXPECTED: ClassVar = {
        "images": 7_470,
        "patients": 3_851,
        "label=normal": 2_696,
    }
    LABELS: ClassVar = {"label": LABELS}
    ABOUT = ("view", "study_id")

    def items(self) -> Sequence[release.Item]:
        """See base class; a report counts as a patient, whose ids are not released."""
        pictures = self._pictures()
        told = self._told()
        found = []
        for key, about in told.items():
            if key not in pictures:
                self.leave_out(f"{key}.png", "in a report, but the file is not there")
                continue
            item = release.Item(
                image_id=key,
                image=pictures[key],
                patient=f"indiana:{about.report}",
                labels={"label": xray_features.one_hot(LABELS, about.label)},
                about=xray_features.About(
                    view=about.view, study_id=f"CXR{about.report}"
                ),
                stratum=about.label,
            )
            found.append(item)
        for key in sorted(pictures.keys() - told.keys()):
            self.leave_out(pictures[key], "in no report")
        return found

    def _pictures(self) -> dict[str, str]:
        """Path of each image by its id, whichever way it is named.

        Raises:
          FileNotFoundError: If there is none.
        """
        found: dict[str, str] = {}
        for suffix in _SUFFIXES:
            for path in files.by_name(self.release, (suffix,)).values():
                key = _key(path.rsplit("/", maxsplit=1)[-1])
                if key:
                    found.setdefault(key, path)
                else:
                    self.leave_out(path, "not named as CXR10_IM-0002-1001.png")
        if not found:
            self.find_file("CXR*_IM-*.png")
        return found

    def _told(self) -> dict[str, _Told]:
        """What is told of each image, by its id."""
        reports = files.by_name(self.release, (".xml",), holders=("ecgen-radiology",))
        listed = self._from_xml(reports) if reports else self._from_tables()
        views = self._views()
        found: dict[str, _Told] = {}
        for key, report, label in listed:
            if key in found:
                raise ValueError(f"{self.name}: {key} is in report {report} twice.")
            found[key] = _Told(report, label, views.get(key, ""))
        return found

    def _from_xml(self, paths: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
        """Yields id, report and label of each image; damaged reports are left out."""
        for name in sorted(paths, key=lambda name: (len(name), name)):
            path = paths[name]
            content = self.content(path)
            try:
                root = ElementTree.fromstring(content)
            # Of an encoding that it does not know, the parser raises the others.
            except (ElementTree.ParseError, LookupError, ValueError) as error:
                self.leave_out(path, f"not XML: {error}")
                continue
            terms = [node.text or "" for node in root.findall("MeSH/major")]
            for node in root.iter("parentImage"):
                key = _key(node.get("id", ""))
                if key:
                    yield key, _report(key), _label(terms)
                else:
                    self.leave_out(path, f"names an image {node.get('id')!r}")

    def _from_tables(self) -> Iterator[tuple[str, int, str]]:
        """Yields id, report and label of each image, from the mirror's two tables."""
        rows, name = self._table(_REPORTS, "uid", "MeSH")
        terms: dict[int, list[str]] = {}
        for number, row in enumerate(rows, start=2):
            uid = int(tables.number(row["uid"], f"{name}: row {number}, uid"))
            terms[uid] = row["MeSH"].split(";")
        rows, name = self._table(_PROJECTIONS, "uid", "filename")
        for number, row in enumerate(rows, start=2):
            where = f"{name}: row {number}"
            uid = int(tables.number(row["uid"], f"{where}, uid"))
            key = _key(row["filename"])
            if not key or _report(key) != uid:
                raise ValueError(
                    f"{where}, filename: {row['filename']!r} is not the name of an "
                    f"image of report {uid}, as {uid}_IM-0002-1001.dcm.png."
                )
            if uid not in terms:
                raise ValueError(f"{where}, uid: {uid} is not in {_REPORTS}.")
            yield key, uid, _label(terms[uid])

    def _views(self) -> dict[str, str]:
        """Projection of each image by its id, where the mirror's table is there."""
        if not self.release.matching(_PROJECTIONS):
            return {}
        rows, _ = self._table(_PROJECTIONS, "filename", "projection")
        return {_key(row["filename"]): row["projection"] for row in rows}

    def _table(self, pattern: str, *columns: str) -> tuple[tables.Rows, str]:
        name = self.find_file(pattern)
        there, rows = tables.parse(self.content(name), name, fallback="latin-1")
        tables.require(there, columns, name)
        return rows, name


def _key(name: str) -> str:
    """The id that all releases share, "CXR10_IM-0002-1001"; "" for another name."""
    match = _NAME.fullmatch(name)
    return f"CXR{int(match[1])}_{match[2].upper()}" if match else ""


def _report(key: str) -> int:
    return int(key.split("_")[0].removeprefix("CXR"))


def _label(terms: Sequence[str]) -> str:
    """Normal where that is the only major term; unknown where nothing was indexed."""
    said = {term.strip().lower() for term in terms} - {""}
    if not said or _NOT_INDEXED in said:
        return ""
    return "normal" if said == {"normal"} else "abnormal"
