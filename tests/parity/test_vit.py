"""Parity of the vision transformers with timm and transformers.

Features are compared in float32, gradients in float64 (`float64` in conftest.py), where
only the rounding of stored numbers and ours to float32 is left.
"""

import dataclasses

import drawing
import jax
import jax.numpy as jnp
import make_vit_goldens as goldens
import numpy as np
import pytest

from mtpret_jax import types
from mtpret_jax.models import positions, vit, vit_families
from mtpret_jax.weights import layout_vit

FEATURES = 3e-6  # with 1e-5 for 1e-6 added to variances it would be 5e-6
GRADIENTS = 1e-6
# timm's class token holds its position where there are registers: another parameter.
TRAINED = [name for name in goldens.CASES if name != "vit_dinov2_registers_timm"]
NARROW = vit_families.Size(goldens.WIDTH, goldens.DEPTH, goldens.HEADS)


def network(name, *, dtype="float32", **options):
    """Our backbone and the reference's weights in it."""
    case = goldens.CASES[name]
    family = dataclasses.replace(
        vit_families.FAMILIES[case.family], image_size=case.patch * goldens.GRID
    )
    if case.layout.startswith("timm"):  # Its rule for all families.
        family = dataclasses.replace(family, antialias=True)
    body = vit.ViTBackbone(family, NARROW, dtype=jnp.dtype(dtype), **options)
    image = jax.ShapeDtypeStruct(goldens.images(case.patch, (4, 4)).shape, jnp.float32)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)
    expected = {"params": shapes.params, "model_state": {}}
    weights = goldens.draw(drawing.load(name).shapes)
    tree = layout_vit.to_ours(weights, expected, name).tree
    tree = jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
    return body, types.Variables(**tree)


@pytest.mark.parametrize("name", goldens.CASES)
@pytest.mark.parametrize("size", ["own", "other"])
def test_features(name, size):
    golden = drawing.load(name)
    body, variables = network(name)
    grid = (goldens.GRID,) * 2 if size == "own" else goldens.OTHER_GRID
    image = goldens.images(goldens.CASES[name].patch, grid)

    features, _ = jax.jit(lambda v, x: body.apply(v, x, train=False))(variables, image)

    (cells,) = features.levels
    found = {f"{size}/cells": cells, f"{size}/pooled": features.pooled}
    for key, array in found.items():
        assert drawing.error(array, golden.arrays[key]) <= FEATURES


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "remat"), [(name, False) for name in TRAINED] + [("vit_eva_x", True)]
)
def test_gradients(name, remat):
    """Of all weights, at the size for which positions are resampled."""
    golden = drawing.load(name)
    case = goldens.CASES[name]
    body, variables = network(name, dtype="float64", remat=remat)
    image = goldens.images(case.patch, goldens.OTHER_GRID).astype(np.float64)

    def loss(params):
        features, _ = body.apply(types.Variables(params, {}), image, train=True)
        total = 0.0
        for key, found in (("cells", features.levels[0]), ("pooled", features.pooled)):
            target = drawing.uniform(key, found.shape)
            total += jnp.square(found - target).mean() / 2
        return total

    grads = jax.jit(jax.grad(loss))(variables.params)

    named = layout_vit.from_ours({"params": grads}, case.layout)
    found = goldens.digest(
        {key: array for key, array in named.items() if not key.endswith("mask_token")}
    )
    assert drawing.error(found, golden.arrays["train/gradients"]) <= GRADIENTS


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("grid", goldens.RESAMPLED)
def test_learned_positions_are_resampled_as_pytorch_does(grid, antialias):
    golden = drawing.load("positions")
    table = drawing.uniform("positions", golden.shapes["positions"])
    key = f"{'antialias' if antialias else 'plain'}/{grid[0]}x{grid[1]}"

    found = positions.resample(jnp.asarray(table), grid, antialias=antialias)

    assert drawing.error(found, golden.arrays[key]) <= FEATURES
