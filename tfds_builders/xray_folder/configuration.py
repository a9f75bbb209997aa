"""How a user's folder is to be read: every option once, checked when it is made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from tfds_builders import xray_features
from tfds_builders.sources import files

DEFAULT_TABLE = "labels.csv"
MASK_KINDS = ("", "labels", "bits", "threshold")
_LARGEST_BIT = 15

# Classes and the values that belong to each; their order is kept.
Pairs = Sequence[tuple[str, Sequence[Any]]]
Classes = Mapping[str, Sequence[Any]] | Pairs


@dataclasses.dataclass
class XrayFolderConfig(tfds.core.BuilderConfig):
    """Options of `xray_folder`; only `name` and `folder` must be given.

    Attributes:
      folder: Holds `images/` and, as far as there are any, the table, `masks/` and the
        annotations.
      image_size: Longest side of a stored image, pixels; smaller ones stay as they
        are. 0 stores every image at its size.
      bit_depth: Bits of a stored pixel, 8 or 16.
      table: File name of the table, one row for each image. The default one may be
        absent: then every file of `images/` is taken.
      file_column: Names the image, as a path below `folder` or below `images/`.
      split_column: Holds train, val (valid, validation) or test. By default the column
        `split`; without one, images are shared out 80/10/10 by group.
      group_column: Holds the patient, or whatever must not cross splits. By default the
        first there is of `group`, `patient`, `patient_id`.
      exact_groups: Whether groups that are written in two ways, such as 7, 7.0 and
        007, or P1 and p1, are two. By default they are one.
      patients: Name of the collection that numbered the patients, for example "nih":
        "13118" becomes "nih:13118". Only patients with such a name are compared with
        those of other sets.
      split_seed: Seed of the sharing out; unused where the table has splits. Sets
        made from one folder need the same one, or one trains on the other's test.
      labels: Label columns and their classes: `{column: [class, ...]}` where a cell
        holds the class's name, or `{column: {class: [value, ...]}}`. Wherever classes
        have values, pairs `[(class, [value, ...]), ...]` may be given instead.
        The order of classes is kept.
      multi_label: The label columns whose cells may name several classes.
      separator: Between the names in such a cell.
      unknown: Cell values that mean that nobody knows. An empty cell always does.
      negative: Cell values of a column in `multi_label` that name none of its classes,
        such as "No Finding" or a finding of no interest.
      values: Columns that hold numbers, such as a bone age: `[column, ...]`, or with
        the unit of each, `{column: unit}`. An empty cell, or one in `unknown`, is
        unknown.
      masks: What the pixels of a mask are: "labels" (each value is a class), "bits"
        (each bit is a class), "threshold" (the brighter half is the only class), or ""
        for no masks.
      mask_column: Names the mask's file, as a path below `folder` or `masks/`. By
        default a mask has the name of its image, whatever the suffix.
      mask_suffix: Put to the image's name by default, for example "_mask".
      mask_classes: Values, or numbers of bits from 0, of each class: `{class: [int,
        ...]}`. Where bits overlap, the class that comes first here wins. Other bits,
        and the value 0, are background. For "threshold", `{class: []}`.
      mask_unknown: Values of a label mask that mean not annotated.
      annotations: File name of the boxes, in COCO's JSON. An image that it lists
        without boxes has none; one that it doesn't list is unknown.
      box_classes: Classes of the boxes and the JSON's categories that belong to each:
        `{class: [category, ...]}`, or `[category, ...]` as they are.
      ignored_categories: Categories whose boxes are left out.
      keypoints: File name of the landmarks, as keypoints in COCO's JSON; may be that of
        the boxes. Visibility 0 is unknown, and so is all of an image without an
        annotation. Several annotations of an image are readings of the same points:
        their mean counts.
      landmark_names: The keypoints that are read, of any category.
      spacing_column: Holds how many millimetres of the detector a pixel of the file
        shows, in both directions; an empty cell, or one in `unknown`, is unknown.
      about: What else is told of an image, and the column that holds it: `{"age":
        "age", "sex": "Patient Sex"}`; of view, age, sex, study_id and body_part. A
        study reports its values for each sex, view and band of ages.
      invert: The image_ids, or patterns of them such as `knee/*`, of images that are
        the wrong way round, dark where rays were stopped; they are turned around.
    """

    folder: str = ""
    image_size: int = 0
    bit_depth: int = 8
    table: str = DEFAULT_TABLE
    file_column: str = "file"
    split_column: str = ""
    group_column: str = ""
    exact_groups: bool = False
    patients: str = ""
    split_seed: int = 0
    labels: Mapping[str, Sequence[str] | Classes] = dataclasses.field(
        default_factory=dict
    )
    multi_label: Sequence[str] = ()
    separator: str = "|"
    unknown: Sequence[str] = ()
    negative: Sequence[str] = ()
    values: Sequence[str] | Mapping[str, str] | None = None  # as sets of before say
    masks: str = ""
    mask_column: str = ""
    mask_suffix: str = ""
    mask_classes: Classes = ()
    mask_unknown: Sequence[int] = ()
    annotations: str = ""
    box_classes: Sequence[str] | Classes = ()
    ignored_categories: Sequence[str] = ()
    keypoints: str = ""
    landmark_names: Sequence[str] = ()
    spacing_column: str = ""
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    invert: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuses options that contradict each other.

        Raises:
          ValueError: Naming the option and what was expected.
        """
        self._require(bool(self.folder), "folder", "the path of a folder")
        self._require(self.image_size >= 0, "image_size", "pixels, 0 or more")
        self._require(self.bit_depth in (8, 16), "bit_depth", "8 or 16")
        is_name = ":" not in self.patients and self.patients != "image"
        self._require(is_name, "patients", "a name without a colon, not 'image'")
        lists = ("multi_label", "unknown", "negative", "ignored_categories", "invert")
        for option in (*lists, "landmark_names"):
            given = getattr(self, option)
            # A lone string would be taken for a list of its letters.
            is_list = isinstance(given, Sequence) and not isinstance(given, str)
            self._require(is_list, option, "a list of strings")
            # Cells are text, so -1 in a config means the cell "-1".
            setattr(self, option, tuple(str(value) for value in given))
        known = all(name in xray_features.ABOUT for name in self.about)
        self._require(known, "about", f"columns of some of {xray_features.ABOUT}")
        self._check_labels()
        self._check_masks()
        if bool(self.annotations) != bool(self.box_classes):
            expected = "classes if and only if `annotations` names a file"
            names = self._names_in(self.annotations, lambda row: [row["name"]])
            self._require(False, "box_classes", expected + names)
        self._check_landmarks()
        for option in ("ignored_categories", "box_classes"):
            self._require(
                bool(self.annotations) or not getattr(self, option),
                option,
                "nothing, since `annotations` names no file",
            )
        self._unique(self.classes_of_boxes(), "box_classes")

    def _names_in(self, file: str, names: Callable[[Any], Sequence[str]]) -> str:
        """The names there are to choose from, in words; "" without a JSON."""
        path = epath.Path(self.folder).expanduser() / file
        try:
            rows = json.loads(files.read(path))["categories"]
            found = [repr(name) for row in rows for name in names(row)]
        except (OSError, ValueError, LookupError, TypeError):
            return ""  # What is wrong with it is told when it is read.
        return f" (those of {file}: {files.brief(found, 40)})"

    def _check_landmarks(self) -> None:
        if bool(self.keypoints) != bool(self.landmark_names):
            expected = "names if and only if `keypoints` names a file"
            names = self._names_in(self.keypoints, lambda row: row["keypoints"])
            self._require(False, "landmark_names", expected + names)
        is_once = len(set(self.landmark_names)) == len(self.landmark_names)
        self._require(is_once, "landmark_names", "each name once")
        expected = "nothing, since `keypoints` names no file"
        has_use = bool(self.keypoints) or not self.spacing_column
        self._require(has_use, "spacing_column", expected)

    def classes_of(self, column: str) -> dict[str, tuple[str, ...]]:
        """Cell values of each class of a label column, as text."""
        return _as_classes(self.labels[column], f"labels[{column!r}]")

    def units(self) -> dict[str, str]:
        """Unit of each value column, "" where none is given."""
        given = self.values or ()
        _require_list(given, "values", "a list of columns")
        if isinstance(given, Mapping):
            return {str(column): str(unit) for column, unit in given.items()}
        return {str(column): "" for column in given}

    def classes_of_boxes(self) -> dict[str, tuple[str, ...]]:
        """Categories of each class of boxes."""
        return _as_classes(self.box_classes, "box_classes")

    def classes_of_masks(self) -> dict[str, tuple[int, ...]]:
        """Values, or numbers of bits, of each class of the masks."""
        return {
            name: tuple(int(value) for value in values)
            for name, values in _as_classes(self.mask_classes, "mask_classes").items()
        }

    def _check_labels(self) -> None:
        for column in self.units():
            self._require("/" not in column, "values", "columns without a slash")
        for column in self.labels:
            option = f"labels[{column!r}]"
            classes = self.classes_of(column)
            # TFDS joins the names of nested features with slashes.
            self._require("/" not in column, option, "a column without a slash")
            self._require(bool(classes), option, "at least one class")
            is_multi = column in self.multi_label
            others = (*self.unknown, *(self.negative if is_multi else ()))
            self._unique({**classes, "(unknown or negative)": tuple(others)}, option)
        for column in self.multi_label:
            self._require(
                column in self.labels,
                "multi_label",
                f"columns of `labels`, which has no {column!r}",
            )
        self._require(
            not self.negative or bool(self.multi_label),
            "negative",
            "nothing, since no column is in `multi_label`",
        )

    def _check_masks(self) -> None:
        self._require(self.masks in MASK_KINDS, "masks", f"one of {MASK_KINDS}")
        self._require(
            bool(self.masks) == bool(self.mask_classes),
            "mask_classes",
            "classes if and only if `masks` is set",
        )
        classes = self.classes_of_masks()
        if self.masks == "threshold":
            self._require(
                [*classes.values()] == [()],
                "mask_classes",
                "one class with an empty list, {class: []}",
            )
            return
        seen = [value for values in classes.values() for value in values]
        seen += self.mask_unknown
        self._require(
            len(set(seen)) == len(seen), "mask_classes", "each value in one class only"
        )
        self._require(
            all(classes.values()), "mask_classes", "at least one value for each class"
        )
        if self.masks == "bits":
            self._require(
                all(0 <= bit <= _LARGEST_BIT for bit in seen),
                "mask_classes",
                f"numbers of bits from 0 to {_LARGEST_BIT}",
            )

    def _unique(self, classes: Mapping[str, Sequence[str]], option: str) -> None:
        """Refuses a value that belongs to two classes."""
        owner: dict[str, str] = {}
        for name, values in classes.items():
            for value in values:
                expected = f"each value in one class only, not {value!r} in two"
                same = owner.setdefault(value, name) == name
                self._require(same, option, expected)

    def _require(self, holds: bool, option: str, expected: str) -> None:
        if not holds:
            field = option.split("[", maxsplit=1)[0]
            raise ValueError(
                f"xray_folder {self.name!r}: option {option} must be {expected}; "
                f"got {getattr(self, field)!r}."
            )


def _as_classes(
    named: Sequence[Any] | Classes, option: str
) -> dict[str, tuple[str, ...]]:
    """Turns names, pairs or a mapping of names to values into a mapping, as text.

    Raises:
      ValueError: If text or a number stands where a list belongs, or a class is given
        twice; names the option.
    """
    _require_list(named, option, "a list of classes")
    if isinstance(named, Mapping):
        named = tuple(named.items())
    classes: dict[str, tuple[str, ...]] = {}
    for entry in named:
        is_name = isinstance(entry, str | int | float)
        if not is_name and (not isinstance(entry, Sequence) or len(entry) != 2):
            raise ValueError(
                f"option {option}: expected names of classes, or pairs of a class and "
                f"its values; got {entry!r}."
            )
        name, values = (entry, (entry,)) if is_name else entry
        _require_list(values, f"{option}, class {name!r}", "a list of values")
        if str(name) in classes:
            raise ValueError(
                f"option {option}: the class {name!r} is given twice in {list(named)}."
            )
        classes[str(name)] = tuple(str(value) for value in values)
    return classes


def _require_list(given: Any, option: str, expected: str) -> None:
    """Refuses what Python would take apart letter by letter, or not at all."""
    if isinstance(given, str) or not isinstance(given, Mapping | Sequence):
        raise ValueError(f"option {option}: expected {expected}, got {given!r}.")
