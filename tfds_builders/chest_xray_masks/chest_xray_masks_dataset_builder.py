"""Chest X-rays of Montgomery and Shenzhen with lung masks, as Kaggle repacked them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.sources import files, readings

_LABELS = ("normal", "tuberculosis")
_LUNG = "lung"
_NAME = re.compile(r"(MCUCXR|CHNCXR)_\d+_([01])")
_NAMESPACES = {"MCUCXR": "montgomery", "CHNCXR": "shenzhen"}
_MASK_SUFFIX = "_mask"  # only the masks of Shenzhen have it


class Builder(release.ReleaseBuilder):
    """800 chest X-rays, 704 of them with a mask of both lungs."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Get chest-xray-masks-and-labels.zip from
    https://www.kaggle.com/datasets/nikhilpandey360/chest-xray-masks-and-labels and
    unpack it, so that there is a folder "Lung Segmentation" with CXR_png, masks and
    ClinicalReadings. The NLM asks to cite the papers and not to pass the images on;
    the masks of Shenzhen are CC BY-NC-SA 4.0.
    """
    # Both sets are there: the release of Shenzhen has folders of the same names.
    MARKERS: ClassVar[tuple[str, ...]] = (
        "cxr_png/mcucxr_*",
        "cxr_png/chncxr_*",
        "masks",
    )
    EXPECTED: ClassVar[Mapping[str, int]] = {
        "images": 800,
        "masks": 704,
        "label=normal": 406,
        "label=tuberculosis": 394,
    }

    def layout(self) -> xray_features.Layout:
        """See base class."""
        return xray_features.Layout(
            label_names={"label": _LABELS},
            mask_names=(_LUNG,),
            bit_depth=self.builder_config.bit_depth,
            about=("age", "sex"),
        )

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        pictures, masks = self._pictures(), self._masks()
        told = self._readings()
        unread = readings.Reading()
        patients = readings.patients({**dict.fromkeys(pictures, unread), **told})
        found = []
        for key, path in sorted(pictures.items()):
            match = _NAME.fullmatch(key)
            if not match:
                self.leave_out(path, "not named as MCUCXR_0001_0 or CHNCXR_0001_0")
                continue
            label = _LABELS[int(match[2])]
            item = release.Item(
                image_id=key,
                image=path,
                patient=_patient(patients[key]),
                labels={"label": xray_features.one_hot(_LABELS, label)},
                masks={_LUNG: masks[key]} if key in masks else {},
                about=told.get(key, unread).about(),
                # Splits share out images with a mask apart from those without.
                stratum="with mask" if key in masks else "without mask",
            )
            found.append(item)
        for key in sorted(masks.keys() - pictures.keys()):
            self.leave_out(masks[key], "a mask without its image")
        for key in sorted(told.keys() - pictures.keys()):
            self.leave_out(f"{key}.png", "has a reading, but the file is not there")
        return found

    def muscle_members(self, found: Sequence[release.Item]) -> Sequence[release.Item]:
        """The images with a mask; the paper counted 96 without one twice."""
        return [item for item in found if item.masks]

    def read_mask(self, item: release.Item, height: int, width: int) -> np.ndarray:
        """See base class."""
        return self.read_region(item.masks[_LUNG], height, width).astype(np.uint8)

    def _pictures(self) -> dict[str, str]:
        """Path of each image; the folder test repeats images of CXR_png."""
        found = files.by_name(self.release, (".png",), holders=("cxr_png",))
        if not found:
            raise self._absent("CXR_png")
        for key, path in files.by_name(
            self.release, (".png",), holders=("test",)
        ).items():
            if found.setdefault(key, path) != path:
                self.leave_out(path, "a second copy of a file in CXR_png")
        return found

    def _masks(self) -> dict[str, str]:
        """Path of the mask of each image that has one."""
        found = files.by_name(self.release, (".png",), holders=("masks",))
        if not found:
            raise self._absent("masks")
        masks: dict[str, str] = {}
        for stem, path in sorted(found.items()):
            key = stem.removesuffix(_MASK_SUFFIX)
            if masks.setdefault(key, path) != path:
                self.leave_out(path, "a second mask of the same image")
        return masks

    def _readings(self) -> dict[str, readings.Reading]:
        found = files.by_name(self.release, (".txt",), holders=("clinicalreadings",))
        if not found:
            raise self._absent("ClinicalReadings")
        return {key: readings.parse(self.content(path)) for key, path in found.items()}

    def _absent(self, folder: str) -> FileNotFoundError:
        return FileNotFoundError(
            f"{self.name}: no file in the folder {folder} of "
            f"{str(self.release.root)!r}; it is part of the release. "
            f"{' '.join(self.MANUAL_DOWNLOAD_INSTRUCTIONS.split())}"
        )


def _patient(key: str) -> str:
    """The id that the sets of Montgomery and Shenzhen give to the same patient."""
    home, _, number = key.partition("_")
    return f"{_NAMESPACES[home]}:{int(number)}" if home in _NAMESPACES else ""
