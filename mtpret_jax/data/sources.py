"""Prepared folders: where they lie, what they hold, and random access to their records.

The only module of this room that reads a disk. Pictures are handed on as encoded bytes;
`transforms` decodes them.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from mtpret_jax import config, types

PathLike = str | os.PathLike[str]

_INFO_FILE = "dataset_info.json"
_PICTURES = ("image", "mask")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Names that give a prepared set's integers their meaning.

    Attributes:
      label_names: Label column to the names of its L labels, in order.
      mask_names: Names of the S classes of a mask, background first; empty: no masks.
      object_names: Names of the classes of boxes; empty: no boxes.
    """

    label_names: Mapping[str, tuple[str, ...]]
    mask_names: tuple[str, ...]
    object_names: tuple[str, ...]


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


def open_prepared(folder: PathLike, split: str) -> Source:
    """Opens one split of a prepared folder.

    Args:
      folder: A version folder, as `locate` returns it.
      split: Name of a split, e.g. "train".

    Raises:
      FileNotFoundError: If the folder or one of its files is missing.
      ValueError: If there is no such split, or the index does not fit it.
    """
    return Source(folder, split)


class Source:
    """Random access to the records of one split. Can be pickled.

    Attributes:
      folder: The prepared folder.
      split: Name of the split.
      name: Name of the set, for messages.
      metadata: Names of labels, mask classes and object classes.
      preparation: What `preparation.json` holds.
      index: Rows of `index.csv` of this split; row i describes record i.
    """

    def __init__(self, folder: PathLike, split: str) -> None:
        self.folder = epath.Path(folder)
        self.split = split
        self.name = self.folder.parent.name
        self.metadata = _read_metadata(self.folder)
        self.preparation: dict[str, Any] = _read_json(self.folder / "preparation.json")
        builder = tfds.builder_from_directory(os.fspath(self.folder))
        if split not in builder.info.splits:
            raise ValueError(
                f"Dataset {self.name!r} has no split {split!r}; it has "
                f"{sorted(builder.info.splits)} (in {os.fspath(self.folder)})."
            )
        features = builder.info.features
        if not isinstance(features, tfds.features.FeaturesDict):
            raise TypeError(
                f"Dataset {self.name!r} does not hold named features but {features!r}. "
                "Use one of the builders in tfds_builders."
            )
        self._records = builder.as_data_source(
            split,  # pyright: ignore[reportCallIssue]
            decoders={
                name: tfds.decode.SkipDecoding()
                for name in _PICTURES
                if name in features
            },
        )
        self.index = _read_index(self.folder / "index.csv", split)
        if len(self.index) != len(self._records):
            raise ValueError(
                f"index.csv of dataset {self.name!r} lists {len(self.index)} records "
                f"of split {split!r}, but the split holds {len(self._records)}. "
                "Prepare the set again with --rebuild."
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, record: int) -> types.Example:
        """Reads one record, decoding no picture.

        Returns:
          `record` int32 []; `image`, and where the set has them `mask`: the encoded
          file as uint8 [bytes]; `labels/<column>` int8 [L], 1 yes, 0 no, -1 unknown;
          `box` float32 [N, 4] as y0, x0, y1, x1 fractions of the stored picture,
          `box_class` int32 [N] and `box_known` bool [].
        """
        stored = self._records[int(record)]
        example: types.Example = {"record": np.asarray(record, np.int32)}
        for name in _PICTURES:
            if name in stored:
                example[name] = np.frombuffer(stored[name], np.uint8)
        for column, label in stored.get("labels", {}).items():
            example[f"labels/{column}"] = np.asarray(label, np.int8)
        if "objects" in stored:
            objects = stored["objects"]
            box = np.asarray(objects["bbox"], np.float32)
            example["box"] = box.reshape(-1, 4)
            example["box_class"] = np.asarray(objects["label"], np.int32).reshape(-1)
            example["box_known"] = np.asarray(stored["objects_known"], np.bool_)
        return example

    def pixel_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the train split's pixels, in [0, 1].

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


def task_examples(folder: PathLike, split: str, task: config.TaskConfig) -> np.ndarray:
    """Records of a split that the task can learn from, int32 [records], rising.

    Left out are, for classification, records whose label is wholly unknown; for
    segmentation, those without a mask; for detection, those with unknown boxes.

    Raises:
      ValueError: If none is left, or the set has nothing for this kind of task.
    """
    return usable_records(open_prepared(folder, split), task)


def usable_records(source: Source, task: config.TaskConfig) -> np.ndarray:
    """`task_examples` of a source that is open already."""
    _check_annotated(source, task)
    is_usable = _USABLE[task.kind]
    records = [i for i, row in enumerate(source.index) if is_usable(row, task.target)]
    if not records:
        raise ValueError(
            f"Split {source.split!r} of dataset {source.name!r} has no example with "
            f"{_WANTED[task.kind]} for a {task.kind} task "
            f"({len(source)} records without). Give the task another dataset, or "
            "prepare the set with these annotations."
        )
    return np.asarray(records, np.int32)


_USABLE = {
    "classification": lambda row, target: row[target] != "",
    "segmentation": lambda row, target: row["has_mask"] in ("1", "True"),
    "detection": lambda row, target: row["n_boxes"] != "",
}
_WANTED = {
    "classification": "a known label",
    "segmentation": "a mask",
    "detection": "known boxes",
}


def _check_annotated(source: Source, task: config.TaskConfig) -> None:
    """Raises unless the set has what this kind of task learns."""
    if task.kind not in _USABLE:
        raise ValueError(f"Unknown task kind {task.kind!r}. Known: {sorted(_USABLE)}.")
    names = source.metadata
    if task.kind == "classification" and task.target not in names.label_names:
        known = sorted(names.label_names)
        near = difflib.get_close_matches(task.target, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Dataset {source.name!r} has no label column {task.target!r} (a task's "
            f"`target`); it has {known}.{hint}"
        )
    if task.kind == "segmentation" and not names.mask_names:
        raise ValueError(f"Dataset {source.name!r} has no masks to segment.")
    if task.kind == "detection" and not names.object_names:
        raise ValueError(f"Dataset {source.name!r} has no boxes to detect.")


def _read_json(path: epath.Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"No {path.name} in {os.fspath(path.parent)}: expected a prepared folder. "
            "Prepare the set first, or again with --rebuild."
        )
    return json.loads(path.read_text())


def _read_metadata(folder: epath.Path) -> Metadata:
    stored = _read_json(folder / "metadata.json")
    return Metadata(
        label_names={
            column: tuple(names)
            for column, names in stored.get("label_names", {}).items()
        },
        mask_names=tuple(stored.get("mask_names", ())),
        object_names=tuple(stored.get("object_names", ())),
    )


def _read_index(path: epath.Path, split: str) -> list[dict[str, str]]:
    """Rows of one split, ordered by record, which must count up from 0."""
    if not path.exists():
        raise FileNotFoundError(
            f"No {path.name} in {os.fspath(path.parent)}: expected a prepared folder. "
            "Prepare the set again with --rebuild."
        )
    rows = [
        row
        for row in csv.DictReader(io.StringIO(path.read_text(), newline=""))
        if row["split"] == split
    ]
    rows.sort(key=lambda row: int(row["record"]))
    if [int(row["record"]) for row in rows] != list(range(len(rows))):
        raise ValueError(
            f"Records of split {split!r} in {os.fspath(path)} do not count up from 0. "
            "Prepare the set again with --rebuild."
        )
    return rows
