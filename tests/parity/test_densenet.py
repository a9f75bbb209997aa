"""Parity of DenseNet with torchvision, in eval and in train mode; see test_resnet."""

import re

import drawing
import jax
import jax.numpy as jnp
import make_densenet_goldens as goldens
import numpy as np
import phantoms
import pytest

from mtpret_jax import types
from mtpret_jax.models import densenet
from mtpret_jax.weights import layout_densenet

SLACK = 10
EXACT = 2e-7


def network(*, channels=3, dtype="float32", tensors=None, **options):
    """Our backbone and torchvision's drawn weights in it."""
    body = densenet.DenseNetBackbone(
        goldens.DEPTHS,
        goldens.WIDTH,
        in_channels=channels,
        dtype=jnp.dtype(dtype),
        **options,
    )
    tensors = tensors or drawing.draw(drawing.load("densenet").shapes)
    image = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)
    expected = {"params": shapes.params, "model_state": shapes.model_state}
    tree = layout_densenet.FAMILY.read(tensors, expected, "golden").tree
    tree = jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
    return body, types.Variables(**tree)


def require_parity(found, limit=None):
    golden = drawing.load("densenet")
    for key, array in found.items():
        most = limit or SLACK * golden.rounding[key]
        assert drawing.error(array, golden.arrays[key]) <= most, key


def evaluated(body, variables, size):
    features, _ = jax.jit(lambda v, x: body.apply(v, x, train=False))(
        variables, phantoms.images(2, size)
    )
    levels = (features.stem, *features.levels)
    found = {
        f"eval/{size}/level{number}": goldens.kept(np.asarray(level))
        for number, level in enumerate(levels)
    }
    return found | {f"eval/{size}/pooled": np.asarray(features.pooled)}


@pytest.mark.parametrize("size", goldens.SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_in_eval_mode(size, channels):
    require_parity(evaluated(*network(channels=channels), size))


def test_features_of_an_old_file():
    tensors = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): array
        for name, array in drawing.draw(drawing.load("densenet").shapes).items()
    }

    require_parity(evaluated(*network(tensors=tensors), goldens.SIZES[0]))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("remat", [False, True])
def test_gradients_and_statistics_in_train_mode(remat):
    body, variables = network(dtype="float64", remat=remat)
    image = phantoms.images(goldens.BATCH, goldens.SIZES[0], "training")
    target = goldens.target(body.channels[-1])

    @jax.jit
    def step(variables, image):
        def loss(params):
            features, state = body.apply(
                types.Variables(params, variables.model_state), image, train=True
            )
            value = jnp.square(features.pooled - target).mean() / 2
            return value, (features.pooled, state)

        return jax.grad(loss, has_aux=True)(variables.params)

    grads, (pooled, state) = step(variables, image.astype(np.float64))

    found = {
        "train/pooled": np.asarray(pooled),
        "train/gradients": digest(grads, like=variables.model_state, only="params"),
        "train/statistics": digest(variables.params, like=state, only="model_state"),
    }
    require_parity(found, EXACT)


def digest(params, *, like, only):
    """Of the gradients, or of the statistics, by torchvision's names."""
    tree = {"params": params, "model_state": like}
    tensors, _ = layout_densenet.FAMILY.write(tree, "torchvision", channels=3)
    statistics = drawing.statistics(tensors)
    if only == "model_state":
        return drawing.digest(statistics)
    gradients = {
        name: array
        for name, array in tensors.items()
        if name not in statistics and not name.endswith("num_batches_tracked")
    }
    return drawing.digest(gradients)
