"""Prints every option of a config, with what it inherits.

mtpret_jax config show --config=configs/demo.py --config.seed=1
"""

from __future__ import annotations

import argparse
import json
import sys

from mtpret_jax import config as schema
from mtpret_jax.cli import command


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_config()


def run(options: argparse.Namespace) -> None:
    """Prints the config as JSON."""
    shown = schema.as_dict(schema.parse(options.config))
    sys.stdout.write(f"{json.dumps(shown, indent=2)}\n")
