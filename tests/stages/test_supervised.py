"""Gradient accumulation, anchors, and the order of stage 2, worked out another way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import types


def change_task(config, name, **options):
    task = dataclasses.replace(config.tasks[name], **options)
    return dataclasses.replace(config, tasks={**config.tasks, name: task})


def change_continual(config, **options):
    run = config.runs["continual"]
    settings = dataclasses.replace(run.continual, **options)
    run = dataclasses.replace(run, continual=settings)
    return dataclasses.replace(config, runs={**config.runs, "continual": run})


def start(case):
    init = jax.jit(lambda key: case.stage.init(key, case.shapes))
    return init(jax.random.key(0))


@pytest.mark.slow
def test_accumulated_gradients_are_the_mean_over_the_parts(make_case):
    whole = make_case("scratch_missing_tooth")
    parts = make_case(
        "scratch_missing_tooth",
        lambda config: change_task(config, "missing_tooth", microbatches=2),
    )
    (batch,) = whole.batches.values()
    state = start(whole)
    gradients = jax.jit(lambda s, b: whole.stage.learner.gradients(s, b))

    found, _, scalars = jax.jit(lambda s, b: parts.stage.learner.gradients(s, b))(
        state, batch
    )

    # A part takes every second row, and starts from the statistics before the step.
    halves = [
        types.Batch({k: v[i::2] for k, v in batch.arrays.items()}, batch.task)
        for i in range(2)
    ]
    one, two = (gradients(state, half) for half in halves)
    expected = jax.tree.map(lambda a, b: (a + b) / 2, one[0], two[0])
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    mean = (one[2]["loss"] + two[2]["loss"]) / 2
    np.testing.assert_allclose(scalars["loss"], mean, rtol=1e-5)


def test_anchors_add_the_gradient_of_their_penalty(make_case):
    case = make_case(
        "continual",
        lambda config: change_continual(
            config, anchor_previous=0.3, anchor_pretrained=0.2, head_decay=0.1
        ),
    )
    rng = np.random.default_rng(0)

    def draw(tree):
        return jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), tree
        )

    shapes = jax.eval_shape(
        lambda key: case.stage.init(key, case.shapes), jax.random.key(0)
    )
    state = draw(shapes)
    task = "mandible"
    part = {"backbone": state.params["backbone"], "head": state.params["heads"][task]}

    def penalty(part):
        kernels = zip(
            jax.tree.leaves(part["backbone"]),
            jax.tree.leaves(state.memory.previous),
            jax.tree.leaves(state.memory.pretrained),
            strict=True,
        )
        total = 0.0
        for now, previous, pretrained in kernels:
            if now.ndim > 1:  # Neither BatchNorm nor biases.
                total += 0.15 * jnp.sum((now - previous) ** 2)
                total += 0.10 * jnp.sum((now - pretrained) ** 2)
        for now in jax.tree.leaves(part["head"]):
            if now.ndim > 1:
                total += 0.05 * jnp.sum(now**2)
        return total

    zeros = jax.tree.map(jnp.zeros_like, part)

    found, _ = case.stage._anchored(state, task, zeros)

    expected = jax.grad(penalty)(part)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_without_anchors_gradients_are_left_alone(make_case):
    case = make_case(
        "continual",
        lambda config: change_continual(
            config, anchor_previous=0.0, anchor_pretrained=0.0
        ),
    )

    assert not case.stage.anchored
    grads = {"backbone": {}, "head": {}}
    assert case.stage._anchored(None, "mandible", grads) == (grads, {})


def test_rounds_are_reshuffled_and_hold_every_task_once(make_case):
    case = make_case("continual", lambda config: change_continual(config, rounds=20))

    order = [segment.task for segment in case.stage.segments()]

    rounds = [tuple(order[i : i + 3]) for i in range(0, 60, 3)]
    assert all(set(found) == set(case.batches) for found in rounds)
    assert len(set(rounds)) > 1
    assert order == [segment.task for segment in case.stage.segments()]


def test_a_fixed_order_when_not_reshuffled(make_case):
    case = make_case("continual", lambda c: change_continual(c, reshuffle=False))

    order = [segment.task for segment in case.stage.segments()]

    assert order == list(case.config.runs["continual"].continual.tasks) * 2


@pytest.mark.slow
def test_a_segment_remembers_its_start_and_restarts_the_optimiser(make_case):
    case = make_case("continual")
    state = jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype), start(case))

    found = jax.jit(lambda state: case.stage.begin(state, "mandible"))(state)

    for now, then in zip(
        jax.tree.leaves(found.memory.previous),
        jax.tree.leaves(state.params["backbone"]),
        strict=True,
    ):
        np.testing.assert_array_equal(now, then)
    # Step 1 is past the stage's start: the pretrained anchor stays.
    for now, then in zip(
        jax.tree.leaves(found.memory.pretrained),
        jax.tree.leaves(state.memory.pretrained),
        strict=True,
    ):
        np.testing.assert_array_equal(now, then)
    for part in (found.opt_state["backbone"], found.opt_state["heads"]["mandible"]):
        assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(part))
    resting = jax.tree.leaves(found.opt_state["heads"]["opacity"])
    assert all((np.asarray(leaf) == 1).all() for leaf in resting)
