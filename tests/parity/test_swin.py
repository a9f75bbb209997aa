"""Parity of the Swin transformer with timm; see test_vit.py."""

import drawing
import jax
import jax.numpy as jnp
import make_swin_goldens as goldens
import numpy as np
import pytest

from mtpret_jax import types
from mtpret_jax.models import swin, swin_sizes
from mtpret_jax.weights import layout_swin

FEATURES = 3e-6
GRADIENTS = 1e-6
NARROW = swin_sizes.Size(goldens.WIDTH, goldens.DEPTHS, goldens.HEADS, goldens.WINDOW)


def network(*, dtype="float32", **options):
    """Our backbone and the reference's weights in it."""
    body = swin.SwinBackbone(NARROW, dtype=jnp.dtype(dtype), **options)
    image = jax.ShapeDtypeStruct((1, 96, 96, 1), jnp.float32)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)
    expected = {"params": shapes.params, "model_state": {}}
    weights = goldens.draw(drawing.load("swin").shapes)
    tree = layout_swin.to_ours(weights, expected, "swin").tree
    tree = jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
    return body, types.Variables(**tree)


@pytest.mark.parametrize("size", goldens.SIZES)
def test_features(size):
    golden = drawing.load("swin")
    body, variables = network()

    features, _ = jax.jit(lambda v, x: body.apply(v, x, train=False))(
        variables, goldens.images(size)
    )

    found = {
        f"{size}/level{number}": drawing.kept(np.asarray(level))
        for number, level in enumerate(features.levels, start=1)
    }
    found[f"{size}/pooled"] = features.pooled
    for key, array in found.items():
        assert drawing.error(array, golden.arrays[key]) <= FEATURES


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("remat", [False, True])
def test_gradients(remat):
    golden = drawing.load("swin")
    body, variables = network(dtype="float64", remat=remat)
    image = goldens.images("other").astype(np.float64)

    def loss(params):
        features, _ = body.apply(types.Variables(params, {}), image, train=True)
        total = 0.0
        for key, found in (("last", features.levels[-1]), ("pooled", features.pooled)):
            target = drawing.uniform(key, found.shape)
            total += jnp.square(found - target).mean() / 2
        return total

    grads = jax.jit(jax.grad(loss))(variables.params)

    found = drawing.digest(layout_swin.from_ours({"params": grads}, "timm"))
    assert drawing.error(found, golden.arrays["train/gradients"]) <= GRADIENTS
