"""Tests of anchors and of the level of a region."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import regions


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_cell_anchors_are_torchvisions():
    """Size 32, ratios 0.5, 1, 2: 45.25 x 22.63, 32 x 32, 22.63 x 45.25, rounded."""
    (anchor,) = regions.anchors([(1, 1)], strides=(4,), sizes=(32,), ratios=(0.5, 1, 2))

    np.testing.assert_array_equal(
        anchor, [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    )
    assert anchor.dtype == np.float32


def test_anchors_go_by_rows_then_columns_then_ratios():
    fine, coarse = regions.anchors(
        [(2, 3), (1, 2)], strides=(8, 16), sizes=(4, 8), ratios=(1, 4)
    )

    assert fine.shape == (12, 4)
    centre = (fine[:, :2] + fine[:, 2:]) / 2
    np.testing.assert_array_equal(
        centre[::2], [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
    )
    np.testing.assert_array_equal(coarse[2], [12, -4, 20, 4])


def test_anchors_refuse_a_missing_size():
    with pytest.raises(ValueError, match="2 levels, 2 strides and 1 sizes"):
        regions.anchors([(1, 1), (1, 1)], strides=(4, 8), sizes=(8,), ratios=(1,))


@pytest.mark.parametrize("finest", [32.0, 8.0])
def test_level_rule_scales_with_the_anchors(finest):
    """With anchors from 32: below 112 is P2, then P3, P4 from 224, P5 from 448."""
    side = jnp.array([20.0, 111.0, 112.0, 223.0, 224.0, 447.0, 448.0, 4000.0])
    side = side * (finest / 32)
    zero = jnp.zeros_like(side)

    level = regions.assign_levels(
        jnp.stack([zero, zero, side, side], axis=-1),
        level_count=4,
        finest_anchor=finest,
    )

    np.testing.assert_array_equal(level, [0, 0, 1, 1, 2, 2, 3, 3])
