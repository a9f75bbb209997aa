"""Makes the sets that a config names, and skips those that are ready.

mtpret_jax data prepare --config=configs/demo.py --data_dir=data
"""

from __future__ import annotations

import argparse

from mtpret_jax.api import prepare as api
from mtpret_jax.cli import command


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_config()
    parser.add_data_dir("folder of prepared sets")
    parser.add_flag("--rebuild", "also those whose source or options have changed")


def run(options: argparse.Namespace) -> None:
    """Prepares the sets."""
    command.speak()
    api.prepare(options.config, options.data_dir, rebuild=options.rebuild)
