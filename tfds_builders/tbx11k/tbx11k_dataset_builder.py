"""TBX11K: chest X-rays of healthy, sick and tuberculous people, TB with boxes."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from tfds_builders import xray_features
from tfds_builders.releases import release, tuberculosis
from tfds_builders.sources import box_formats, coco, tables

LABELS = ("health", "sick", "tb")
TUBERCULOSIS = ("absent", "present")
OBJECTS = ("ActiveTuberculosis", "ObsoletePulmonaryTuberculosis")
# A box of a kind that nobody could tell; the makers say that only test images have it.
UNCERTAIN = "PulmonaryTuberculosis"

# Lists, and JSON files of the same names, with the split they mean. Whole names: those
# of "trainval" hold the words "train" and "val".
_LISTS = {
    "TBX11K_train": "train",
    "all_train": "train",
    "TBX11K_val": "validation",
    "all_val": "validation",
    "all_test": "test",
}
# In the order in which they are asked for boxes.
_WITH_BOXES = (
    "TBX11K_train",
    "TBX11K_val",
    "all_train",
    "all_val",
    "TBX11K_trainval",
    "all_trainval",
)
_SUFFIXES = (".png", ".jpg", ".jpeg")
# Montgomery and Shenzhen, as their makers name them; 1 is tuberculosis.
_NLM = re.compile(r"(MCUCXR|CHNCXR)_(\d+)_([01])$", re.IGNORECASE)
# Sets DA and DB: p1.jpg has tuberculosis, n1.jpg has not.
_DADB = re.compile(r"([np])\D*\d+$", re.IGNORECASE)


@dataclasses.dataclass
class Tbx11kConfig(release.ReleaseConfig):
    """How TBX11K is prepared.

    Attributes:
      only_tb: Leaves out all but the TB images of train and validation, the 800 that
        can carry boxes.
    """

    only_tb: bool = False


class Builder(release.ReleaseBuilder):
    """TBX11K as released, `extra/` included."""

    BUILDER_CONFIGS: ClassVar[list[Tbx11kConfig]] = [
        *release.standard_configs(Tbx11kConfig),
        Tbx11kConfig(name="tb", description="the 800 TB images alone", only_tb=True),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Get TBX11K.zip by way of https://mmcheng.net/tb/ (non-commercial research; "
        "the pages say CC BY-NC-SA) and unpack it: the folder holds `imgs`, "
        "`annotations` and `lists`. The repacked 'tbx11k-simplified' (`images` and "
        "`data.csv`) lacks what is needed and is not read."
    )

    MARKERS = (
        "imgs/health|imgs/sick|imgs/tb|imgs/test|imgs/extra",
        "annotations|lists",
    )
    OWN = ("imgs", "annotations", "lists")
    # 8,976 + 3,302 images are in all_trainval and all_test.
    EXPECTED: ClassVar = {
        "images": 12_278,
        "label=health": 3_800,
        "label=sick": 3_800,
        "label=tb": 800,
    }

    builder_config: Tbx11kConfig
    LABELS: ClassVar = {"label": LABELS, "tuberculosis": TUBERCULOSIS}
    OBJECTS = OBJECTS

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        pictures = {
            lower.removeprefix("imgs/"): name
            for lower, name in self._names.items()
            if lower.startswith("imgs/")
            and pathlib.PurePosixPath(lower).suffix in _SUFFIXES
        }
        splits = self._splits()
        self._require_folders(pictures, splits)
        found = self._boxes()
        items = []
        for name, split in sorted(splits.items()):
            image = pictures.pop(name.lower(), "")
            if not image:
                self.leave_out(f"imgs/{name}", "in a list but not there")
                continue
            item = self._item(name, image, split, found)
            if _may_have_boxes(item) or not self.builder_config.only_tb:
                items.append(item)
        for image in pictures.values():
            self.leave_out(image, "in no list of a split")
        self._require_boxes(items, found)
        return items

    def muscle_members(self, found: Sequence[release.Item]) -> Sequence[release.Item]:
        """The TB images of train and validation, 600 and 200."""
        return [item for item in found if _may_have_boxes(item)]

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        """Path of each file by itself in lower case: mirrors write `Annotations`."""
        return {name.lower(): name for name in self.release.sizes}

    def _item(
        self, name: str, image: str, split: str, found: Mapping[str, box_formats.Boxes]
    ) -> release.Item:
        kind = name.split("/")[0]
        label = np.full(len(LABELS), xray_features.UNKNOWN_LABEL, np.int8)
        if kind in LABELS:
            label = (np.asarray(LABELS) == kind).astype(np.int8)
        disease, patient = _of_name(name)
        return release.Item(
            image_id=name,
            image=image,
            split=split,
            patient=patient,
            labels={"label": label, "tuberculosis": disease},
            objects=self._objects(name, split, found),
            stratum=kind if kind in LABELS else "",
        )

    def _objects(
        self, name: str, split: str, found: Mapping[str, box_formats.Boxes]
    ) -> box_formats.Objects | None:
        """The boxes; None where it is not known what there is.

        Known are TB images with boxes, and healthy and sick ones, which have none. Not
        known: test images, `extra/`, a TB image without a box, and one with a box of
        an uncertain kind.
        """
        kind = name.split("/")[0]
        if split == "test" or kind not in LABELS:
            return None
        boxes = found.get(name) or self._from_xml(name)
        if kind == "tb" and (not boxes.names or UNCERTAIN in boxes.names):
            return None
        return boxes.choose(OBJECTS, (), name)

    def _from_xml(self, name: str) -> box_formats.Boxes:
        """Boxes of an image that no JSON lists; none without an XML.

        Its coordinates are those of the image before the makers made it smaller, whose
        size it tells.
        """
        path = self._names.get(_xml_of(name), "")
        if not path:
            return box_formats.boxes([], [], None)
        return box_formats.voc(self.content(path), path)

    def _boxes(self) -> dict[str, box_formats.Boxes]:
        """What the JSON files say about each image; the first that lists it counts."""
        result: dict[str, box_formats.Boxes] = {}
        for stem in _WITH_BOXES:
            name = self._names.get(f"annotations/json/{stem}.json".lower(), "")
            if name:
                found = coco.boxes(self.content(name), name)
                result = {**{_plain(k): v for k, v in found.items()}, **result}
        return result

    def _require_boxes(
        self, items: Iterable[release.Item], found: Mapping[str, box_formats.Boxes]
    ) -> None:
        """Refuses a copy in which no file tells about the TB images of a split."""
        told: dict[str, bool] = {}
        for item in filter(_may_have_boxes, items):
            is_told = item.image_id in found or _xml_of(item.image_id) in self._names
            told[item.split] = told.get(item.split, False) or is_told
        for split in sorted(split for split, is_told in told.items() if not is_told):
            raise FileNotFoundError(
                f"{self.name}: no file tells the boxes of the TB images of {split}: "
                f"expected {', '.join(f'{stem}.json' for stem in _WITH_BOXES)} in "
                "annotations/json/, or a file for each image in annotations/xml/, of "
                f"{str(self.release.root)!r}. Unpack TBX11K.zip anew."
            )

    def _require_folders(self, pictures: Container[str], listed: Iterable[str]) -> None:
        """Refuses a copy in which a whole kind of image is missing."""
        kinds: dict[str, list[str]] = {}
        for name in listed:
            name = name.lower()
            kinds.setdefault(name.split("/")[0], []).append(name)
        for kind, names in sorted(kinds.items()):
            if kind == "tb" or not self.builder_config.only_tb:
                self.require_pictures(f"the lists for imgs/{kind}", names, pictures)

    def _splits(self) -> dict[str, str]:
        """Split of each image that a list, or a JSON file in place of it, names."""
        result: dict[str, str] = {}
        for stem, split in _LISTS.items():
            source, names = self._listed(stem)
            for name in names:
                if result.setdefault(name, split) != split:
                    raise ValueError(
                        f"{source} lists {name!r} for {split}, another list for "
                        f"{result[name]}. Take the lists as they were released."
                    )
        if not result:
            expected = ", ".join(f"{stem}.txt" for stem in _LISTS)
            raise FileNotFoundError(
                f"{self.name}: no list of a split in {str(self.release.root)!r}: "
                f"expected some of {expected} in lists/, or JSON files of these names "
                "in annotations/json/."
            )
        return result

    def _listed(self, stem: str) -> tuple[str, list[str]]:
        """The file of this name that lists images, and the images."""
        name = self._names.get(f"lists/{stem}.txt".lower(), "")
        if name:
            lines = tables.lines(self.content(name), name)
            return name, [_plain(line) for line in lines]
        name = self._names.get(f"annotations/json/{stem}.json".lower(), "")
        if name:
            found = coco.boxes(self.content(name), name)
            return name, [_plain(file_name) for file_name in found]
        return name, []


def _may_have_boxes(item: release.Item) -> bool:
    return item.stratum == "tb" and item.split != "test"


def _xml_of(name: str) -> str:
    """Where the XML of an image lies, in lower case."""
    return f"annotations/xml/{pathlib.PurePosixPath(name).stem}.xml".lower()


def _plain(name: str) -> str:
    """The path below imgs/."""
    return name.replace("\\", "/").removeprefix("./").removeprefix("imgs/")


def _of_name(name: str) -> tuple[np.ndarray, str]:
    """Whether it is tuberculosis, int8 [2], and the patient, "" where unknown."""
    kind, stem = name.split("/")[0], pathlib.PurePosixPath(name).stem
    present, patient = None, ""
    if kind in LABELS:
        present = kind == "tb"
    elif kind == "extra" and (nlm := _NLM.match(stem)):
        present = nlm[3] == "1"
        patient = f"{tuberculosis.NAMESPACES[nlm[1].upper()]}:{int(nlm[2])}"
    elif kind == "extra" and "/da+db/" in name and (dadb := _DADB.match(stem)):
        present = dadb[1].lower() == "p"
    if present is None:
        return np.full(2, xray_features.UNKNOWN_LABEL, np.int8), patient
    return np.array([not present, present], np.int8), patient
