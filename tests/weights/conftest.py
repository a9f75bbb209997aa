"""Networks of every kind with random weights, and work folders that hold them."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import stages
from mtpret_jax.experiment import workshop
from mtpret_jax.inference import description
from mtpret_jax.metrics import regression

NAMES = {
    "label_names": {"finding": ["a", "b", "c"]},
    "values": {"finding": "months"},
    "mask_names": ["background", "a", "b"],
    "object_names": ["a", "b"],
}
SMALL_HEADS = {
    "segmentation": {"channels": 8, "auxiliary_weight": 0.5},
    "detection": {"channels": 8, "hidden": 16},
    "retinanet": {"channels": 8},
}


def small_head(kind: str, task: dict[str, Any]) -> dict[str, Any]:
    """Options of a task whose head is narrow, where `task` does not say else."""
    if kind not in SMALL_HEADS:
        return task
    options = task.get(kind, {})
    return {**task, kind: {**SMALL_HEADS[options.get("head", kind)], **options}}


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
    stage = stages.build(config, config.runs["run"], tasks)
    batches = stages.shape_batches(config, config.runs["run"])
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
def trained() -> Callable[..., Any]:
    """Makes what a run has learnt: description, task, and random weights."""

    def make(
        kind: str,
        backbone: dict[str, Any] | None = None,
        changes: dict[str, Any] | None = None,
        **task: Any,
    ) -> tuple[description.Description, str, Any]:
        config: Any = make_config(kind, backbone or {}, **small_head(kind, task))
        config.update(changes or {})
        parsed = schema.parse(config)
        shapes = state_shapes(parsed)
        names = {
            "classification": NAMES["label_names"]["finding"],
            "ordinal": NAMES["label_names"]["finding"],
            "regression": ["finding"],
            "segmentation": NAMES["mask_names"],
            "detection": NAMES["object_names"],
        }
        named = {"task": names[kind]} if kind in names else {}
        scale = regression.Scale(100.0, 40.0, "months")
        described = description.make(
            parsed,
            "run",
            {"hand": {"pixel_mean": 0.25, "pixel_std": 0.5}},
            class_names=named,
            scales={"task": scale} if kind == "regression" else {},
            decisions={},
            parent=None,
            pools=[],
            steps=0,
        )
        network = split(*fill((shapes.params, shapes.model_state)))
        return described, "".join(named), network

    return make
