"""The chest X-rays of Montgomery County as the NLM and a mirror release them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tfds_builders.releases import tuberculosis
from tfds_builders.sources import files

# Class and folder, in the order of their index.
_SIDES = {"left_lung": "leftmask", "right_lung": "rightmask"}


class Builder(tuberculosis.TuberculosisBuilder):
    """138 chest X-rays from Montgomery County with masks of both lungs."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack NLM-MontgomeryCXRSet.zip (589 MB) of the NLM's "Montgomery County CXR Set",
    https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets/Montgomery-County-CXR-Set/index.html;
    `python -m tfds_builders.fetch montgomery_cxr --folder DIR` does it. Or the Kaggle
    mirrors kmader/pulmonary-chest-xray-abnormalities or, without masks,
    raddar/tuberculosis-chest-xrays-montgomery. The NLM asks to cite the papers and not
    to pass the images on.
    """
    MARKERS = (
        "cxr_png/mcucxr_*|montgomery_metadata.csv",
        "manualmask|montgomery_metadata.csv",
    )
    EXPECTED: ClassVar = {
        "images": 138,
        "label=normal": 80,
        "label=tuberculosis": 58,
        "masks": 138,
    }
    PREFIXES = ("MCUCXR",)
    TABLE = "montgomery_metadata.csv"
    MASKS = tuple(_SIDES)

    def masks(self) -> Mapping[str, Mapping[str, str]]:
        """See base class; an image with one lung alone counts as without mask.

        Raises:
          FileNotFoundError: If a folder of masks holds none. A mirror that has a table
            in place of the readings has no masks.
        """
        by_side = {
            side: files.by_name(self.release, (".png",), holders=(folder,))
            for side, folder in _SIDES.items()
        }
        for side, folder in _SIDES.items():
            if not by_side[side] and not self.release.matching(self.TABLE):
                self.find_file(f"ManualMask/{folder}")
        left, right = by_side.values()
        for key in sorted(left.keys() ^ right.keys()):
            path = left.get(key, "") or right[key]
            self.leave_out(path, "the mask of the other lung is not there")
        return {
            key: {side: found[key] for side, found in by_side.items()}
            for key in sorted(left.keys() & right.keys())
        }
