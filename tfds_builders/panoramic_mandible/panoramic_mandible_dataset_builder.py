"""Panoramic dental X-rays with segmented mandibles (Abdi 2015)."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import ClassVar

import cv2
import numpy as np

from tfds_builders import xray_features
from tfds_builders.images import reader, sizes
from tfds_builders.prepare import records
from tfds_builders.releases import release

_IMAGES = "images"
# Folders of the masks that each choice of expert needs.
_EXPERTS = {
    "first": ("segmentation1",),
    "second": ("segmentation2",),
    "agreed": ("segmentation1", "segmentation2"),
}
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Lossy files are not quite black outside; pixels of 16 bits.
_LOSSY = (".jpg", ".jpeg")
_LOSSY_BLACK = 16 * 257


@dataclasses.dataclass
class PanoramicMandibleConfig(release.ReleaseConfig):
    """How the release is prepared.

    Attributes:
      expert: Whose masks: "first", "second", or "agreed", where pixels on which the
        two differ count as not annotated.
    """

    expert: str = "first"

    def __post_init__(self) -> None:
        """Refuses an expert that is not there."""
        if self.expert not in _EXPERTS:
            raise ValueError(
                f"{self.name}: expert is {self.expert!r}; expected one of "
                f"{', '.join(_EXPERTS)}."
            )


class Builder(release.ReleaseBuilder):
    """Jaws in panoramic view with the mandible as mask."""

    BUILDER_CONFIGS: ClassVar[list[PanoramicMandibleConfig]] = release.standard_configs(
        PanoramicMandibleConfig
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Get hxt48yk462-1.zip from https://data.mendeley.com/datasets/hxt48yk462 (the page
    names the licence; a survey says CC BY-NC 3.0). Unpack it, and
    DentalPanoramicXrays.zip, which it contains, so that there is a folder with Images,
    Segmentation1 and Segmentation2.
    """
    MARKERS = ("images", "segmentation1|segmentation2")
    OWN = ("images", "segmentation1", "segmentation2")
    EXPECTED: ClassVar = {
        "images": 116,
        "masks": 116,
        "patients": 116,
    }
    MASKS = ("mandible",)

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        wanted = _EXPERTS[self._expert]
        found: dict[str, dict[str, str]] = {f: {} for f in (_IMAGES, *wanted)}
        for name in self.release.sizes:
            path = pathlib.PurePosixPath(name)
            folder = path.parts[0].lower() if len(path.parts) > 1 else ""
            if folder not in found:
                continue
            if path.suffix.lower() not in _SUFFIXES:
                self.leave_out(name, "not an image")
            elif path.stem in found[folder]:
                self.leave_out(name, "has the same name as another image")
            else:
                found[folder][path.stem] = name
        for folder, names in found.items():
            if not names:
                raise FileNotFoundError(
                    f"{self.name}: no image in the folder {folder.title()} of "
                    f"{str(self.release.root)!r}. Unpack DentalPanoramicXrays.zip "
                    "again."
                )
        images = found.pop(_IMAGES)
        for names in found.values():
            for stem in names.keys() - images.keys():
                self.leave_out(names[stem], "a mask without an image")
        result = []
        for stem in sorted(images, key=_natural):
            masks = {f: names[stem] for f, names in found.items() if stem in names}
            result.append(
                release.Item(
                    image_id=stem,
                    image=images[stem],
                    patient=f"panoramic:{stem}",
                    masks=masks if len(masks) == len(wanted) else {},
                )
            )
        return result

    def read_mask(self, item: release.Item, height: int, width: int) -> np.ndarray:
        """See base class; 255 where two experts differ."""
        regions = [self._region(name, height, width) for name in item.masks.values()]
        mask = regions[0].astype(np.uint8)
        mask[np.any(regions, axis=0) & ~np.all(regions, axis=0)] = (
            xray_features.NOT_ANNOTATED
        )
        return mask

    @property
    def _expert(self) -> str:
        # Tools that know every set give the common configuration.
        config = self.builder_config
        if isinstance(config, PanoramicMandibleConfig):
            return config.expert
        return PanoramicMandibleConfig.expert

    def _region(self, name: str, height: int, width: int) -> np.ndarray:
        """Where the mandible is, bool [height, width].

        The masks are not binary: they hold the radiograph itself, black outside the
        mandible. What is black inside is filled.
        """
        with records.reading(self.release, name, what="mask"):
            values = reader.read_image(self.release.root / name, dtype=np.uint16)
            lossy = name.lower().endswith(_LOSSY)
            inside = (values > (_LOSSY_BLACK if lossy else 0)).astype(np.uint8)
            if inside.all() or not inside.any():
                what = "the whole image" if inside.any() else "nothing"
                raise reader.UnreadableImage(f"it marks {what}")
            outlines, _ = cv2.findContours(
                inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            filled = cv2.drawContours(inside, outlines, -1, 1, cv2.FILLED)
            return sizes.fit_mask(filled > 0, height, width)


def _natural(stem: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts 2 before 10."""
    parts = re.findall(r"\d+|\D+", stem)
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts)
