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
TASK = detection.DetectionTask(
    "boxes",
    ("light", "dark"),
    SIZE,
    schema.DetectionConfig(
        channels=8,
        anchor_sizes=(8, 16, 32, 64, 128),
        proposals_before_nms=40,
        proposals=30,
        regions=16,
        hidden=16,
        max_boxes=3,
        detections=10,
    ),
)


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


def _slope(params, features, batch):
    def total(params):
        variables = types.Variables(params, {})
        return TASK.loss(jax.random.key(1), variables, features, batch)[0].mean()

    return jax.grad(total)(params)


def _predict(params, features, batch):
    return TASK.predict(types.Variables(params, {}), features)


@functools.cache
def _params():
    return jax.jit(TASK.init)(jax.random.key(0), _features(1)).params


def _on(devices, function, inputs, *, result):
    """The compiled function on a mesh, and its inputs placed there."""
    mesh = sharding.make_mesh(jax.devices()[:devices])
    same, split = sharding.replicated(mesh), sharding.divided(mesh)

    def traced(*inputs):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*inputs)

    step = jax.jit(
        traced,
        in_shardings=(same, split, split),
        out_shardings={"same": same, "split": split}[result],
    )
    return step.lower(*inputs).compile(), inputs


@pytest.mark.parametrize(
    ("function", "result"), [(_slope, "same"), (_predict, "split")]
)
def test_every_image_is_worked_on_where_it_lies(function, result):
    """More devices, as many more images: each computes and sends what it did."""
    programs = {}
    for devices in (1, 4):
        inputs = (_params(), _features(devices * EACH), _truth(devices * EACH))
        compiled, _ = _on(devices, function, inputs, result=result)
        programs[devices] = program.read(compiled)

    operations = [one.operations for one in programs.values()]
    np.testing.assert_allclose(operations, operations[0], rtol=0.02)
    assert not programs[1].collectives
    trained = 4 * sum(leaf.size for leaf in jax.tree.leaves(_params()))
    moved = programs[4].by_kind()
    assert set(moved) <= {"all-reduce"}
    assert moved.get("all-reduce", {"bytes": 0})["bytes"] <= 1.01 * trained
    if result == "split":
        assert not programs[4].collectives


def test_numbers_do_not_depend_on_the_devices():
    inputs = (_params(), _features(4), _truth(4))

    def run(function, devices, result):
        compiled, given = _on(devices, function, inputs, result=result)
        placed = jax.device_put(given, compiled.input_shardings[0])
        return jax.device_get(compiled(*placed))

    for function, result in ((_slope, "same"), (_predict, "split")):
        alone, together = run(function, 1, result), run(function, 4, result)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
            alone,
            together,
        )
