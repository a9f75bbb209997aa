"""The command: prepares what is missing, then runs a config into a work folder.

    python -m mtpret_jax.main --config=configs/demo.py --workdir=runs/demo

Kept short, so that everything else can be used from a notebook or tested.
"""

from __future__ import annotations

import logging as python_logging
import os
import sys

import jax
from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

from mtpret_jax import config as schema
from mtpret_jax import experiment, preparation

_LOG = python_logging.getLogger("mtpret_jax.main")
_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for all results.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    os.path.join("~", "tensorflow_datasets"),
    "Folder of prepared sets; missing ones are prepared there first.",
)
_REBUILD = flags.DEFINE_bool(
    "rebuild", False, "Prepare sets again whose source or options have changed."
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the other processes of a cluster that JAX detects."
)


def main(arguments: list[str]) -> None:
    """Runs the config that the flags name."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    if _DISTRIBUTED.value:
        jax.distributed.initialize()
    _set_up_logging()
    config = schema.parse(_CONFIG.value)
    workdir = epath.Path(str(_WORKDIR.value)).expanduser()
    # Runs repeat each other's programs, and a resumed one its own.
    jax.config.update("jax_compilation_cache_dir", str(workdir / "compilation_cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    data_dir = epath.Path(str(_DATA_DIR.value)).expanduser()
    folders = preparation.prepare(config.datasets, data_dir, rebuild=_REBUILD.value)
    experiment.run(config, workdir, folders)
    _LOG.info("Report: %s", workdir / "report.html")


def _set_up_logging() -> None:
    """Our own messages as plain lines; of the libraries, warnings only."""
    logging.set_verbosity(logging.WARNING)
    handler = python_logging.StreamHandler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    for package in ("mtpret_jax", "tfds_builders"):
        logger = python_logging.getLogger(package)
        logger.addHandler(handler)
        logger.setLevel(python_logging.INFO)
        logger.propagate = False


def run() -> None:
    """Runs `main`; a mistake in the input ends in one line, not a traceback."""
    flags.mark_flags_as_required(["config", "workdir"])
    try:
        app.run(main)
    except (ValueError, FileNotFoundError, TypeError) as error:
        if logging.level_debug():
            raise
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    run()
