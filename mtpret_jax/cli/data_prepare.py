"""Makes the prepared data sets that a config names, and leaves alone what is ready.

mtpret_jax data prepare --config=configs/demo.py --data_dir=data
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

from absl import app, flags
from etils import epath
from ml_collections import config_flags

from mtpret_jax import config as schema
from mtpret_jax.cli import command
from mtpret_jax.experiment import preparation


def run(program: str, arguments: Sequence[str]) -> NoReturn:
    """Ends the process with an exit code of `command`."""
    # Defined here, since other verbs have flags of the same names.
    config = config_flags.DEFINE_config_file("config", None, "The config file.")
    data_dir = flags.DEFINE_string(
        "data_dir",
        os.path.join("~", "tensorflow_datasets"),
        "Folder of prepared sets.",
    )
    rebuild = flags.DEFINE_bool(
        "rebuild", False, "Prepare sets again whose source or options have changed."
    )

    def main(rest: list[str]) -> None:
        if len(rest) > 1:
            raise app.UsageError(f"Unknown arguments: {rest[1:]}.")
        command.speak()
        datasets = schema.parse(config.value).datasets
        folder = epath.Path(data_dir.value).expanduser()
        preparation.prepare(datasets, folder, rebuild=rebuild.value)

    command.run(
        main,
        usage=f"{program} --config=configs/demo.py --data_dir=data",
        required=("config",),
        about=__doc__,
        arguments=arguments,
    )
