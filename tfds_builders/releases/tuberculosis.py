"""What the tuberculosis sets of the NLM share: Shenzhen, Montgomery, and both."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.sources import files, readings

LABELS = ("normal", "tuberculosis")
LUNG = "lung"
# Sets by what the names of their images begin with: patients' ids begin with these.
NAMESPACES = {"MCUCXR": "montgomery", "CHNCXR": "shenzhen"}
# Folders of images; others hold masks of the same names, or lesions.
_HOLDERS = ("cxr_png", "images")


class TuberculosisBuilder(release.ReleaseBuilder, skip_registration=True):
    """Reads images whose name is their label, and readings from files or a table."""

    LABELS: ClassVar = {"label": LABELS}
    ABOUT = ("age", "sex")
    # What the names of images begin with, some of NAMESPACES.
    PREFIXES: ClassVar[tuple[str, ...]]
    # Name of a mirror's table in place of the readings' files; "" for none.
    TABLE: ClassVar[str] = ""

    @abc.abstractmethod
    def masks(self) -> Mapping[str, Mapping[str, str]]:
        """Files of the masks of each image that has any, by class."""

    def pictures(self) -> Mapping[str, str]:
        """Path of each image by its name without suffix."""
        return files.by_name(self.release, (".png",), holders=_HOLDERS)

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        pictures, masks, told = self.pictures(), self.masks(), self._readings()
        self.require_pictures("the readings", told.keys(), pictures.keys())
        silent = readings.Reading()
        patients = readings.patients({**dict.fromkeys(pictures, silent), **told})
        name, found = rf"({'|'.join(self.PREFIXES)})_\d{{4}}_([01])", []
        for key, path in sorted(pictures.items()):
            match = re.fullmatch(name, key)
            if not match:
                expected = " or ".join(f"{start}_0001_0.png" for start in self.PREFIXES)
                self.leave_out(path, f"not named as {expected}")
                continue
            label = LABELS[int(match[2])]
            item = release.Item(
                image_id=key,
                image=path,
                patient=_patient(patients[key]),
                labels={"label": xray_features.one_hot(LABELS, label)},
                masks=masks.get(key, {}),
                about=told.get(key, silent).about(),
                stratum=label,
            )
            found.append(item)
        for key in sorted(told.keys() - pictures.keys()):
            self.leave_out(f"{key}.png", "has a reading, but the file is not there")
        for key in sorted(masks.keys() - pictures.keys()):
            for path in masks[key].values():
                self.leave_out(path, "a mask without its image")
        return found

    def read_mask(self, item: release.Item, height: int, width: int) -> np.ndarray:
        """See base class; where two masks overlap, the class that comes last wins."""
        mask = np.zeros((height, width), np.uint8)
        for index, name in enumerate(self.MASKS, start=1):
            mask[self.read_region(item.masks[name], height, width)] = index
        return mask

    def _readings(self) -> dict[str, readings.Reading]:
        """Reading of each image by its name without suffix."""
        texts = files.by_name(self.release, (".txt",), holders=("clinicalreadings",))
        if texts:
            return {
                key: readings.parse(self.content(path)) for key, path in texts.items()
            }
        name = self.find_file(self.TABLE or "ClinicalReadings")
        return readings.parse_table(self.content(name), name)


def _patient(key: str) -> str:
    """The id that all these sets give to a patient, of "MCUCXR_0001"; "" for others."""
    home, _, number = key.partition("_")
    return f"{NAMESPACES[home]}:{int(number)}" if home in NAMESPACES else ""
