"""Prepares a release and reads all of it back, for the tests of builders."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from tfds_builders import prepared
from tfds_builders.prepare import reports
from tfds_builders.releases import release


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared folder, read whole.

    Attributes:
      path: The folder.
      examples: Each example by its image_id, as TFDS alone decodes it.
      split_of: Stored split of each image_id.
      report: preparation.json.
      index: Row of index.csv of each image_id.
      left_out: Reason of each file of quarantine.csv.
    """

    path: epath.Path
    examples: dict[str, dict[str, Any]]
    split_of: dict[str, str]
    report: dict[str, Any]
    index: dict[str, dict[str, str]]
    left_out: dict[str, str]

    def about(self, image_id: str, *names: str) -> tuple[Any, ...]:
        """Features of an example that are text or numbers."""
        values = (self.examples[image_id][name] for name in names)
        return tuple(v.decode() if isinstance(v, bytes) else float(v) for v in values)


def builder(
    package: ModuleType,
    folder: epath.PathLike,
    data: epath.PathLike = "unused",
    **options: Any,
) -> Any:
    """The builder of a set for a release in a folder, with options of its config."""
    config = package.Config(name="t", folder=str(folder), **options)
    return package.Builder(data_dir=data, config=config)


def items(
    package: ModuleType, folder: epath.PathLike, **options: Any
) -> dict[str, release.Item]:
    """What a release tells of each image, by its image_id."""
    found = builder(package, folder, **options).found
    return {item.image_id: item for item in found}


def prepare(
    builder_class: type[release.ReleaseBuilder],
    folder: epath.PathLike,
    data_dir: epath.PathLike,
    **options: Any,
) -> Prepared:
    """Prepares the release in a folder, and reads it back with TFDS alone.

    Args:
      builder_class: Of the set.
      folder: Holds the release.
      data_dir: Empty, or not there yet.
      **options: Of the configuration.
    """
    config = type(builder_class.BUILDER_CONFIGS[0])
    builder = builder_class(
        data_dir=data_dir, config=config(name="test", folder=str(folder), **options)
    )
    builder.download_and_prepare()
    path = epath.Path(builder.data_dir)
    again: Any = tfds.builder_from_directory(str(path))
    examples, split_of = {}, {}
    for split in again.info.splits:
        for example in again.as_data_source(split):
            name = example["image_id"].decode()
            examples[name], split_of[name] = example, split
    return Prepared(
        path=path,
        examples=examples,
        split_of=split_of,
        report=json.loads((path / prepared.PREPARATION).read_text()),
        index={row["image_id"]: row for row in _rows(path / prepared.INDEX)},
        left_out={
            row["file"]: row["reason"] for row in _rows(path / reports.QUARANTINE)
        },
    )


def kinds_of(
    examples: Mapping[str, Mapping[str, Any]], files: Mapping[str, epath.Path]
) -> set[str]:
    """Compares images with the files they come from, decoded by another reader.

    Args:
      examples: With `image`, uint8 [H, W, 1], by image_id.
      files: Path of each image's file. Pictures are grey, however they are stored;
        those of 16 bits hold 12 or 16.

    Returns:
      Kinds of the files: "grey", "RGB", "RGBA", "16-bit".

    Raises:
      AssertionError: If an image does not show what is in its file.
    """
    kinds = set()
    for name, path in files.items():
        decoded = decode(path)
        kind = {1: "grey", 3: "RGB", 4: "RGBA"}[decoded[0, 0].size]
        # The last channel may be the alpha.
        pixels = decoded if kind == "grey" else decoded[..., 0]
        is_jpeg = path.read_bytes()[:2] == b"\xff\xd8"
        slack = 5 if is_jpeg else 1  # it mixes colours, and rounds
        if pixels.dtype == np.uint16:
            kind = "16-bit"
            bits = 12 if pixels.max() < 1 << 12 else 16
            pixels = pixels / ((1 << bits) - 1) * 255
        kinds.add(kind)
        np.testing.assert_allclose(
            examples[name]["image"][..., 0].astype(np.float64),
            pixels,
            rtol=0,
            atol=slack,
            err_msg=f"{name}, {kind}",
        )
    return kinds


def decode(path: epath.Path) -> np.ndarray:
    """The pixels of a file, [H, W] or [H, W, C], not read by `reader`."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED))


def _rows(path: epath.Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
