"""Finds the images that prepared sets share, and writes what it found.

mtpret_jax data audit --config=configs/demo.py --data_dir=data --out=audit
mtpret_jax data audit --out=audit data/mura/full/1.0.0 data/fracatlas/...
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from mtpret_jax import config as schema
from mtpret_jax.audit import overlaps
from mtpret_jax.cli import command
from mtpret_jax.data import sources


def audit(folders: Sequence[str], config: Any, data_dir: str, out: str) -> list[str]:
    """Audits the sets of a config, or prepared folders; returns what was found.

    Args:
      folders: Prepared folders; none with a config.
      config: A config file's result, or None.
      data_dir: Of the prepared sets that the config names.
      out: Folder to write to.
    """
    if (config is None) == (not folders):
        raise app.UsageError(
            "Name either a config (--config=... --data_dir=...) or prepared folders."
        )
    sets = _of_folders(folders) if folders else _of_config(config, data_dir)
    findings = overlaps.audit(sets)
    folder = epath.Path(out).expanduser()
    overlaps.write(folder, findings)
    return [*findings.report.lines(), f"Written to {folder}."]


def _of_config(config: Any, data_dir: str) -> dict[str, overlaps.Set]:
    root = epath.Path(data_dir).expanduser()
    return {
        name: overlaps.Set(sources.locate(root, name, row), row.splits)
        for name, row in schema.parse(config).datasets.items()
    }


def _of_folders(folders: Sequence[str]) -> dict[str, overlaps.Set]:
    """Sets by the names of their rows, or by builder and name where these clash."""
    paths = [epath.Path(folder).expanduser() for folder in folders]
    names = [path.parent.name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.parts[-3:]) for path in paths]
    return {name: overlaps.Set(path) for name, path in zip(names, paths, strict=True)}


def run(program: str, arguments: Sequence[str]) -> NoReturn:
    """Ends the process with an exit code of `command`."""
    # Defined here, since other verbs have flags of the same names.
    config = config_flags.DEFINE_config_file(
        "config", None, "The config whose sets are audited, in the splits it names."
    )
    data_dir = flags.DEFINE_string(
        "data_dir",
        os.path.join("~", "tensorflow_datasets"),
        "With --config: folder of the prepared sets.",
    )
    out = flags.DEFINE_string("out", None, "Folder for the list and the report.")

    def main(rest: list[str]) -> None:
        command.speak()
        found = audit(rest[1:], config.value, str(data_dir.value), str(out.value))
        sys.stdout.write("\n".join([*found, ""]))

    command.run(
        main,
        usage=f"{program} --config=configs/demo.py --data_dir=data --out=audit",
        required=("out",),
        about=__doc__,
        arguments=arguments,
    )
