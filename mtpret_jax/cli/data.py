"""The sets, before anything is trained.

  data prepare --config=configs/demo.py --data_dir=data     makes what a config names
  data doctor FOLDER [set ...]                              looks at downloads
  data audit --config=... --data_dir=... --out=audit        images that sets share
  data audit --out=audit PREPARED_FOLDER ...

Each says more with --help.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from mtpret_jax.cli import command

PARTS = ("prepare", "doctor", "audit")


def run(program: str, arguments: Sequence[str]) -> int:
    """The exit code of the part."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}")
        return command.DONE if arguments else command.USAGE
    part, *rest = arguments
    if part not in PARTS:
        return command.wrong(f"{program} has no '{part}'.", part, PARTS)
    if part == "doctor":
        doctor = importlib.import_module("tfds_builders.doctor")
        return doctor.main(rest)
    module = importlib.import_module(f"mtpret_jax.cli.data_{part}")
    return module.run(f"{program} {part}", rest)
