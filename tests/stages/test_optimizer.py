"""LARS and LAMB are Optax's, whatever the curve; the batch's part in the rate."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from mtpret_jax import config as schema
from mtpret_jax import stages
from mtpret_jax.stages import optimizer

SHAPES = {"kernel": (3, 3, 4, 5), "scale": (5,), "bias": (5,), "dense": (5, 2)}
STEPS = 8


def _drawn(seed):
    rng = np.random.default_rng(seed)
    return {
        name: jax.numpy.asarray(rng.normal(size=shape), np.float32)
        for name, shape in SHAPES.items()
    }


def _kernels(params):
    return {name: leaf.ndim > 1 for name, leaf in params.items()}


def _reference(name, curve, decay):
    """Optax's, with the masks that keep biases and BatchNorm out."""
    if name == "lamb":
        return optax.lamb(curve, weight_decay=decay, mask=_kernels)
    return optax.lars(
        curve,
        weight_decay=decay,
        weight_decay_mask=_kernels,
        trust_ratio_mask=_kernels,
        momentum=0.9,
    )


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_parameters_are_those_of_optax_while_the_rate_changes(name, anchored):
    config = schema.OptimizerConfig(
        name=name, learning_rate=0.5, warmup_steps=3, weight_decay=0.05
    )
    # Where stage 2 has anchors, nothing decays.
    ours = optimizer.build_optimizer(config, STEPS, decay=not anchored)
    theirs = _reference(name, ours.learning_rate, 0.0 if anchored else 0.05)
    params: Any = _drawn(0)
    expected: Any = _drawn(0)
    state, other = ours.direction.init(params), theirs.init(expected)

    for step in range(STEPS):
        grads = _drawn(step + 1)
        params, state = ours.update(grads, state, params, ours.learning_rate(step))
        updates, other = theirs.update(grads, other, expected)
        expected = optax.apply_updates(expected, updates)

    for key, leaf in params.items():
        np.testing.assert_allclose(leaf, expected[key], rtol=2e-6, atol=1e-6)
        assert np.abs(leaf - _drawn(0)[key]).max() > 1e-4


def _config(name, batch, *, stage):
    run = schema.RunConfig(
        stage=stage,
        steps=10,
        optimizer=schema.OptimizerConfig(
            name=name, learning_rate=0.1, learning_rate_batch=batch
        ),
        contrastive=schema.ContrastiveConfig({"set": 1.0}, batch_size=512),
        continual=schema.ContinualConfig(tasks=("small", "large")),
        finetune=schema.FinetuneConfig(task="large"),
    )
    tasks = {
        "small": schema.TaskConfig(dataset="set", batch_size=64),
        "large": schema.TaskConfig(
            dataset="set", batch_size=1024, learning_rate_scale=0.5
        ),
    }
    return schema.ExperimentConfig(tasks=tasks, runs={"run": run})


@pytest.mark.parametrize(
    ("name", "stage", "expected"),
    [
        ("sgd", "contrastive", {"contrastive": 2.0}),
        ("lars", "continual", {"small": 0.25, "large": 0.5 * 4.0}),
        ("adamw", "continual", {"small": 0.5, "large": 0.5 * 2.0}),
        ("lamb", "finetune", {"large": 0.5 * 2.0}),
    ],
)
def test_rates_grow_with_the_batch_as_the_optimiser_asks(name, stage, expected):
    config = _config(name, 256, stage=stage)
    unasked = _config(name, 0, stage=stage)

    found = optimizer.rate_scales(config, config.runs["run"])
    plain = optimizer.rate_scales(unasked, unasked.runs["run"])

    assert found == expected
    assert plain == {task: 0.5 if task == "large" else 1.0 for task in expected}


def test_the_whole_curve_of_stage_1_grows():
    config = _config("sgd", 256, stage="contrastive")

    stage = stages.build(config, config.runs["run"], {})

    assert float(stage.optimizer.learning_rate(0)) == pytest.approx(0.2)
