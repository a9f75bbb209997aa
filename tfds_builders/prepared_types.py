"""What `preparation.json` of a prepared folder holds, as types."""

from __future__ import annotations

from typing import NotRequired, TypedDict

Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None


class SplitsInUse(TypedDict):
    """What a report says of a manifest in use.

    `images` are those there are of each split; `groups_in_several_splits` are patients
    whose images are not all in one.
    """

    name: str
    version: int
    sha256: str
    images: dict[str, int]
    groups_in_several_splits: int


class ManifestEntry(TypedDict):
    """What `preparation.json` says of a manifest: `images` of each split."""

    version: int
    sha256: str
    images: dict[str, int]


class Summary(TypedDict):
    """What `preparation.json` says of the pixels and classes of the train split.

    Mean and deviation of the pixels are fractions of the stored range, null without a
    train split. Labels and landmarks count images, objects boxes, masks pixels. Dropped
    boxes are those of all splits.
    """

    pixel_mean: float | None
    pixel_std: float | None
    label_counts: dict[str, dict[str, int]]
    mask_pixel_counts: dict[str, int]
    object_counts: dict[str, int]
    landmark_counts: dict[str, int]
    dropped_boxes: int


class Content(Summary):
    """What `preparation.json` says of the source and of the images."""

    builder: str
    version: str
    fingerprint: str
    options: dict[str, Json]
    records_sha256: str
    has_patient_namespace: bool
    default_manifest: str
    splits: dict[str, int]
    quarantined: int
    polarity_warnings: int
    blank: int


class Preparation(Content):
    """What `preparation.json` holds; folders of older versions lack some entries."""

    index_sha256: str
    manifests: dict[str, ManifestEntry]
    reader: str
    splits_in_use: NotRequired[SplitsInUse]  # added by who reads the folder
