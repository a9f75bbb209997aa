"""What the functions take: a config as it is written, and paths as they are typed."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from mtpret_jax import config as schema

DATA_DIR = os.path.join("~", "tensorflow_datasets")  # of prepared sets
PathLike = str | os.PathLike[str]
Config = ml_collections.ConfigDict | Mapping[str, Any] | schema.ExperimentConfig


def parse(config: Config) -> schema.ExperimentConfig:
    """The config, checked; a parsed one as it is."""
    if isinstance(config, schema.ExperimentConfig):
        return config
    return schema.parse(config)


def path(given: PathLike) -> pathlib.Path:
    """A path, `~` for the home folder."""
    return pathlib.Path(given).expanduser()
