"""The Swin transformer as a backbone: levels, small maps, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.models import swin, swin_sizes

NARROW = swin_sizes.Size(width=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4), window=4)
PARAMETERS = {"tiny": 27_519_354, "base": 86_743_224}  # as counted in timm


@pytest.mark.parametrize("size", PARAMETERS)
def test_number_of_parameters(size):
    body = swin.SwinBackbone(swin_sizes.SIZES[size])
    image = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)

    assert sum(x.size for x in jax.tree.leaves(shapes)) == PARAMETERS[size]


def test_levels_have_the_strides_of_a_pyramid_where_maps_are_smaller_than_windows():
    body = swin.SwinBackbone(NARROW)
    image = jax.random.normal(jax.random.key(0), (2, 52, 52, 1))
    variables = jax.jit(body.init)(jax.random.key(0), image)

    paths = jnp.ones((*body.branches, 2))
    features, state = body.apply(variables, image, train=True, paths=paths)

    assert [level.shape[1] for level in features.levels] == [13, 7, 4, 2]
    assert [level.shape[-1] for level in features.levels] == [8, 16, 32, 64]
    assert features.pooled.dtype == jnp.float32
    assert np.isfinite(features.pooled).all()
    assert state == {}


def test_what_cannot_be_done_is_refused():
    body = swin.SwinBackbone(NARROW)
    image = jnp.zeros((1, 32, 32, 1))
    variables = body.init(jax.random.key(0), image)

    with pytest.raises(ValueError, match="a side that 4 divides"):
        body.apply(variables, jnp.zeros((1, 33, 32, 1)), train=False)
