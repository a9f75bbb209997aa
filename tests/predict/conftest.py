"""Folders of narrow models with random weights, as a run leaves them."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import stages
from mtpret_jax.experiment import workshop
from mtpret_jax.inference import description, golden, loader, model
from mtpret_jax.training import checkpoint
from tfds_builders.phantom_xray import simulator

NAMES = {
    "label_names": {"finding": ["normal", "opacity"]},
    "mask_names": ["background", "lung", "heart"],
    "object_names": ["opacity", "device"],
    "landmark_names": ["carina", "apex"],
}
HEADS: dict[str, dict[str, Any]] = {
    "landmarks": {"channels": 8},
    "segmentation": {"channels": 8},
    "detection": {
        "channels": 8,
        "hidden": 16,
        "score_threshold": 0.01,
        "detections": 2,  # Without training, more would cover the picture.
    },
}
OF_KIND = {
    "classification": NAMES["label_names"]["finding"],
    "segmentation": NAMES["mask_names"],
    "detection": NAMES["object_names"],
    "landmarks": NAMES["landmark_names"],
}
DECISIONS = {
    "images": 100,
    "temperature": 2.0,
    "thresholds": {
        "opacity": {"threshold": 0.25, "sensitivity": 1.0, "specificity": 1.0}
    },
}
SETS: Any = {
    "chest": {
        "options": {"image_size": 96, "bit_depth": 16},
        "pixel_mean": 0.4,
        "pixel_std": 0.2,
    }
}


def make(folder: pathlib.Path, kind: str, **options: Any) -> pathlib.Path:
    """Writes a run's folder; `options` are of backbone, input and task."""
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, **options.pop("backbone", {}))
    config.input.update(options.pop("input", {}))
    config.datasets.chest = schema.dataset("phantom_xray")
    if kind in HEADS:
        options[kind] = HEADS[kind]
    config.tasks.task = schema.task(
        kind="classification" if kind == "backbone" else kind,
        dataset="chest",
        target="finding",
        **{"image_size": 64, **options},
    )
    stage: dict[str, Any] = {"stage": "finetune", "finetune": {"task": "task"}}
    if kind == "backbone":
        pool = {"datasets": {"chest": 1.0}, "image_size": 64}
        stage = {"stage": "contrastive", "contrastive": pool}
    config.runs.run = schema.run(**stage)
    parsed = schema.parse(config)
    row = parsed.runs["run"]
    tasks = workshop.build_tasks(parsed, {"chest": NAMES})
    built = stages.build(parsed, row, tasks)
    state = built.init(jax.random.key(0), stages.shape_batches(parsed, row))
    tree = jax.tree.map(np.asarray, built.hand_over(state))
    task = "" if kind == "backbone" else "task"
    described = description.make(
        parsed,
        "run",
        SETS,
        class_names={task: OF_KIND[kind]} if task else {},
        decisions={task: DECISIONS} if kind == "classification" else {},
        parent=None,
        pools=[],
        steps=0,
    )
    checkpoint.save_backbone(folder / "backbone", tree, described.to_json())
    golden.write_all(folder / "backbone", tree, described)
    return folder


@pytest.fixture(scope="session")
def make_model() -> Callable[..., pathlib.Path]:
    """Writes a folder by `make`."""
    return make


@pytest.fixture(scope="session")
def model_folder(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], pathlib.Path]:
    """The folder of a model of a kind, made once."""
    made: dict[str, pathlib.Path] = {}

    def get(kind: str) -> pathlib.Path:
        if kind not in made:
            made[kind] = make(tmp_path_factory.mktemp(kind) / "run", kind)
        return made[kind]

    return get


@pytest.fixture(scope="session")
def load(model_folder: Callable[[str], pathlib.Path]) -> Callable[[str], model.Model]:
    """The model of a kind, loaded once."""
    loaded: dict[str, model.Model] = {}

    def get(kind: str) -> model.Model:
        if kind not in loaded:
            loaded[kind] = loader.load(model_folder(kind))
        return loaded[kind]

    return get


@pytest.fixture(scope="session")
def chest() -> np.ndarray:
    """A simulated chest that is not square, uint8 [H, W]."""
    shot = simulator.simulate("chest", size=180, seed=3, split_index=0, index=0)
    return np.ascontiguousarray(shot.image[:, 20:140])
