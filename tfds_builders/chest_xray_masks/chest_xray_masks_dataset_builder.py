"""Chest X-rays of Montgomery and Shenzhen with lung masks, as Kaggle repacked them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfds_builders.releases import release, tuberculosis
from tfds_builders.sources import files

_MASK_SUFFIX = "_mask"  # only the masks of Shenzhen have it


class Builder(tuberculosis.TuberculosisBuilder):
    """800 chest X-rays, 704 of them with a mask of both lungs."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Get chest-xray-masks-and-labels.zip from
    https://www.kaggle.com/datasets/nikhilpandey360/chest-xray-masks-and-labels and
    unpack it, so that there is a folder "Lung Segmentation" with CXR_png, masks and
    ClinicalReadings. The NLM asks to cite the papers and not to pass the images on;
    the masks of Shenzhen are CC BY-NC-SA 4.0.
    """
    # Both sets are there: the release of Shenzhen has folders of the same names.
    MARKERS = (
        "cxr_png/mcucxr_*",
        "cxr_png/chncxr_*",
        "masks",
    )
    EXPECTED: ClassVar = {
        "images": 800,
        "masks": 704,
        "label=normal": 406,
        "label=tuberculosis": 394,
    }
    PREFIXES = ("MCUCXR", "CHNCXR")
    MASKS = (tuberculosis.LUNG,)

    def items(self) -> Sequence[release.Item]:
        """See base class; splits share out images with a mask apart from the others."""
        return [
            dataclasses.replace(item, stratum=f"with{'' if item.masks else 'out'} mask")
            for item in super().items()
        ]

    def muscle_members(self, found: Sequence[release.Item]) -> Sequence[release.Item]:
        """The images with a mask; the paper counted 96 without one twice."""
        return [item for item in found if item.masks]

    def pictures(self) -> Mapping[str, str]:
        """See base class; the folder test repeats images of CXR_png."""
        found = files.by_name(self.release, (".png",), holders=("cxr_png",))
        copies = files.by_name(self.release, (".png",), holders=("test",))
        for key, path in copies.items():
            if found.setdefault(key, path) != path:
                self.leave_out(path, "a second copy of a file in CXR_png")
        return found

    def masks(self) -> Mapping[str, Mapping[str, str]]:
        """See base class.

        Raises:
          FileNotFoundError: If there is none.
        """
        found = files.by_name(self.release, (".png",), holders=("masks",))
        if not found:
            self.find_file("masks/*.png")
        masks: dict[str, dict[str, str]] = {}
        for stem, path in sorted(found.items()):
            mask = {tuberculosis.LUNG: path}
            if masks.setdefault(stem.removesuffix(_MASK_SUFFIX), mask) != mask:
                self.leave_out(path, "a second mask of the same image")
        return masks
