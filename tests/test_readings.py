"""Ages and grades of simulated fingers through all stages, to answers and exports."""

from __future__ import annotations

import csv
import filecmp
import json
import pathlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

import mtpret_jax
from mtpret_jax import config as schema
from mtpret_jax import main
from mtpret_jax.experiment import preparation, workfolder
from mtpret_jax.export import folder as export_folder
from mtpret_jax.training import preemption
from tfds_builders.phantom_xray import simulator

pytestmark = pytest.mark.slow
AGE, GRADE = "bone_age_months", "narrowing"
SIZE = 32  # pixels


def _config() -> schema.ExperimentConfig:
    config: Any = schema.defaults()
    config.backbone.update(name="resnet18", width=8, in_channels=1)
    config.report.update(bootstrap=50, samples=2)
    config.datasets.fingers = schema.dataset(
        "phantom_xray", body="finger", image_size=64, train=24, validation=8, test=16
    )
    shared = dict(dataset="fingers", image_size=SIZE, batch_size=8, flip_at_test=True)
    config.tasks.age = schema.task(
        kind="regression", target=AGE, second_input="sex", **shared
    )
    config.tasks.wear = schema.task(
        kind="ordinal", target=GRADE, class_weights="balanced", mixup=0.2, **shared
    )
    steps = dict(steps=4, log_every=1, checkpoint_every=2, evaluate_every=2)
    config.runs.both = schema.run(
        stage="continual", continual=dict(tasks=("age", "wear"), rounds=1), **steps
    )
    for task in ("age", "wear"):
        for arm, start in (("scratch", ""), ("mtpret", "both")):
            config.runs[f"{arm}_{task}"] = schema.run(
                **dict(stage="finetune", arm=arm, init_from=start),
                **dict(steps, finetune=dict(task=task)),
            )
    return schema.parse(config)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A work folder with everything done."""
    root = tmp_path_factory.mktemp("readings")
    config = _config()
    folders = preparation.prepare(config.datasets, root / "data")
    workfolder.run(config, root / "work", folders)
    return root / "work"


def test_it_runs(done):
    print(sorted(p.name for p in done.iterdir()))
    print(json.loads((done/"report.json").read_text())["values"])
    assert 0
