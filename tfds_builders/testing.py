"""Prepares a release and reads all of it back, for the tests of builders."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from tfds_builders import release, xray_builder


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
    config = release.ReleaseConfig(name="test", folder=str(folder), **options)
    builder = builder_class(data_dir=data_dir, config=config)
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
        report=json.loads((path / xray_builder.PREPARATION).read_text()),
        index={row["image_id"]: row for row in _rows(path / xray_builder.INDEX)},
        left_out={
            row["file"]: row["reason"] for row in _rows(path / xray_builder.QUARANTINE)
        },
    )


def _rows(path: epath.Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
