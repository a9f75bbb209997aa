"""Prepares what is missing, then runs a config into a work folder.

    python -m mtpret_jax.main --config=configs/demo.py --workdir=runs/demo

Interrupted anywhere, the same command goes on where it stopped. Any option of the
config can be changed: `--config.seed=1`.
"""

from __future__ import annotations

import logging as python_logging
import os
from collections.abc import Sequence
from typing import NoReturn

import jax
from absl import app, flags
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import config_flags

from mtpret_jax import config as schema
from mtpret_jax.cli import command, devices
from mtpret_jax.experiment import locks, origin, preparation, workfolder
from mtpret_jax.study import plan
from mtpret_jax.training import preemption, tracing

_LOG = python_logging.getLogger("mtpret_jax.train")
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The config file; `file.py:argument` gives it an argument."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for all results.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    os.path.join("~", "tensorflow_datasets"),
    "Folder of prepared sets; missing ones are prepared there first.",
)
_REBUILD = flags.DEFINE_bool(
    "rebuild", False, "Prepare sets again whose source or options have changed."
)
_REPORT_ONLY = flags.DEFINE_bool(
    "report_only", False, "Do no run; report on those that have ended."
)
_PROFILE = flags.DEFINE_string(
    "profile",
    None,
    "Steps of every run to trace for TensorBoard, such as 100:110: those after the "
    "100th, up to the 110th. Shown by `tensorboard --logdir` of the run's folder.",
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the other processes of a cluster that JAX detects."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "With --distributed where JAX detects no cluster: host:port of process 0.",
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Their number, likewise.")
_PROCESS = flags.DEFINE_integer("process", None, "Index of this one, likewise.")
_DEVICES = flags.DEFINE_list(
    "devices",
    None,
    "Use these of this machine's devices alone, such as 0,1: several processes, each "
    "with devices of its own, do the runs of one --workdir side by side.",
)


def main(arguments: list[str]) -> None:
    """Runs the config that the flags name."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    cluster = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    if not _DISTRIBUTED.value and any(value is not None for value in cluster):
        raise app.UsageError(
            "--coordinator, --processes, --process: add --distributed."
        )
    if _DISTRIBUTED.value and _DEVICES.value:
        raise app.UsageError("--devices is for processes without --distributed.")
    profile = range(0)
    if _PROFILE.value is not None:
        try:
            profile = tracing.parse(_PROFILE.value)
        except ValueError as error:
            raise app.UsageError(str(error)) from error
    command.speak()
    preemption.listen()
    if _DEVICES.value:
        devices.keep_to(_numbers(_DEVICES.value))
    if _DISTRIBUTED.value:
        jax.distributed.initialize(*cluster)
    devices.require()
    config = plan.expand(schema.parse(_CONFIG.value))
    workdir = epath.Path(str(_WORKDIR.value)).expanduser()
    workfolder.check_place(workdir)
    # Runs repeat each other's programs, and a resumed one its own.
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = str(workdir / "compilation_cache")
        jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    workfolder.check_profile(config, profile)
    origin.check(config)  # Before sets are prepared, which may take hours.
    data_dir = epath.Path(str(_DATA_DIR.value)).expanduser()
    if jax.process_index() == 0:  # The others find the sets ready.
        with locks.alone(workdir / "locks" / "preparation"):
            folders = preparation.prepare(
                config.datasets, data_dir, rebuild=_REBUILD.value
            )
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("sets are prepared")
    if jax.process_index() != 0:
        folders = preparation.prepare(config.datasets, data_dir)
    workfolder.run(
        config, workdir, folders, report_only=_REPORT_ONLY.value, profile=profile
    )
    path = workfolder.report_path(config, workdir)
    _LOG.info("Report: %s", path.with_suffix(".html"))


def _numbers(words: Sequence[str]) -> list[int]:
    """The devices that `--devices` names."""
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise app.UsageError(
            f"--devices: expected different numbers from 0, got {','.join(words)}."
        )
    return [int(word) for word in words]


def run(program: str, arguments: Sequence[str]) -> NoReturn:
    """Ends the process with an exit code of `command`."""
    del program  # The verb may be left out.
    command.run(
        main,
        usage="python -m mtpret_jax.main --config=configs/demo.py --workdir=runs/demo",
        required=("config", "workdir"),
        about=__doc__,
        arguments=arguments,
    )
