"""The base of builders that read a data set as its makers released it.

A set says where its files lie and what its tables tell about each image; finding the
folder, reading images, boxes and splits is done here.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from tfds_builders import prepared, xray_features
from tfds_builders.images import reader, sizes
from tfds_builders.prepare import records, xray_builder
from tfds_builders.releases import download
from tfds_builders.sources import box_formats, splits

ReleaseConfig = download.ReleaseConfig
standard_configs = download.standard_configs


@dataclasses.dataclass(frozen=True)
class Item:
    """What a release tells about an image before it is opened.

    Attributes:
      image_id: Unique in the set, the same for every layout of a mirror.
      image: The file, below the root.
      split: The release's own: train, validation or test.
      patient: With the name space of the ids in front, as in "nih:13118", so that
        sets which share patients can be compared; "" where unknown.
      labels: int8 [L] of each label column: 1, 0, or -1 for unknown.
      values: Number of each value column; not a number where unknown.
      masks: What `read_mask` needs, e.g. class to file; empty for an image without one.
      objects: The boxes; None where nobody looked for objects.
      about: View, age, sex, study and body part.
      stratum: What the splits should share alike; "" for nothing.
    """

    image_id: str
    image: str
    split: str = "train"
    patient: str = ""
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    masks: Mapping[str, str] = dataclasses.field(default_factory=dict)
    objects: box_formats.Objects | None = None
    about: xray_features.About = xray_features.About()
    stratum: str = ""


class ReleaseBuilder(download.DownloadBuilder, skip_registration=True):
    """Prepares a released set.

    A subclass sets MANUAL_DOWNLOAD_INSTRUCTIONS and the attributes below, and gives
    `items`.
    """

    # What an example holds; see `xray_features.Layout`.
    LABELS: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    VALUES: ClassVar[Mapping[str, str]] = {}
    MASKS: ClassVar[tuple[str, ...]] = ()
    OBJECTS: ClassVar[tuple[str, ...]] = ()
    ABOUT: ClassVar[tuple[str, ...]] = ()

    # Published counts; "images" must be there. Doctor compares `tally` with them.
    EXPECTED: ClassVar[Mapping[str, int]]
    # Keys of it that are a release of their own: having none of them is fine.
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    # Whether the makers split the set so that it can be evaluated.
    HAS_OFFICIAL_SPLIT: ClassVar[bool] = False
    DEFAULT_MANIFEST: ClassVar[str] = "grouped"

    @abc.abstractmethod
    def items(self) -> Sequence[Item]:
        """Every image of the release, from its tables and names of files alone.

        Files that are left out (in a table but not there, no annotation, ...) are
        given to `leave_out`.

        Raises:
          FileNotFoundError: If a table or a whole folder is missing.
          ValueError: If a table does not hold what it should.
        """

    def layout(self) -> xray_features.Layout:
        """See base class."""
        return xray_features.Layout(
            label_names=self.LABELS,
            values=self.VALUES,
            mask_names=self.MASKS,
            object_names=self.OBJECTS,
            bit_depth=self.builder_config.bit_depth,
            about=self.ABOUT,
        )

    def read_mask(self, item: Item, height: int, width: int) -> np.ndarray:
        """The mask of an item with `masks`, uint8 [height, width] of class indices."""
        raise NotImplementedError(f"{self.name} has masks but does not read them.")

    def official(self, found: Sequence[Item]) -> Mapping[str, str]:
        """Split of each image as the makers meant it; asked if HAS_OFFICIAL_SPLIT."""
        return {item.image_id: item.split for item in found}

    def muscle_members(self, found: Sequence[Item]) -> Sequence[Item]:
        """The images that MUSCLE split; all by default."""
        return found

    def leave_out(self, file: str, reason: str) -> None:
        """Notes a file, below the root, that `items` does not return."""
        self._left_out.append(xray_builder.Quarantined(file, reason))

    @functools.cached_property
    def found(self) -> Sequence[Item]:
        """`items`, asked once and checked."""
        self._left_out: list[xray_builder.Quarantined] = []
        found = self.items()
        if not found:
            raise ValueError(f"{self.name}: no image in {str(self.release.root)!r}.")
        alone = sum(not item.patient for item in found)
        if alone:
            logging.getLogger(__name__).warning(
                "%s: the patient of %d of %d images is not known; each counts as a "
                "patient of its own.",
                self.name,
                alone,
                len(found),
            )
        return found

    def left_out(self) -> Sequence[xray_builder.Quarantined]:
        """See base class."""
        return self._left_out

    def records(self) -> Mapping[str, Sequence[xray_builder.Record]]:
        """See base class."""
        result: dict[str, list[xray_builder.Record]] = {s: [] for s in splits.SPLITS}
        for item in self.found:
            record = xray_builder.Record(
                image_id=item.image_id,
                group=_group(item),
                source=item,
                about=item.about,
                stratum=item.stratum,
            )
            result[item.split].append(record)
        return result

    @property
    def has_patient_namespace(self) -> bool:
        """See base class."""
        return True

    def manifests(self) -> Mapping[str, prepared.Manifest]:
        """See base class: `official` where there is one, `muscle` and `grouped`."""
        ids = [item.image_id for item in self.found]
        members = self.muscle_members(self.found)
        seed, name = self.builder_config.seed, self.name
        muscle = splits.muscle(
            [item.image_id for item in members],
            [item.stratum for item in members],
            seed=seed,
            name=name,
        )
        grouped = splits.grouped(
            ids,
            [_group(item) for item in self.found],
            [item.stratum for item in self.found],
            seed=seed,
            name=name,
        )
        result: dict[str, prepared.Manifest] = {}
        if self.HAS_OFFICIAL_SPLIT:
            official = self.official(self.found)
            result["official"] = prepared.Manifest("official", 1, official)
        result["muscle"] = prepared.Manifest.of_lists("muscle", 1, muscle)
        result["grouped"] = prepared.Manifest.of_lists("grouped", 1, grouped)
        return result

    def load(self, record: xray_builder.Record) -> xray_features.Xray:
        """See base class."""
        item: Item = record.source
        with records.reading(self.release, item.image):
            path = self.release.root / item.image
            image = reader.read_image(path, dtype=self.layout().dtype)
        mask = None
        if item.masks:
            mask = self.read_mask(item, *image.shape)
        if item.objects is None:
            return xray_features.Xray(image, item.labels, mask, values=item.values)
        frame = item.objects.frame or image.shape
        fractions, kept = box_formats.clip(item.objects.corners, frame)
        # There was something, and nobody can tell where: not an image without objects.
        is_lost = len(kept) > 0 and not kept.any()
        return xray_features.Xray(
            image,
            item.labels,
            mask,
            None if is_lost else fractions,
            None if is_lost else item.objects.labels[kept],
            dropped_boxes=int((~kept).sum()),
            values=item.values,
        )

    def read_region(self, name: str, height: int, width: int) -> np.ndarray:
        """Where a mask's file, named by its path below the root, is not 0.

        A mask of another size is brought to that of the image, pixel by nearest pixel.

        Returns:
          bool [height, width].

        Raises:
          reader.UnreadableImage: If it can't be read, or has another aspect.
          OSError: If it has vanished since it was listed.
        """
        with records.reading(self.release, name, what="the mask"):
            inside = reader.read_mask(self.release.root / name) > 0
            return sizes.fit_mask(inside, height, width)


def carve_validation(found: Sequence[Item], name: str) -> Mapping[str, str]:
    """The stored splits, with about a tenth of train for validation (ours).

    Patients stay whole and strata alike; no seed changes it.

    Args:
      found: Images of a release that has no validation split.
      name: Name of the dataset.

    Returns:
      Split of each image.
    """
    train = [item for item in found if item.split == "train"]
    shares = splits.grouped(
        [item.image_id for item in train],
        [_group(item) for item in train],
        [item.stratum for item in train],
        seed=0,
        name=f"{name}/official",
    )
    split_of = {item.image_id: item.split for item in found}
    return {**split_of, **dict.fromkeys(shares["validation"], "validation")}


def _group(item: Item) -> str:
    return item.patient or f"image:{item.image_id}"
