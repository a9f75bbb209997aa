"""Steps compiled for chips that are not here: do they fit, are they data-parallel."""

import importlib.util
import math
from typing import Any

import jax
import pytest

from mtpret_jax import config as schema
from mtpret_jax.ahead import fitting, topologies
from mtpret_jax.experiment import estimate

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs the compiler of TPUs, the extra `tpu`: make tpu-test",
)
EACH = 8  # pairs of a chip, and rows of a group


def step(chips):
    table: Any = schema.defaults()
    table.backbone.update(name="resnet18", width=8, compute_dtype="bfloat16")
    table.datasets.pictures = schema.dataset("phantom_xray")
    table.runs.contrastive = schema.run(
        stage="contrastive",
        contrastive={
            "datasets": {"pictures": 1.0},
            "image_size": 32,
            "batch_size": EACH * chips,
            "batch_norm_rows": EACH,
            "queue_size": 512,
        },
    )
    (found,) = estimate.steps(schema.parse(table), {})
    return found


def test_stage_1_computes_and_sends_on_eight_chips_what_it_should():
    one, eight = (
        fitting.compile_step(estimate.lower(step(len(devices)), devices))
        for devices in map(topologies.devices, ("tpu:v5e:1", "tpu:v5e:2x4"))
    )

    assert eight.devices == 8
    assert eight.operations == pytest.approx(one.operations, rel=0.02)
    assert not one.collectives
    # Gradients, of kernels in bfloat16, beside them statistics; and keys in bfloat16.
    params = estimate.state_shapes(step(8)).params
    gradient = 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    kinds = eight.by_kind()
    assert set(kinds) == {"all-reduce", "all-gather"}
    assert gradient / 2 <= kinds["all-reduce"]["bytes"] <= 1.1 * gradient
    assert kinds["all-gather"]["bytes"] == 8 * EACH * 128 * 2
    assert eight.cycles > 0
    assert eight.bytes < topologies.MEMORY["v5e"] * 2**30


def detection(chips):
    table: Any = schema.defaults()
    table.backbone.update(name="resnet18", width=8, compute_dtype="bfloat16")
    table.datasets.pictures = schema.dataset("phantom_xray")
    table.tasks.find = schema.task(
        kind="detection",
        dataset="pictures",
        image_size=64,
        batch_size=EACH * chips,
        detection=dict(head="retinanet", channels=16),
    )
    table.runs.find = schema.run(finetune=dict(task="find"))
    (found,) = estimate.steps(schema.parse(table), {})
    return found


def test_detection_in_one_stage_sends_gradients_alone():
    devices = topologies.devices("tpu:v5e:2x4")

    found = fitting.compile_step(estimate.lower(detection(len(devices)), devices))

    params = estimate.state_shapes(detection(8)).params
    gradient = 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert set(found.by_kind()) == {"all-reduce"}
    assert found.by_kind()["all-reduce"]["bytes"] <= 1.1 * gradient
