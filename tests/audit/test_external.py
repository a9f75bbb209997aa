"""A task held out is called external only if pre-training met nothing of its set."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.audit import overlaps
from mtpret_jax.experiment import pool
from mtpret_jax.study import external, plan

Prepare = Callable[..., pathlib.Path]
Say = Callable[..., None]
FINDINGS = {"finding": "chest", "fracture": "bone"}


def _config(*, stage_1: tuple[str, ...] = ("chest",)) -> schema.ExperimentConfig:
    """Task `fracture` of set "bone" is held out; set "also" has no task."""
    config: Any = schema.defaults()
    for name in ("chest", "bone", "also"):
        config.datasets[name] = schema.dataset("phantom_xray")
    for task, dataset in FINDINGS.items():
        config.tasks[task] = schema.task(dataset=dataset)
    stage = dict(
        datasets=dict.fromkeys(stage_1, 1.0), pool="paper", batch_size=8, queue_size=8
    )
    config.study = schema.study(
        tasks=tuple(FINDINGS),
        hold_out=("fracture",),
        arms=("scratch", "mtpret"),
        contrastive=dict(stage="contrastive", contrastive=stage),
    )
    return plan.expand(schema.parse(config))


@pytest.fixture
def folders(
    prepare: Prepare, say: Say, pictures: list[np.ndarray]
) -> dict[str, epath.Path]:
    """Of "bone", "chest" trains on two images and a patient, "also" on one image."""
    p = pictures
    half = cv2.resize(p[1], (128, 128), interpolation=cv2.INTER_AREA)
    rows = {
        "chest": [
            ("exact.png", p[0], "train", "a"),
            ("near.png", half, "train", "b"),
            ("patient.png", p[2], "train", "nih:7"),
            ("tested.png", p[3], "test", "c"),
        ],
        "bone": [
            ("0.png", p[0], "test", "1"),
            ("1.png", p[1], "train", "2"),
            ("2.png", p[4], "val", "nih:7"),
            ("3.png", p[3], "train", "3"),
            ("4.png", p[5], "train", "4"),
            ("5.png", p[6], "train", "5"),
        ],
        "also": [("also.png", p[5], "train", "m")],
    }
    made = {name: prepare(name, entries) for name, entries in rows.items()}
    for folder in made.values():
        say(folder, has_patient_namespace=True)
    return {name: epath.Path(folder) for name, folder in made.items()}


def _audit(folders: dict[str, epath.Path], *names: str) -> overlaps.Findings:
    return overlaps.audit({name: overlaps.Set(folders[name]) for name in names})


def test_planted_copies_and_patients_are_counted_by_set_and_split(
    folders: dict[str, epath.Path],
):
    found = _audit(folders, "chest", "bone", "also")

    with pytest.raises(ValueError) as error:
        external.check(_config(), found)

    said = str(error.value)
    assert "task 'fracture' is not external" in said
    for part in (
        "1 of split 'test' (same pixels) in split 'train' of 'chest'",
        "1 of split 'train' (near copy) in split 'train' of 'chest'",
        "1 of split 'validation' (same patient) in split 'train' of 'chest'",
    ):
        assert said.count(part) == 1
    # Set "also" is not pre-trained on, nor the test split of "chest".
    assert said.count(" of split ") == 3
    assert "data audit" in said


def test_a_set_counts_once_stage_1_reads_it(folders: dict[str, epath.Path]):
    found = _audit(folders, "bone", "also")

    external.check(_config(), found)
    with pytest.raises(ValueError, match=r"1 of split 'train' \(same pixels\).*'also'"):
        external.check(_config(stage_1=("chest", "also")), found)


def test_a_set_that_pre_training_reads_is_named_with_the_run(
    folders: dict[str, epath.Path],
):
    config = _config()
    row = config.runs["mtpret.f100.s0"]
    stage = dataclasses.replace(row.continual, tasks=("finding", "fracture"))
    changed = dataclasses.replace(row, continual=stage)
    config = dataclasses.replace(
        config, runs={**config.runs, "mtpret.f100.s0": changed}
    )

    with pytest.raises(ValueError, match=r"'mtpret.f100.s0' is pre-trained on its set"):
        external.check(config, _audit(folders, "also"))


def test_the_sets_of_stages_1_and_2_are_those_read():
    read = external.pretraining_sets(_config(stage_1=("also",)))

    assert read == {"also": "contrastive.s0", "chest": "mtpret.f100.s0"}


def test_a_study_that_holds_out_is_audited_whatever_its_pool(
    folders: dict[str, epath.Path], tmp_path: pathlib.Path
):
    config = _config()
    unheld = dataclasses.replace(
        config, study=dataclasses.replace(config.study, hold_out=())
    )

    assert pool.find(unheld, epath.Path(tmp_path), folders) is None
    external.check(unheld, None)
    found = pool.find(config, epath.Path(tmp_path), folders)
    with pytest.raises(ValueError, match="not external"):
        external.check(config, found)
    with pytest.raises(ValueError, match="an audit must show"):
        external.check(config, None)
