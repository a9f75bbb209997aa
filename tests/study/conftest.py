"""A small study: chests for two tasks, lungs, and bones that are held out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mtpret_jax import config as schema

KINDS = {
    "opacity": ("classification", "chest"),
    "boxes": ("detection", "chest"),
    "lungs": ("segmentation", "lung"),
    "fracture": ("classification", "bone"),
}
FILE = "weights/r18.safetensors"
Study = Callable[..., schema.ExperimentConfig]


def _make(**options: Any) -> schema.ExperimentConfig:
    config: Any = schema.defaults()
    for name in ("chest", "lung", "bone", "teeth"):
        config.datasets[name] = schema.dataset("phantom_xray")
    for name, (kind, dataset) in KINDS.items():
        config.tasks[name] = schema.task(kind=kind, dataset=dataset)
    config.encoders.published = schema.encoder(weights=FILE)
    sets = dict.fromkeys(config.datasets, 1.0)
    given = dict(
        tasks=tuple(KINDS),
        hold_out=("fracture",),
        arms=("scratch", "contrastive", "control", "mtpret"),
        fractions=(0.1, 1.0),
        seeds=(2, 1),
        contrastive=dict(
            stage="contrastive",
            steps=70,
            contrastive=dict(datasets=sets, batch_size=8, queue_size=64),
        ),
        continual=dict(
            stage="continual",
            steps=30,
            optimizer=dict(warmup_steps=12),
            continual=dict(rounds=4, feature_memory=0.5),
        ),
        finetune=dict(steps=100),
        finetune_steps=dict(boxes=200),
        learning_rates=dict(lungs=0.5),
    )
    config.study = schema.study(**(given | options))
    return schema.parse(config)


@pytest.fixture(scope="session")
def study() -> Study:
    """Makes the parsed, not yet expanded config; takes options of the study."""
    return _make
