"""Writes the shards of a set with Apache Beam, on one machine or on many."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from etils import epath
from tensorflow_datasets.core import file_adapters

from tfds_builders.prepare import shards
from tfds_builders.prepare import staging as staging_lib


def write(
    builder: Any,
    plan: Sequence[shards.Shard],
    staging: staging_lib.Staging,
    *,
    runner: Any = None,
    options: Any = None,
) -> None:
    """Writes the shards that are not finished; returns when all are.

    The pipeline holds names of files only: the records of a shard are read by the
    worker that writes it. Workers must reach the source and the folder of the set.

    Args:
      builder: An `xray_builder.XrayBuilder`; workers make theirs from its pickle.
      plan: All shards of the set.
      staging: Where they go.
      runner: Runner of the pipeline, a name or an object; None for that of the options.
      options: `PipelineOptions`; None for Beam's defaults.

    Raises:
      ImportError: If Beam is not installed.
    """
    try:
        import apache_beam  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "beam_runner and beam_options need Apache Beam. Install it with: "
            "pip install '.[beam]' in a clone."
        ) from error
    todo = [shard for shard in plan if not staging.is_finished(shard.number)]
    for shard in todo:
        shards.save_plan(staging.path(shard.number), shard)
    if not todo:
        return
    write_one = functools.partial(
        _write_one, builder=builder, file_format=staging.file_format
    )
    paths = [str(staging.path(shard.number)) for shard in todo]
    with apache_beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = (
            pipeline
            | "Shards" >> apache_beam.Create(paths)
            | "Spread" >> apache_beam.Reshuffle()
            | "Write" >> apache_beam.Map(write_one)
        )


def _write_one(path: str, builder: Any, file_format: file_adapters.FileFormat) -> None:
    """Writes one shard; runs on a worker, which may try a shard twice."""
    shard = shards.load_plan(epath.Path(path))
    shards.write(epath.Path(path), shard, builder.encode, file_format=file_format)
