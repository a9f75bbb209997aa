"""Stages of the tiny demo config, and batches for them that need no disk."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import stages, types
from mtpret_jax.experiment import workshop
from mtpret_jax.stages import contrastive

REPOSITORY = pathlib.Path(__file__).parents[2]
NAMES = {
    "head": {
        "label_names": {"finding": ["complete", "missing_tooth"]},
        "mask_names": ["background", "mandible"],
        "landmark_names": ["menton", "left_angle", "right_angle"],
    },
    "chest": {"object_names": ["opacity"]},
    "finger": {
        "label_names": {"narrowing": ["0", "1", "2", "3", "4"]},
        "values": {"bone_age_months": "months"},
    },
}
# One run of each stage, and with what its task has that the demo's has not.
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "contrastive": ("contrastive", {}),
    "continual": ("continual", {}),
    "finetune": ("scratch_missing_tooth", {"mixup": 0.4, "label_smoothing": 0.1}),
    "regression": (
        "scratch_missing_tooth",
        {
            "kind": "regression",
            "dataset": "finger",
            "target": "bone_age_months",
            "second_input": "sex",
        },
    ),
    "ordinal": (
        "scratch_missing_tooth",
        {"kind": "ordinal", "dataset": "finger", "target": "narrowing", "mixup": 0.4},
    ),
    "auxiliary": (
        "scratch_mandible",
        {"segmentation": schema.SegmentationConfig(channels=8, auxiliary_weight=0.4)},
    ),
    "unetplusplus": (
        "scratch_mandible",
        {
            "segmentation": schema.SegmentationConfig(
                head="unetplusplus", node_channels=(8, 8, 8, 8), deep_supervision=True
            )
        },
    ),
    "landmarks": (
        "scratch_mandible",
        {"kind": "landmarks", "landmarks": schema.LandmarksConfig(channels=8)},
    ),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A stage and a host batch of each of its tasks."""

    config: schema.ExperimentConfig
    stage: types.Stage
    shapes: Mapping[str, types.Batch]
    batches: Mapping[str, types.Batch]


def load_config(name: str) -> schema.ExperimentConfig:
    """The tiny form of a config."""
    spec = importlib.util.spec_from_file_location(
        "tiny", REPOSITORY / "configs" / "tiny.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return schema.parse(module.get_config(name))


def random_batch(kind: str, size: int, rows: int, seed: int = 0) -> dict:
    """Arrays of a batch of noise, as `types` describes them."""
    rng = np.random.default_rng(seed)

    def image() -> np.ndarray:
        return rng.normal(size=(rows, size, size, 1)).astype(np.float32)

    arrays = {
        "record": np.arange(rows, dtype=np.int32),
        "example_valid": np.ones(rows, bool),
    }
    if kind == "contrastive":
        arrays["partner"] = rng.permutation(rows).astype(np.int32)
        arrays["query_owner"] = arrays["record"]
        arrays["positive_owner"] = np.argsort(arrays["partner"]).astype(np.int32)
        return arrays | {"query": image(), "positive": image()}
    arrays["image"] = image()
    if kind in ("classification", "ordinal"):
        classes = {"classification": 2, "ordinal": 5}[kind]
        label = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, rows)]
        return arrays | {"label": label, "label_known": np.ones((rows, classes), bool)}
    if kind == "regression":
        value = rng.normal(size=rows).astype(np.float32)
        second = rng.integers(-1, 2, rows).astype(np.int32)
        return arrays | {"value": value, "second": second}
    if kind == "segmentation":
        mask = rng.integers(0, 2, (rows, size, size)).astype(np.int32)
        known = rng.random((rows, size, size)) < 0.9
        return arrays | {"segmentation": mask, "pixel_known": known}
    if kind == "landmarks":
        point = rng.uniform(size=(rows, 3, 2)).astype(np.float32)
        return arrays | {"landmark": point, "landmark_known": point[..., 0] < 0.8}
    corner = rng.uniform(0.0, 0.5, (rows, 4, 2))
    box = np.concatenate([corner, corner + rng.uniform(0.2, 0.5, (rows, 4, 2))], -1)
    valid = np.arange(4)[None] < rng.integers(0, 4, rows)[:, None]
    return arrays | {
        "box": (box * valid[..., None]).astype(np.float32),
        "box_class": np.zeros((rows, 4), np.int32),
        "box_valid": valid,
    }


def build(config: schema.ExperimentConfig, run: str) -> Case:
    """The stage of a run of a tiny config, with noise to train on."""
    row = config.runs[run]
    tasks = workshop.build_tasks(config, NAMES)
    if row.stage == "contrastive":
        settings = row.contrastive
        arrays = random_batch("contrastive", settings.image_size, settings.batch_size)
        batches = {contrastive.TASK: types.Batch(arrays, contrastive.TASK)}
    else:
        batches = {}
        for name in row.tasks:
            task = config.tasks[name]
            arrays = random_batch(task.kind, task.image_size, task.batch_size)
            batches[name] = types.Batch(arrays, name)
    return Case(
        config=config,
        stage=stages.build(config, row, tasks),
        shapes=stages.shape_batches(config, row),
        batches=batches,
    )


@pytest.fixture(scope="session")
def demo() -> schema.ExperimentConfig:
    """The tiny demo config."""
    return load_config("demo")


@pytest.fixture(scope="session")
def make_case(demo: schema.ExperimentConfig) -> Callable[..., Case]:
    """Builds a case; `change` may replace parts of the config."""

    def make(run: str, change: Callable = lambda config: config) -> Case:
        return build(change(demo), run)

    return make


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, make_case: Callable[..., Case]) -> Case:
    """A case of each stage and of each head for masks."""
    run, options = CASES[request.param]
    return make_case(run, lambda config: _with_task(config, run, options))


def _with_task(
    config: schema.ExperimentConfig, run: str, options: Mapping[str, Any]
) -> schema.ExperimentConfig:
    """The config with other options of the tasks of a run."""
    changed = {
        name: dataclasses.replace(config.tasks[name], **options)
        for name in config.runs[run].tasks
    }
    return dataclasses.replace(config, tasks={**config.tasks, **changed})


def as_device(batch: types.Batch) -> types.Batch:
    """The batch as unsharded device arrays."""
    arrays = {name: jnp.asarray(array) for name, array in batch.arrays.items()}
    return types.Batch(arrays, batch.task)
