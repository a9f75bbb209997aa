"""The command: prepares what is missing, then runs a config into a work folder.

    python -m mtpret_jax.main --config=configs/demo.py --workdir=runs/demo

A mistake in the input ends in one line; `--verbosity=1` shows where it arose.
Kept short, so that everything else can be used from a notebook or tested.
"""

from __future__ import annotations

import logging as python_logging
import os
import sys
import traceback

import jax
from absl import app, flags, logging
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import config_flags

from mtpret_jax import config as schema
from mtpret_jax import experiment, preparation, starting

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
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "With --distributed where JAX detects no cluster: host:port of process 0.",
)
_PROCESSES = flags.DEFINE_integer("processes", None, "Their number, likewise.")
_PROCESS = flags.DEFINE_integer("process", None, "Index of this one, likewise.")


def main(arguments: list[str]) -> None:
    """Runs the config that the flags name."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    cluster = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    if not _DISTRIBUTED.value and any(value is not None for value in cluster):
        raise app.UsageError(
            "--coordinator, --processes, --process: add --distributed."
        )
    if _DISTRIBUTED.value:
        jax.distributed.initialize(*cluster)
    _set_up_logging()
    config = schema.parse(_CONFIG.value)
    workdir = epath.Path(str(_WORKDIR.value)).expanduser()
    # Runs repeat each other's programs, and a resumed one its own.
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = str(workdir / "compilation_cache")
        jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    starting.check(config)  # Before sets are prepared, which may take hours.
    data_dir = epath.Path(str(_DATA_DIR.value)).expanduser()
    if jax.process_index() == 0:  # The others find the sets ready.
        folders = preparation.prepare(config.datasets, data_dir, rebuild=_REBUILD.value)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("sets are prepared")
    if jax.process_index() != 0:
        folders = preparation.prepare(config.datasets, data_dir)
    experiment.run(config, workdir, folders)
    _LOG.info("Report: %s", workdir / "report.html")


def _set_up_logging() -> None:
    """Our own messages as plain lines; of the libraries, errors only."""
    if not logging.level_debug():
        logging.set_verbosity(logging.ERROR)
    handler = python_logging.StreamHandler()
    handler.setFormatter(python_logging.Formatter("%(message)s"))
    for package in ("mtpret_jax", "tfds_builders"):
        logger = python_logging.getLogger(package)
        logger.addHandler(handler)
        logger.setLevel(python_logging.INFO)
        logger.propagate = False


def _parse_flags(arguments: list[str]) -> list[str]:
    """Reads flags and config file; gives back what is no flag."""
    try:
        rest = flags.FLAGS(arguments)
        required = ("config", "workdir")
        missing = [name for name in required if flags.FLAGS[name].value is None]
        if missing:
            raise flags.Error(
                f"No --{' and no --'.join(missing)}. Usage: python -m mtpret_jax.main "
                "--config=configs/demo.py --workdir=runs/demo (--help shows all flags)."
            )
        getattr(_CONFIG.value, "datasets", None)  # Raises what reading the file did.
        return rest
    except (flags.Error, AttributeError, KeyError, OSError, ValueError) as error:
        if "--verbosity=1" in arguments:
            raise
        sys.exit(f"Error: {_explain(error, arguments)}")


def _explain(error: BaseException, arguments: list[str]) -> str:
    """One line for what a typo in a flag or a mistake in a config file raises."""
    if isinstance(error, flags.Error):
        # A config file's own message lies below one that quotes its traceback.
        while "Traceback" in str(error) and error.__context__:
            error = error.__context__
        return str(error)
    if isinstance(error, OSError):
        return f"--config: {str(error).splitlines()[-1].strip()}."
    if isinstance(error, ValueError):
        return (
            f"a --config.… flag can't be read ({error}). A name with a hyphen goes in "
            "brackets: \"--config.runs['scratch-opacity'].steps=3\"."
        )
    frames = traceback.extract_tb(error.__traceback__)
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    name, _, advice = str(error.args[0] if error.args else error).partition("\n")
    advice = " ".join(advice.split())
    files = {frame.filename for frame in frames if frame.name == "get_config"}
    for frame in reversed(frames):
        if frame.filename in files:
            return f"{frame.filename}, line {frame.lineno}: {name} {advice}"
    for flag in arguments:
        if name.strip("'") in flag.partition("=")[0].split("."):
            return f"{flag}: no option {name}. {advice}".strip()
    return f"{name} {advice}".strip()


def run() -> None:
    """Runs `main`; a mistake in the input ends in one line, not a traceback."""
    try:
        app.run(main, flags_parser=_parse_flags)
    except (ValueError, OSError, TypeError, FloatingPointError) as error:
        if logging.level_debug():
            raise
        lines = [str(error), *getattr(error, "__notes__", [])]
        sys.exit(f"Error: {' '.join(lines)} (--verbosity=1 shows where.)")


if __name__ == "__main__":
    run()
