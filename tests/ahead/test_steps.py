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


def step(chips, size=32, **options):
    table: Any = schema.defaults()
    table.backbone.update(name="resnet18", width=8, compute_dtype="bfloat16")
    if options.get("objective") == "mae":
        table.backbone.update(name="vit_tiny", family="mae_finetuned")
    table.datasets.pictures = schema.dataset("phantom_xray")
    table.runs.contrastive = schema.run(
        stage="contrastive",
        contrastive={
            "datasets": {"pictures": 1.0},
            "image_size": size,
            "batch_size": EACH * chips,
            "batch_norm_rows": EACH,
            "queue_size": 512,
            **options,
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


SMALL = {"embedding_size": 32, "hidden_size": 64}
OBJECTIVES = {
    "dino": {
        "dino": {"prototypes": 128, **SMALL},
        "local_views": 2,
        "local_size": 32,
    },
    "mae": {"mae": {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_sends_gradients_and_embeddings_and_no_picture(name):
    devices = topologies.devices("tpu:v5e:2x4")
    case = step(len(devices), size=64, objective=name, **OBJECTIVES[name])

    kinds = fitting.compile_step(estimate.lower(case, devices)).by_kind()

    params = estimate.state_shapes(case).params
    gradient = 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    embeddings = 2 * 8 * EACH * 32 * 2  # of both views, bfloat16
    assert kinds.pop("all-reduce")["bytes"] <= 1.1 * gradient
    gathered = {kind: found["bytes"] for kind, found in kinds.items()}
    assert gathered == ({"all-gather": embeddings} if name == "dino" else {})


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
