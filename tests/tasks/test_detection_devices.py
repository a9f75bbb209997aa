"""What detection computes and sends on each of several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.ahead import program
from mtpret_jax.tasks import detection
from mtpret_jax.training import sharding

SIZE, EACH = 64, 2
SMALL = {
    "channels": 8,
    "anchor_sizes": (8, 16, 32, 64, 128),
    "max_boxes": 3,
    "detections": 10,
}
HEADS = {
    "faster_rcnn": {
        "proposals_before_nms": 40,
        "proposals": 30,
        "regions": 16,
        "hidden": 16,
    },
    "retinanet": {"candidates": 40, "score_threshold": 0.0},
}


@functools.cache
def _task(head):
    config = schema.DetectionConfig(head=head, **SMALL, **HEADS[head])
    return detection.DetectionTask("boxes", ("light", "dark"), SIZE, config)


def _features(count):
    levels = tuple(
        jax.random.normal(jax.random.key(s), (count, SIZE // s, SIZE // s, 8))
        for s in (4, 8, 16, 32)
    )
    return types.Features(levels, jnp.zeros((count, 8)), jnp.zeros((count, 32, 32, 8)))


def _truth(count):
    corner = np.random.default_rng(0).uniform(0, 0.6, (count, 3, 2))
    arrays = {
        "box": np.concatenate([corner, corner + 0.3], -1).astype(np.float32),
        "box_class": np.zeros((count, 3), np.int32),
        "box_valid": np.ones((count, 3), bool),
        "example_valid": np.ones(count, bool),
    }
    return types.Batch(arrays, "boxes")


def _work(head, params, features, batch):
    """Slopes of the mean loss, and predictions."""
    task = _task(head)

    def total(params):
        variables = types.Variables(params, {})
        return task.loss(jax.random.key(1), variables, features, batch)[0].mean()

    return jax.grad(total)(params), task.predict(types.Variables(params, {}), features)


@functools.cache
def _params(head):
    return jax.jit(_task(head).init)(jax.random.key(0), _features(1)).params


@functools.cache
def _compiled(head, devices, count):
    """The work on a mesh, and the inputs of so many images."""
    mesh = sharding.make_mesh(jax.devices()[:devices])
    same, split = sharding.replicated(mesh), sharding.divided(mesh)

    def traced(*inputs):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return _work(head, *inputs)

    inputs = (_params(head), _features(count), _truth(count))
    step = jax.jit(
        traced, in_shardings=(same, split, split), out_shardings=(same, split)
    )
    return step.lower(*inputs).compile(), inputs


@pytest.mark.parametrize("head", HEADS)
def test_every_image_is_worked_on_where_it_lies(head):
    """More devices, as many more images: each computes and sends what it did."""
    programs = {
        devices: program.read(_compiled(head, devices, devices * EACH)[0])
        for devices in (1, 4)
    }

    operations = [one.operations for one in programs.values()]
    np.testing.assert_allclose(operations, operations[0], rtol=0.02)
    assert not programs[1].collectives
    trained = 4 * sum(leaf.size for leaf in jax.tree.leaves(_params(head)))
    moved = programs[4].by_kind()
    assert set(moved) == {"all-reduce"}
    assert moved["all-reduce"]["bytes"] <= 1.01 * trained


@pytest.mark.parametrize("head", HEADS)
def test_numbers_do_not_depend_on_the_devices(head):
    found = []
    for devices in (1, 4):
        compiled, given = _compiled(head, devices, 4 * EACH)
        placed = jax.device_put(given, compiled.input_shardings[0])
        found.append(jax.device_get(compiled(*placed)))

    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *found
    )
