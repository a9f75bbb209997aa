"""Finds the images that prepared sets share, and writes what it found.

mtpret_jax data audit --config=configs/demo.py --data_dir=data --out=audit
mtpret_jax data audit --out=audit data/mura/full/1.0.0 data/fracatlas/...
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.audit import overlaps
from mtpret_jax.cli import command
from mtpret_jax.data import sources


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_config(required=False)
    parser.add_data_dir("with --config: folder of the prepared sets")
    parser.add_argument("--out", required=True, help="folder for list and report")
    parser.add_argument("folders", nargs="*", help="prepared folders, without --config")


def run(options: argparse.Namespace) -> None:
    """Audits the sets of a config, or prepared folders."""
    if (options.config is None) == (not options.folders):
        raise command.UsageError(
            "Name either a config (--config=... --data_dir=...) or prepared folders."
        )
    command.speak()
    sets = folder_sets(options.folders)
    if options.config is not None:
        root = epath.Path(options.data_dir).expanduser()
        sets = config_sets(schema.parse(options.config).datasets, root)
    findings = overlaps.audit(sets)
    folder = epath.Path(options.out).expanduser()
    overlaps.write(folder, findings)
    lines = [*findings.report.lines(), f"Written to {folder}.", ""]
    sys.stdout.write("\n".join(lines))


def config_sets(
    datasets: Mapping[str, schema.DatasetConfig], root: epath.Path
) -> dict[str, overlaps.Set]:
    """The sets of a config by name, in the splits that it names.

    Raises:
      FileNotFoundError: If one is not prepared in `root`.
    """
    return {
        name: overlaps.Set(sources.locate(root, name, row), row.splits)
        for name, row in datasets.items()
    }


def folder_sets(folders: Sequence[str]) -> dict[str, overlaps.Set]:
    """Prepared folders by the names of sets, or by builder and name if these clash."""
    paths = [epath.Path(folder).expanduser() for folder in folders]
    names = [path.parent.name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.parts[-3:]) for path in paths]
    return {name: overlaps.Set(path) for name, path in zip(names, paths, strict=True)}
