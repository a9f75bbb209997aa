"""What a prepared example holds: the names of its features, in one place.

Every set shares them, so that a builder written by a stranger can be trained on.

| feature         | when          | stored as                                          |
|-----------------|---------------|----------------------------------------------------|
| `image`         | always        | uint8 or uint16 [H, W, 1], its bare pixels         |
| `image_id`      | always        | text, unique in the set                            |
| `patient_id`    | always        | text: the patient, or the group of near copies     |
| `labels`        | label columns | {column: int8 [L]}: 1, 0, or -1 for unknown        |
| `values`        | value columns | {column: float32}: not a number where unknown      |
| `mask`          | masks         | PNG, uint8 [H, W, 1]: class index, 0 background,   |
|                 |               | 255 is not annotated                               |
| `objects`       | boxes         | sequence of {`bbox`: y0, x0, y1, x1 as fractions,  |
|                 |               | `label`: class index}                              |
| `objects_known` | boxes         | bool: false where nobody looked for objects        |
| `landmarks`     | landmarks     | float32 [P, 2]: y, x as fractions of height and    |
|                 |               | width; not a number where unknown                  |
| `spacing`       | where told    | float32, mm per pixel of `image`; not a number     |
|                 |               | where unknown                                      |
| `view`          | where told    | text: the release's own word, e.g. PA; "" unknown  |
| `age`           | where told    | float32, years; not a number where unknown         |
| `sex`           | where told    | text: F, M, or "" unknown                          |
| `study_id`      | where told    | text: images taken together; "" unknown            |
| `body_part`     | where told    | text: the release's own word; "" unknown           |
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import tensorflow_datasets as tfds

UNKNOWN_LABEL = -1
BACKGROUND = "background"
NOT_ANNOTATED = 255  # value of a mask's pixel
SEXES = ("F", "M", "")


@dataclasses.dataclass(frozen=True)
class About:
    """What is told about an image besides its labels.

    Attributes:
      view: The release's own word for the projection; "" where unknown.
      age: Age of the patient, years; not a number where unknown.
      sex: "F", "M", or "" where unknown.
      study_id: Images with the same one were taken together; "" where unknown.
      body_part: The release's own word; "" where unknown.
    """

    view: str = ""
    age: float = math.nan
    sex: str = ""
    study_id: str = ""
    body_part: str = ""

    def __post_init__(self) -> None:
        """Refuses a sex that is not coded."""
        if self.sex not in SEXES:
            raise ValueError(f"sex must be one of {SEXES}, got {self.sex!r}.")


ABOUT = tuple(field.name for field in dataclasses.fields(About))


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which features a set has, and the names of their classes.

    Attributes:
      label_names: Classes of each label column, in order; empty without labels.
      values: Unit of each value column, "" where it has none; empty without values.
      mask_names: Classes of the mask without the background, index 1 first; empty
        without masks.
      object_names: Classes of the boxes; empty without boxes.
      landmark_names: What each of the P landmarks is; empty without landmarks.
      has_spacing: Whether the set tells how large a pixel is.
      bit_depth: Bits of a stored pixel, 8 or 16.
      about: Which fields of `About` the set tells.
    """

    label_names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mask_names: tuple[str, ...] = ()
    object_names: tuple[str, ...] = ()
    landmark_names: tuple[str, ...] = ()
    has_spacing: bool = False
    bit_depth: int = 8
    about: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what cannot be stored."""
        if self.bit_depth not in (8, 16):
            raise ValueError(f"bit_depth must be 8 or 16, got {self.bit_depth}.")
        strangers = set(self.about) - set(ABOUT)
        if strangers:
            raise ValueError(
                f"about holds {sorted(strangers)}; expected some of {ABOUT}."
            )
        if len(self.mask_names) >= NOT_ANNOTATED:
            raise ValueError(
                f"A mask holds at most {NOT_ANNOTATED - 1} classes, "
                f"got {len(self.mask_names)}."
            )

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """Type of a stored pixel."""
        return np.uint8 if self.bit_depth == 8 else np.uint16


@dataclasses.dataclass(frozen=True)
class Xray:
    """One image with what is known about it, before it is stored.

    Attributes:
      image: uint8 or uint16 [H, W].
      labels: int8 [L] for each label column: 1, 0, or -1 for unknown.
      mask: Class index, uint8 [H, W], 255 where not annotated; None for no mask.
      boxes: float [M, 4] as y0, x0, y1, x1, fractions of height and width; None where
        nobody looked for objects.
      box_labels: Class index of each box, integer [M].
      dropped_boxes: Boxes of the source that were left out, e.g. without area.
      values: Number of each value column, in its unit; not a number where unknown.
      landmarks: float [P, 2] as y, x, fractions of height and width, NaN where unknown;
        None where nobody looked for them.
      dropped_landmarks: Those of the source that lie beyond the image.
      spacing: Millimetres of a pixel of `image`; NaN where unknown.
    """

    image: np.ndarray
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    mask: np.ndarray | None = None
    boxes: np.ndarray | None = None
    box_labels: np.ndarray | None = None
    dropped_boxes: int = 0
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    landmarks: np.ndarray | None = None
    dropped_landmarks: int = 0
    spacing: float = math.nan


class ClassNames(TypedDict):
    """What `metadata.json` holds: names of classes, the masks' background included.

    `values` has the unit of each value column.
    """

    label_names: dict[str, list[str]]
    values: dict[str, str]
    mask_names: list[str]
    object_names: list[str]
    landmark_names: list[str]


def features(layout: Layout) -> tfds.features.FeaturesDict:
    """Returns the TFDS features of a set with this layout."""
    found: dict[str, tfds.features.FeatureConnector | Mapping | type] = {
        # Bare pixels: training reads an image many times, and decoding it would cost
        # more than all that is done to it then.
        "image": tfds.features.Tensor(
            shape=(None, None, 1), dtype=layout.dtype, encoding="bytes"
        ),
        "image_id": tfds.features.Text(),
        "patient_id": tfds.features.Text(),
    }
    if layout.label_names:
        found["labels"] = {
            column: tfds.features.Tensor(shape=(len(names),), dtype=np.int8)
            for column, names in layout.label_names.items()
        }
    if layout.values:
        found["values"] = dict.fromkeys(layout.values, np.float32)
    if layout.mask_names:
        found["mask"] = tfds.features.Image(
            shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
        )
    if layout.object_names:
        found["objects"] = tfds.features.Sequence(
            {
                "bbox": tfds.features.BBoxFeature(),
                "label": tfds.features.ClassLabel(names=list(layout.object_names)),
            }
        )
        found["objects_known"] = np.bool_
    if layout.landmark_names:
        shape = (len(layout.landmark_names), 2)
        found["landmarks"] = tfds.features.Tensor(shape=shape, dtype=np.float32)
    if layout.has_spacing:
        found["spacing"] = np.float32
    for name in layout.about:
        found[name] = np.float32 if name == "age" else tfds.features.Text()
    return tfds.features.FeaturesDict(found)


def metadata(layout: Layout) -> ClassNames:
    """The names of the classes, and the units of the values, of a layout."""
    masks = [BACKGROUND, *layout.mask_names] if layout.mask_names else []
    return {
        "label_names": {name: list(v) for name, v in layout.label_names.items()},
        "values": dict(layout.values),
        "mask_names": masks,
        "object_names": list(layout.object_names),
        "landmark_names": list(layout.landmark_names),
    }


def one_hot(classes: Sequence[str], chosen: str) -> np.ndarray:
    """The label of an exclusive class, int8 [L]; -1 everywhere for "", unknown."""
    if not chosen:
        return np.full(len(classes), UNKNOWN_LABEL, np.int8)
    label = np.zeros(len(classes), np.int8)
    label[list(classes).index(chosen)] = 1
    return label
