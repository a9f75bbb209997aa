"""Prepared folders: where they lie, what they hold, and random access to their records.

The only module of this room that reads a disk.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from mtpret_jax import config
from mtpret_jax.data import transforms
from tfds_builders import prepared, prepared_types, storage

if TYPE_CHECKING:  # It imports JAX, Flax and Optax: worker processes need none.
    from mtpret_jax import types

PathLike = str | os.PathLike[str]

_INFO_FILE = "dataset_info.json"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Names that give a prepared set's integers their meaning.

    Attributes:
      label_names: Label column to the names of its L labels, in order.
      mask_names: Names of the S classes of a mask, background first; empty: no masks.
      object_names: Names of the classes of boxes; empty: no boxes.
      values: Value column to its unit, "" for none told.
      landmark_names: Names of the P landmarks; empty: no landmarks.
    """

    label_names: Mapping[str, tuple[str, ...]]
    mask_names: tuple[str, ...]
    object_names: tuple[str, ...]
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    landmark_names: tuple[str, ...] = ()

    @functools.cached_property
    def mirrored(self) -> np.ndarray | None:
        """Which landmark each is in a mirrored image, int [P]; None where not known.

        Those called left_... and right_... change places, and others stay, if there is
        any such and each has its partner.
        """
        place = {name: number for number, name in enumerate(self.landmark_names)}
        others = [_other_side(name) for name in place]
        if not any(others) or not {*others} <= {*place, ""}:
            return None
        return np.array(
            [place.get(other, n) for n, other in enumerate(others)], np.int64
        )


def _other_side(name: str) -> str:
    """The name of a landmark on the other side; "" of one that names no side."""
    start, line, rest = name.partition("_")
    sides = {"left": "right", "right": "left"}
    return f"{sides[start]}_{rest}" if line and start in sides else ""


def locate(data_dir: PathLike, name: str, dataset: config.DatasetConfig) -> epath.Path:
    """Finds the newest prepared version of a set, `<data_dir>/<builder>/<name>/<v>`.

    Args:
      data_dir: Folder of all prepared sets.
      name: The set's row in `config.datasets`.
      dataset: That row.

    Raises:
      FileNotFoundError: If the set was not prepared there.
    """
    parent = epath.Path(data_dir) / dataset.builder / name
    versions = []
    if parent.exists():
        for folder in parent.iterdir():
            if tfds.core.Version.is_valid(folder.name) and (
                (folder / _INFO_FILE).exists()
            ):
                versions.append(folder)
    if not versions:
        raise FileNotFoundError(
            f"Dataset {name!r} is not prepared: expected a version folder with "
            f"{_INFO_FILE} in {os.fspath(parent)}, found none. Starting a run with "
            "this config and --data_dir prepares it."
        )
    return max(versions, key=lambda folder: tfds.core.Version(folder.name))


def open_prepared(folder: PathLike, split: str, manifest: str = "") -> Source:
    """Opens one split of a prepared folder.

    Args:
      folder: A version folder, as `locate` returns it.
      split: Name of a split, e.g. "train".
      manifest: Which of the set's splits, e.g. "grouped"; "" for its default. A folder
        without manifests has only the split in which it is stored.

    Raises:
      FileNotFoundError: If the folder or one of its files is missing.
      ValueError: If there is no such manifest or split, a manifest was changed, or the
        index does not fit the records.
    """
    return Source(folder, split, manifest)


def describe(folder: PathLike, manifest: str = "") -> prepared_types.Preparation:
    """What a work folder must keep to know its data again.

    Returns:
      What `preparation.json` holds and, where the folder has manifests,
      `splits_in_use`, as `prepared.describe` gives it.
    """
    folder = epath.Path(folder)
    preparation = prepared.read_preparation(folder)
    chosen = prepared.read_manifest(folder, manifest)
    if chosen is None:
        return preparation
    in_use = prepared.describe(chosen, prepared.read_index(folder))
    return {**preparation, "splits_in_use": in_use}


class Source:
    """Random access to the records of one split.

    Can be pickled, for another process to read records; the copy has no index.

    Attributes:
      folder: The prepared folder.
      split: Name of the split.
      name: Name of the set, for messages.
      metadata: Names of labels, mask classes and object classes.
      preparation: What `preparation.json` holds.
      depth: Type of a stored pixel, uint8 or uint16.
      index: Rows of `index.csv` of this split; row i describes record i. A row's own
        `split` and `record` say where it is stored.
    """

    def __init__(self, folder: PathLike, split: str, manifest: str = "") -> None:
        self.folder = epath.Path(folder)
        self.split = split
        self.name = self.folder.parent.name
        self.metadata = read_metadata(self.folder)
        self.preparation = prepared.read_preparation(self.folder)
        storage.tell_reader(f"Dataset {self.name!r}", self.preparation)
        builder = storage.open_folder(self.folder)
        features = builder.info.features
        if not isinstance(features, tfds.features.FeaturesDict):
            raise TypeError(
                f"Dataset {self.name!r} does not hold named features but {features!r}. "
                "Use one of the builders in tfds_builders."
            )
        pixel: Any = features["image"].np_dtype
        self.depth = np.dtype(pixel)
        chosen = prepared.read_manifest(self.folder, manifest)
        rows = prepared.read_index(self.folder)
        counts = {name: part.num_examples for name, part in builder.info.splits.items()}
        self.index = _members(self.folder, chosen, split, rows, counts)
        first = _first_positions(self.name, rows, counts)
        self._positions = np.asarray(
            [first[row["split"]] + int(row["record"]) for row in self.index], np.int64
        )
        self._records = storage.Records(
            builder,
            list(first),
            deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
        )

    def __len__(self) -> int:
        return len(self._positions)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the index: of a hundred thousand records it takes 100 MiB."""
        return {k: v for k, v in self.__dict__.items() if k != "index"}

    def __getitem__(self, record: int) -> types.Example:
        """Reads one record.

        Returns:
          `record` int32 []; `image` uint8 or uint16 [H, W], not to be written to; where
          the set has them `mask`: the encoded file as uint8 [bytes]; `labels/<column>`
          int8 [L], 1 yes, 0 no, -1 unknown; `values/<column>` float32 [], NaN
          unknown; `box` float32 [N, 4] as y0, x0, y1, x1
          fractions of the stored picture, `box_class` int32 [N] and `box_known` bool
          []; `landmarks` float32 [P, 2] as y, x fractions, NaN where unknown, and
          where it is known `landmark_mirrored`, see `Metadata.mirrored`;
          `spacing` float32 [], mm of a stored pixel, NaN where unknown.
        """
        stored = self._parse(record)
        example: types.Example = {
            "record": np.asarray(record, np.int32),
            "image": _pixels(stored),
        }
        if "mask" in stored:
            content = stored["mask"].bytes_list.value[0]
            example["mask"] = np.frombuffer(content, np.uint8)
        for column in self.metadata.label_names:
            label = f"labels/{column}"
            example[label] = np.asarray(stored[label].int64_list.value, np.int8)
        for column in self.metadata.values:
            number = stored[f"values/{column}"].float_list.value[0]
            example[f"values/{column}"] = np.asarray(number, np.float32)
        if "objects_known" in stored:
            box = np.asarray(stored["objects/bbox"].float_list.value, np.float32)
            classes = stored["objects/label"].int64_list.value
            example["box"] = box.reshape(-1, 4)
            example["box_class"] = np.asarray(classes, np.int32)
            known = stored["objects_known"].int64_list.value[0]
            example["box_known"] = np.asarray(known, np.bool_)
        if self.metadata.landmark_names:
            points = np.asarray(stored["landmarks"].float_list.value, np.float32)
            example["landmarks"] = points.reshape(-1, 2)
            if self.metadata.mirrored is not None:
                example["landmark_mirrored"] = self.metadata.mirrored
        if "spacing" in stored:
            value = stored["spacing"].float_list.value[0]
            example["spacing"] = np.asarray(value, np.float32)
        return example

    def image(self, record: int) -> np.ndarray:
        """The image of a record alone: uint8 or uint16 [H, W], not to be written to."""
        return _pixels(self._parse(record))

    def _parse(self, record: int) -> Any:
        """The features of a record, by name."""
        encoded = self._records[int(self._positions[record])]
        # TFDS's own parser copies each picture several times.
        example_type: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
        return example_type.FromString(encoded).features.feature

    def pixel_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the pixels of the stored train split, [0, 1].

        They do not depend on the manifest, so a model means the same under each.

        Raises:
          ValueError: If `preparation.json` does not hold two finite numbers.
        """
        found = []
        for name in ("pixel_mean", "pixel_std"):
            value = self.preparation.get(name)
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(
                    f"preparation.json of dataset {self.name!r} has no number "
                    f"{name!r}, got {value!r}. Prepare the set again with --rebuild, "
                    "or set config.input.normalisation to 'image'."
                )
            found.append(float(value))
        mean, deviation = found
        return mean, deviation


def _pixels(stored: Any) -> np.ndarray:
    """The picture of a record, uint8 or uint16 [H, W]."""
    if "image" in stored:  # A PNG, in sets from before pixels were stored bare.
        encoded = stored["image"].bytes_list.value[0]
        return transforms.decode(np.frombuffer(encoded, np.uint8))
    height, width, _ = stored["image/shape"].int64_list.value
    content = stored["image/value"].bytes_list.value[0]
    is_deep = len(content) > height * width
    dtype = np.uint16 if is_deep else np.uint8
    return np.frombuffer(content, dtype).reshape(height, width)


def read_metadata(folder: PathLike) -> Metadata:
    """Names of labels, masks' and objects' classes and values of a prepared folder."""
    stored = prepared.read_json(epath.Path(folder) / "metadata.json")
    return Metadata(
        label_names={
            column: tuple(names)
            for column, names in stored.get("label_names", {}).items()
        },
        mask_names=tuple(stored.get("mask_names", ())),
        object_names=tuple(stored.get("object_names", ())),
        values=stored.get("values", {}),
        landmark_names=tuple(stored.get("landmark_names", ())),
    )


def _members(
    folder: epath.Path,
    chosen: prepared.Manifest | None,
    split: str,
    rows: list[prepared.Row],
    counts: Mapping[str, int],
) -> list[prepared.Row]:
    """Rows of a split that must be there."""
    found = prepared.members(chosen, rows)
    there = counts if chosen is None else found
    if split not in there:
        under = "" if chosen is None else f" in its splits {chosen.name!r}"
        raise ValueError(
            f"Dataset {folder.parent.name!r} has no split {split!r}{under}; it has "
            f"{sorted(there)} (in {os.fspath(folder)})."
        )
    return found.get(split, [])


def _first_positions(
    name: str, rows: list[prepared.Row], counts: Mapping[str, int]
) -> dict[str, int]:
    """Where each stored split begins when all are read one after the other."""
    first, listed, total = {}, collections.Counter(row["split"] for row in rows), 0
    for split in prepared.in_order({*counts, *listed}):
        count = counts.get(split, 0)
        if listed[split] != count:
            raise ValueError(
                f"{prepared.INDEX} of dataset {name!r} lists {listed[split]} records "
                f"of split {split!r}, but the split holds {count}. "
                "Prepare the set again with --rebuild."
            )
        first[split] = total
        total += count
    return first
