"""Writes the shards of a set with Apache Beam, on one machine or on many."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Sequence
from typing import Any

from etils import epath

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

    The pipeline holds numbers of shards only: workers read the plan, which for a large
    set is more than a pipeline may hold, from the folder of the set. They must reach
    that and the source.

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
    todo = [shard.number for shard in plan if not staging.is_finished(shard.number)]
    if not todo:
        return
    path = staging.folder / "plan.pickle"
    path.write_bytes(pickle.dumps(plan))
    targets = [(number, str(staging.path(number))) for number in todo]
    write_one = functools.partial(
        _write_one,
        plan=str(path),
        builder=builder,
        file_format=staging.file_format,
    )
    with apache_beam.Pipeline(runner=runner, options=options) as pipeline:
        _ = (
            pipeline
            | "Shards" >> apache_beam.Create(targets)
            | "Spread" >> apache_beam.Reshuffle()
            | "Write" >> apache_beam.Map(write_one)
        )


def _write_one(
    target: tuple[int, str], plan: str, builder: Any, file_format: Any
) -> None:
    """Writes one shard; runs on a worker, which may try a shard twice."""
    number, path = target
    shard = _read(plan)[number]
    shards.write(epath.Path(path), shard, builder.encode, file_format=file_format)


@functools.lru_cache(maxsize=1)
def _read(plan: str) -> Sequence[shards.Shard]:
    return pickle.loads(epath.Path(plan).read_bytes())
