"""Levels that a ViT's map becomes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import types
from mtpret_jax.models import pyramid, vit_pyramid


def features(side):
    level = jax.random.normal(jax.random.key(0), (2, side, side, 16))
    return types.Features(levels=(level,), pooled=level.mean((1, 2)), stem=level)


def run(given, **options):
    module = vit_pyramid.ViTPyramid(**options)

    def both(given):
        return module.init_with_output(jax.random.key(1), given)

    return jax.jit(both)(given)


@pytest.mark.parametrize("side", [6, 7])
def test_levels_are_what_a_feature_pyramid_takes(side):
    """Also those of a map of odd size."""
    found, _ = run(features(side), with_stem=True)

    shapes = [level.shape[1:] for level in found.levels]
    assert shapes == [
        (4 * side, 4 * side, 4),
        (2 * side, 2 * side, 8),
        (side, side, 16),
        (-(-side // 2), -(-side // 2), 16),
    ]
    assert found.stem.shape[1:] == (8 * side, 8 * side, 2)
    outputs, _ = jax.eval_shape(
        lambda levels: pyramid.FeaturePyramid(8).init_with_output(
            jax.random.key(0), levels
        ),
        found.levels,
    )
    assert len(outputs) == 5


def test_enlarging_is_a_transposed_convolution():
    given = features(3)
    found, variables = run(given)
    dense = variables["params"]["up_2"]

    kernel = jnp.transpose(dense["kernel"], (1, 2, 0, 3))
    wanted = jax.lax.conv_transpose(
        given.levels[0],
        kernel[::-1, ::-1],
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        transpose_kernel=False,
    )

    np.testing.assert_allclose(found.levels[1], wanted, atol=1e-5)
    assert isinstance(vit_pyramid.ViTPyramid(), nn.Module)


def test_features_that_have_levels_stay_as_they_are():
    level = features(4).levels[0]
    given = types.Features((level, level[:, ::2, ::2]), level.mean((1, 2)), level)

    found, variables = run(given)

    assert not variables
    assert len(found.levels) == 2
