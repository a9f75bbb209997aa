"""What the tuberculosis sets of Shenzhen and Montgomery share."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tfds_builders import xray_features
from tfds_builders.releases import release
from tfds_builders.sources import files, readings

LABELS = ("normal", "tuberculosis")
# Folders of images; others hold masks of the same names, or lesions.
_HOLDERS = ("cxr_png", "images")


class TuberculosisBuilder(release.ReleaseBuilder, skip_registration=True):
    """Reads images whose name is their label, and readings from files or a table."""

    # Before the number in the name of an image.
    PREFIX: ClassVar[str]
    # Of the patients' ids.
    NAMESPACE: ClassVar[str]
    # Of a mirror, in place of the readings' files.
    TABLE: ClassVar[str]

    @abc.abstractmethod
    def masks(self) -> Mapping[str, Mapping[str, str]]:
        """Files of the masks of each image that has any, by class."""

    def items(self) -> Sequence[release.Item]:
        """See base class."""
        pictures = files.by_name(self.release, (".png",), holders=_HOLDERS)
        told, masks = self._readings(), self.masks()
        self.require_pictures("the readings", told.keys(), pictures.keys())
        patients = readings.patients({**dict.fromkeys(pictures, _SILENT), **told})
        found = []
        for key, path in sorted(pictures.items()):
            match = re.fullmatch(rf"{self.PREFIX}_\d{{4}}_([01])", key)
            if not match:
                self.leave_out(path, f"not named as {self.PREFIX}_0001_0.png")
                continue
            label = LABELS[int(match[1])]
            item = release.Item(
                image_id=key,
                image=path,
                patient=f"{self.NAMESPACE}:{int(patients[key].split('_')[-1])}",
                labels={"label": xray_features.one_hot(LABELS, label)},
                masks=masks.get(key, {}),
                about=told.get(key, _SILENT).about(),
                stratum=label,
            )
            found.append(item)
        for key in sorted(told.keys() - pictures.keys()):
            self.leave_out(f"{key}.png", "has a reading, but the file is not there")
        for key in sorted(masks.keys() - pictures.keys()):
            for path in masks[key].values():
                self.leave_out(path, "a mask without its image")
        return found

    def _readings(self) -> dict[str, readings.Reading]:
        """Reading of each image by its name without suffix."""
        texts = files.by_name(self.release, (".txt",), holders=("clinicalreadings",))
        if texts:
            return {
                key: readings.parse(self.content(path)) for key, path in texts.items()
            }
        name = self.find_file(self.TABLE)
        return readings.parse_table(self.content(name), name)


_SILENT = readings.Reading()
