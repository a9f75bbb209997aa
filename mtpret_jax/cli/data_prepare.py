"""Makes the sets that a config names, and skips those that are ready.

mtpret_jax data prepare --config=configs/demo.py --data_dir=data
"""

from __future__ import annotations

import argparse

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.cli import command
from mtpret_jax.experiment import preparation


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_config()
    parser.add_data_dir("folder of prepared sets")
    parser.add_flag("--rebuild", "also those whose source or options have changed")


def run(options: argparse.Namespace) -> None:
    """Prepares the sets."""
    command.speak()
    datasets = schema.parse(options.config).datasets
    folder = epath.Path(options.data_dir).expanduser()
    preparation.prepare(datasets, folder, rebuild=options.rebuild)
