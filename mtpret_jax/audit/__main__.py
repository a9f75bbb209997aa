"""The command: audits prepared sets and writes what it found.

python -m mtpret_jax.audit --config=configs/demo.py --data_dir=data --out=audit
python -m mtpret_jax.audit --out=audit data/mura/full/1.0.0 data/fracatlas/full/1.0.0
"""

from __future__ import annotations

import logging
import os
import sys

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from mtpret_jax import config as schema
from mtpret_jax.audit import overlaps, words
from mtpret_jax.data import sources

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The config whose sets are audited, in the splits that it names."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    os.path.join("~", "tensorflow_datasets"),
    "With --config: folder of the prepared sets.",
)
_OUT = flags.DEFINE_string("out", None, "Folder for the list and the report.")


def main(arguments: list[str]) -> None:
    """Audits the sets of a config, or the prepared folders given as arguments."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    logging.getLogger("absl").setLevel(logging.ERROR)
    folders = arguments[1:]
    if (_CONFIG.value is None) == (not folders):
        raise app.UsageError(
            "Name either a config (--config=... --data_dir=...) or prepared folders."
        )
    if _OUT.value is None:
        raise app.UsageError("Name a folder for the results: --out=...")
    sets = _of_folders(folders) if folders else _of_config()
    findings = overlaps.audit(sets)
    out = epath.Path(_OUT.value).expanduser()
    overlaps.write(out, findings)
    lines = [*words.lines(findings.report), f"Written to {out}.", ""]
    sys.stdout.write("\n".join(lines))


def _of_config() -> dict[str, overlaps.Set]:
    config = schema.parse(_CONFIG.value)
    data_dir = epath.Path(str(_DATA_DIR.value)).expanduser()
    return {
        name: overlaps.Set(sources.locate(data_dir, name, row), row.splits)
        for name, row in config.datasets.items()
    }


def _of_folders(folders: list[str]) -> dict[str, overlaps.Set]:
    """Sets by the names of their rows, or by builder and name where these clash."""
    paths = [epath.Path(folder).expanduser() for folder in folders]
    names = [path.parent.name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.parts[-3:]) for path in paths]
    return {name: overlaps.Set(path) for name, path in zip(names, paths, strict=True)}


def run() -> None:
    """Runs `main`; a mistake in the input ends in one line, not a traceback."""
    try:
        app.run(main)
    except (ValueError, FileNotFoundError, TypeError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    run()
