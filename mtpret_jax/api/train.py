"""Runs and their report, called from Python."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from mtpret_jax.api import places, prepare
from mtpret_jax.experiment import locks, start, workfolder
from mtpret_jax.study import plan
from mtpret_jax.training import trackers

_LOG = logging.getLogger(__name__)


def train(
    config: places.Config,
    workdir: places.PathLike,
    data_dir: places.PathLike = places.DATA_DIR,
    *,
    rebuild: bool = False,
    report_only: bool = False,
    profile: range = range(0),
    track: Sequence[str] = (),
) -> dict[str, Any]:
    """Prepares what is missing, does the runs of a config, and writes the report.

    Interrupted anywhere, the same call resumes where it stopped. Of several processes
    (`jax.distributed.initialize` comes before) each makes the same call.

    Args:
      config: A `ConfigDict` as `mtpret_jax.config.defaults` gives, or a parsed one.
      workdir: Folder for all results.
      data_dir: Folder of prepared sets.
      rebuild: Prepares a set anew whose source or options have changed.
      report_only: Does no run, and reports on those that have ended.
      profile: The steps of each run to trace for TensorBoard: `range(100, 110)` are
        those after the 100th, up to the 110th.
      track: "wandb" or "mlflow" or both, which are told of every step's values.

    Returns:
      What `report.json` holds, of a study `study.json`.

    Raises:
      ValueError: If options of the config do not fit each other, or the work folder
        belongs to another config or other data.
      FileNotFoundError: If a source or a start is missing.
    """
    expanded = plan.expand(places.parse(config))
    place = epath.Path(workdir).expanduser()
    workfolder.check_place(place)
    workfolder.check_profile(expanded, profile)
    trackers.check(track)
    start.check(expanded)  # Before sets are prepared, which may take hours.
    if jax.process_index() == 0:  # The others find the sets ready.
        with locks.alone(place / "locks" / "preparation"):
            folders = prepare.prepare(expanded, data_dir, rebuild=rebuild)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("sets are prepared")
    if jax.process_index() != 0:
        folders = prepare.prepare(expanded, data_dir)
    found = workfolder.run(
        expanded,
        place,
        folders,
        report_only=report_only,
        profile=profile,
        track=track,
    )
    path = workfolder.report_path(expanded, place)
    _LOG.info("Report: %s", path.with_suffix(".html"))
    return found
