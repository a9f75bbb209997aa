"""Writes the shards of a set on all cores of this machine.

Threads, not processes: reading a file, decoding, shrinking and encoding an image leave
the interpreter to others, and threads need no guard around a user's script.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
from collections.abc import Sequence
from typing import Any

import tqdm

from tfds_builders.prepare import shards
from tfds_builders.prepare import staging as staging_lib


def write(
    builder: Any, plan: Sequence[shards.Shard], staging: staging_lib.Staging
) -> None:
    """Writes the shards that are not finished, one after the other.

    Args:
      builder: An `xray_builder.XrayBuilder`.
      plan: All shards of the set.
      staging: Where they go.
    """
    name = f"{builder.name}/{builder.builder_config.name}"
    todo = [shard for shard in plan if not staging.is_finished(shard.number)]
    total = sum(len(shard.records) for shard in plan)
    done = total - sum(len(shard.records) for shard in todo)
    if done:
        logging.getLogger(__name__).info(
            "%s: resuming; %d of %d images are done.", name, done, total
        )
    threads = _cores()
    with (
        concurrent.futures.ThreadPoolExecutor(threads) as executor,
        tqdm.tqdm(
            total=total, initial=done, desc=name, unit=" images", disable=None
        ) as progress,
    ):
        for shard in todo:
            shards.write(
                staging.path(shard.number),
                shard,
                builder.encode,
                file_format=staging.file_format,
                done=progress.update,
                pool=executor,
                look_ahead=2 * threads,
            )


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
