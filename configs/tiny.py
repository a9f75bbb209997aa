"""Any config shrunk to simulated radiographs and a few steps on a CPU.

Run:     python -m mtpret_jax.main --config=configs/tiny.py:demo --workdir=runs/tiny
         where `demo` is another config file of this folder. Sets of a folder are
         replaced by phantoms, unless the folder is given: `tiny.py:mtpret,FOLDER`
         runs on the releases (or the dummy ones of `tfds_builders.dummy`) in FOLDER.
Expect:  the report of the same stages, tasks and arms, with figures that mean nothing.
"""

import importlib.util
import pathlib
from typing import Any

from ml_collections import ConfigDict

from mtpret_jax import config as schema

SIZE = 64  # pixels
BATCH = 8
# Configs that take the folder of their sets.
OF_A_FOLDER = (
    "cephalometry",
    "detection",
    "detectors",
    "mini",
    "mtpret",
    "readings",
    "segmentation",
    "study_full",
    "study_mini",
)
# Phantoms that have what the tasks of a set need; all have a finding.
BODIES = {
    "classification": "hand",
    "segmentation": "head",
    "detection": "chest",
    "regression": "finger",
    "ordinal": "finger",
    "landmarks": "head",
}
TARGETS = {"regression": "bone_age_months", "ordinal": "narrowing"}


def get_config(arg: str = "demo") -> ConfigDict:
    """The config of `configs/<name>.py`, shrunk; `arg` is "name" or "name,folder"."""
    name, _, folder = arg.partition(",")
    path = pathlib.Path(__file__).with_name(f"{name}.py")
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob("*.py") if p.stem != "tiny")
        raise ValueError(f"configs/tiny.py: no config '{name}'. Known: {known}.")
    spec = importlib.util.spec_from_file_location(f"tiny_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be imported.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    needs_folder = name in OF_A_FOLDER
    config = module.get_config(folder or ("unused" if needs_folder else ""))
    config.backbone.update(name="resnet10", width=8)
    config.report.bootstrap = 50
    if folder:
        for row in config.datasets.values():
            row.options.image_size = SIZE
    else:
        _use_phantoms(config)
    for row in config.tasks.values():
        _shrink_task(row)
    _shrink_study(config.study)
    for row in config.runs.values():
        _shrink_run(row)
    return config


def _use_phantoms(config: ConfigDict) -> None:
    bodies: dict[str, str] = {}
    for kind, body in BODIES.items():
        sets = [row.dataset for row in config.tasks.values() if row.kind == kind]
        bodies.update(dict.fromkeys(sets, body))
    for number, dataset in enumerate(config.datasets):
        config.datasets[dataset] = schema.dataset(
            "phantom_xray",
            body=bodies.get(dataset, "chest"),
            image_size=SIZE,
            train=24,
            validation=10,
            test=12,
            seed=number,  # No image twice, or no task would be external.
        )
    for row in config.tasks.values():
        row.target = TARGETS.get(row.kind, "finding")


def _shrink_task(row: Any) -> None:
    row.update(image_size=SIZE, batch_size=BATCH)
    if row.segmentation.head == "unetplusplus":
        row.segmentation.node_channels = (8, 8, 8, 8)
    else:
        row.segmentation.update(output_stride=16, channels=8)
    row.detection.update(channels=8, max_boxes=4, detections=8)
    if row.detection.head == "retinanet":
        row.detection.candidates = 32
    else:
        row.detection.update(
            proposals_before_nms=32, proposals=16, regions=8, hidden=16
        )
    if row.kind == "landmarks":
        row.landmarks.channels = 8


def _shrink_study(study: Any) -> None:
    for row in (study.contrastive, study.continual, study.finetune):
        _shrink_run(row)
    for task in study.finetune_steps:
        study.finetune_steps[task] = study.finetune.steps
    study.single_queue_size = min(study.single_queue_size, BATCH)
    study.unetplusplus.node_channels = (8, 8, 8, 8)


def _shrink_run(row: Any) -> None:
    row.update(steps=4, log_every=1, checkpoint_every=2, evaluate_every=0)
    row.optimizer.warmup_steps = min(row.optimizer.warmup_steps, 1)
    row.contrastive.update(
        image_size=SIZE,
        batch_size=BATCH,
        queue_size=2 * BATCH,
        embedding_size=16,
        batch_norm_rows=BATCH // 2,
    )
    row.continual.rounds = min(row.continual.rounds, 2)
    row.finetune.batch_norm_batches = min(row.finetune.batch_norm_batches, 2)
