"""Levels that a ViT's map becomes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.models import pyramid, vit_pyramid


def one_map(side):
    return jax.random.normal(jax.random.key(0), (2, side, side, 16))


def run(given, **options):
    module = vit_pyramid.ViTPyramid(**options)

    def both(given):
        return module.init_with_output(jax.random.key(1), given)

    return jax.jit(both)(given)


@pytest.mark.parametrize("side", [6, 7])
def test_levels_are_what_a_feature_pyramid_takes(side):
    """Also those of a map of odd size."""
    (stem, *levels), _ = run(one_map(side), count=5)

    assert [level.shape[1:] for level in levels] == [
        (4 * side, 4 * side, 4),
        (2 * side, 2 * side, 8),
        (side, side, 16),
        (-(-side // 2), -(-side // 2), 16),
    ]
    assert stem.shape[1:] == (8 * side, 8 * side, 2)
    outputs, _ = jax.eval_shape(
        lambda levels: pyramid.FeaturePyramid(8).init_with_output(
            jax.random.key(0), levels
        ),
        levels,
    )
    assert len(outputs) == 5


def test_enlarging_is_a_transposed_convolution():
    given = one_map(3)
    (_, half, *_), variables = run(given)
    dense = variables["params"]["up_2"]

    kernel = jnp.transpose(dense["kernel"], (1, 2, 0, 3))
    wanted = jax.lax.conv_transpose(
        given,
        kernel[::-1, ::-1],
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        transpose_kernel=False,
    )

    np.testing.assert_allclose(half, wanted, atol=1e-5)


@pytest.mark.parametrize(("side", "patch"), [(6, 16), (7, 14)])
def test_strides_are_parts_of_a_patch(side, patch):
    found = pyramid.strides_of([one_map(side)], side * patch)

    assert found == (patch / 4, patch / 2, patch, 2 * patch)
    anchors = pyramid.anchor_strides(side * patch, strides=found)
    assert anchors[:-1] == found
