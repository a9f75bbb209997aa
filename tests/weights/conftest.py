"""Networks of every kind with random weights, and work folders that hold them."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.experiment import assembly, workshop
from mtpret_jax.training import checkpoint

NAMES = {
    "label_names": {"finding": ["a", "b", "c"]},
    "mask_names": ["background", "a", "b"],
    "object_names": ["a", "b"],
}
SMALL_HEADS = {
    "segmentation": {"channels": 8, "auxiliary_weight": 0.5},
    "detection": {"channels": 8, "hidden": 16},
}


def small_head(kind: str, task: dict[str, Any]) -> dict[str, Any]:
    """Options of a task whose head is narrow, where `task` does not say else."""
    if kind not in SMALL_HEADS:
        return task
    return {**task, kind: {**SMALL_HEADS[kind], **task.get(kind, {})}}


def make_config(kind: str, backbone: dict[str, Any], **task: Any) -> Any:
    """One task of a kind, and a run `run` that learns it."""
    config: Any = schema.defaults()
    config.backbone.update({"name": "resnet18", "width": 8, **backbone})
    config.datasets.hand = schema.dataset("phantom_xray")
    config.tasks.task = schema.task(
        kind="classification" if kind == "backbone" else kind,
        dataset="hand",
        target="finding",
        image_size=64,
        **task,
    )
    stage: dict[str, Any] = {"stage": "finetune", "finetune": {"task": "task"}}
    if kind == "backbone":
        stage = {"stage": "contrastive", "contrastive": {"datasets": {"hand": 1.0}}}
    config.runs.run = schema.run(**stage)
    return config


def state_shapes(config: schema.ExperimentConfig) -> Any:
    """The state of the config's run, as shapes."""
    tasks = workshop.build_tasks(config, {"hand": NAMES})
    stage = assembly.build_stage(config, config.runs["run"], tasks)
    batches = assembly.shape_batches(config, config.runs["run"])
    return jax.eval_shape(lambda: stage.init(jax.random.key(0), batches))


def split(params: Any, model_state: Any) -> dict[str, Any]:
    """A state's trees as a network: backbone and, if there is one, head."""
    body = {"params": params["backbone"], "model_state": model_state["backbone"]}
    if "task" not in params["heads"]:
        return {"backbone": body}
    head = {"params": params["heads"]["task"]}
    return {
        "backbone": body,
        "head": {**head, "model_state": model_state["heads"]["task"]},
    }


@pytest.fixture
def network_shapes() -> Callable[..., Any]:
    """Makes the shapes of a network from kind, backbone and options of the task."""

    def make(kind: str, backbone: dict[str, Any] | None = None, **task: Any) -> Any:
        shapes = state_shapes(schema.parse(make_config(kind, backbone or {}, **task)))
        return split(shapes.params, shapes.model_state)

    return make


def fill(shapes: Any) -> Any:
    """Random arrays of these shapes."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes
    )


@pytest.fixture
def network(network_shapes: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a narrow network of a kind with random weights."""

    def make(kind: str, backbone: dict[str, Any] | None = None, **task: Any) -> Any:
        return fill(network_shapes(kind, backbone, **small_head(kind, task)))

    return make


@pytest.fixture
def work_folder(tmp_path: pathlib.Path) -> Callable[..., Any]:
    """Makes a work folder whose run `run` has ended, with random weights."""

    def make(
        kind: str, backbone: dict[str, Any] | None = None, **task: Any
    ) -> tuple[pathlib.Path, Any]:
        task = small_head(kind, task)
        config = schema.parse(make_config(kind, backbone or {}, **task))
        shapes = state_shapes(config)
        params, model_state = fill((shapes.params, shapes.model_state))
        tree = {
            part: {"params": params[part], "model_state": model_state[part]}
            for part in ("backbone", "heads")
        }
        names = {
            "classification": NAMES["label_names"]["finding"],
            "segmentation": NAMES["mask_names"],
            "detection": NAMES["object_names"],
        }
        description = {
            "image_size": {"task": 64},
            "class_names": {"task": names[kind]} if kind in names else {},
            "network": {"compute_dtype": "float32"},
            "run": "run",
            "stage": config.runs["run"].stage,
            "mtpret_jax": "0.1.0",
        }
        work = tmp_path / "work"
        work.mkdir()
        (work / "config.json").write_text(json.dumps(schema.as_dict(config)))
        sets = {"hand": {"pixel_mean": 0.25, "pixel_std": 0.5}}
        (work / "datasets.json").write_text(json.dumps(sets))
        checkpoint.save_backbone(work / "runs/run/backbone", tree, description)
        return work, split(params, model_state)

    return make
