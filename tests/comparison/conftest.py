"""A prepared set of phantoms, its config, and tables of features for it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.comparison import sets
from mtpret_jax.experiment import preparation

CONFIG = """
from mtpret_jax import config as schema

def get_config():
    config = schema.defaults()
    config.datasets.chest = schema.dataset(
        "phantom_xray", body="chest", image_size=64, train=40, validation=8, test=40
    )
    for name, kind in {{"finding": "classification", "opacity": "detection"}}.items():
        config.tasks[name] = schema.task(
            kind=kind, dataset="chest", target="finding", image_size=64
        )
    config.runs.run = schema.run(stage="finetune", finetune=dict(task="finding"))
    return config
"""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The file of a config, the folder of its sets, the config and its task."""
    folder = tmp_path_factory.mktemp("compare")
    file = folder / "phantoms.py"
    file.write_text(CONFIG.format())
    known: dict[str, Any] = {}
    exec(file.read_text(), known)
    config = schema.parse(known["get_config"]())
    preparation.prepare(config.datasets, folder / "data")
    task = sets.read(config, "finding", folder / "data")
    return file, folder / "data", config, task


@pytest.fixture(scope="session")
def make_table(prepared: Any) -> Callable[..., pathlib.Path]:
    """Writes features that tell the label more or less well."""
    *_, task = prepared

    def make(path: pathlib.Path, seed: int, told: float, **changed: Any):
        rng = np.random.default_rng(seed)
        names = [name for part in task.splits.values() for name in part.image_ids]
        label = np.concatenate([part.label[:, 1] for part in task.splits.values()])
        feature = rng.normal(size=(len(names), 6)).astype(np.float32)
        feature[:, 0] += told * label
        arrays: dict[str, Any] = {"image_id": np.array(names), "feature": feature}
        np.savez(path, **(arrays | changed))
        return path

    return make
