"""ConvNeXt and DenseNet: sizes, dilation, heads, branches left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import types
from mtpret_jax.models import (
    convnext,
    deeplab,
    densenet,
    pyramid,
    stochastic_depth,
    unetplusplus,
)

# Parameters of the body for three channels: timm's and torchvision's counts without
# the last dense layer.
PARAMETERS = {
    "convnext_atto": 3_374_520,
    "convnext_tiny": 27_820_128,
    "convnext_small": 49_454_688,
    "convnext_base": 87_566_464,
    "densenet121": 6_953_856,
}


def backbone(name, **options):
    if name.startswith("densenet"):
        return densenet.DenseNetBackbone(**options)
    depths, width = convnext.SIZES[name.removeprefix("convnext_")]
    return convnext.ConvNeXtBackbone(**{"depths": depths, "width": width, **options})


def narrow(name, **options):
    return backbone(name, **{"depths": (1, 1, 2, 1), "width": 8, **options})


def shape(size=64, batch=2):
    return jax.ShapeDtypeStruct((batch, size, size, 1), jnp.float32)


def features_shape(body, size=64, **options):
    """The features' shapes, from shapes alone."""

    def run(key, image):
        return body.apply(body.init(key, image), image, train=False, **options)[0]

    return jax.eval_shape(run, jax.random.key(0), shape(size))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_backbone_has_as_many_parameters_as_the_published(name):
    variables = jax.eval_shape(backbone(name).init, jax.random.key(0), shape())

    leaves = jax.tree.leaves(variables.params)
    assert sum(leaf.size for leaf in leaves) == PARAMETERS[name]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", ["convnext_atto", "densenet121"])
def test_channels_and_strides_are_those_of_the_features(name):
    body = narrow(name)
    for stride in body.output_strides:
        features = features_shape(body, output_stride=stride)

        maps = (features.stem, *features.levels)
        assert tuple(level.shape[-1] for level in maps) == body.channels
        strides = [64 // level.shape[1] for level in features.levels]
        assert strides == [min(s, stride) for s in (4, 8, 16, 32)]
        assert features.pooled.shape == (2, body.channels[-1])


def test_a_stride_that_dilation_cannot_give_is_refused():
    with pytest.raises(ValueError, match="not 4"):
        features_shape(narrow("convnext_atto"), output_stride=4)


@pytest.mark.parametrize("name", ["convnext_atto", "densenet121"])
def test_a_small_image_is_refused(name):
    with pytest.raises(ValueError, match="at least 32 pixels a side"):
        features_shape(narrow(name), size=31)


def test_what_cannot_be_dilated_keeps_its_stride():
    body = narrow("densenet121")

    found = features_shape(body, output_stride=16)

    assert found.levels[-1].shape == features_shape(body).levels[-1].shape


@pytest.mark.parametrize("name", ["convnext_atto", "densenet121"])
@pytest.mark.parametrize("size", [64, 72])
def test_heads_take_the_features(name, size):
    """Every head; the pyramid where each level halves, which 72 pixels do not."""
    body, key = narrow(name), jax.random.key(0)
    features = features_shape(body, size)
    heads = (
        deeplab.DeepLabV3(3, 8, (2,), 0.0, 0.5, size),
        unetplusplus.UNetPlusPlus(3, (8, 8, 8, 8), False, size),
    )
    for head in heads:
        (logits, *_), _ = jax.eval_shape(
            lambda f, head=head: head.init_with_output(key, f, train=False), features
        )
        assert logits.shape == (2, size, size, 3)
    fpn = pyramid.FeaturePyramid(8)
    if size == 64:
        jax.eval_shape(lambda levels: fpn.init(key, levels), features.levels)
    else:
        with pytest.raises(ValueError, match="levels that halve in size"):
            jax.eval_shape(lambda levels: fpn.init(key, levels), features.levels)


def test_draws_keep_the_mean_and_the_first_block():
    drawn = stochastic_depth.draw(jax.random.key(0), 0.4, (5, 2), 4000)
    factors = np.asarray(drawn).reshape(5, -1)

    rates = stochastic_depth.rates(0.4, 5)
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert (factors[0] == 1).all()
    for rate, row in zip(rates[1:], factors[1:], strict=True):
        np.testing.assert_allclose(np.unique(row), [0, 1 / (1 - rate)], rtol=1e-6)
        # Five standard deviations of the mean.
        np.testing.assert_allclose((row == 0).mean(), rate, atol=5 * 0.5 / 8000**0.5)


def test_a_branch_that_is_left_out_leaves_the_input():
    """With all but the first branch out, other weights of theirs change nothing."""
    body = narrow("convnext_atto", depths=(2, 1, 1, 1))
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 1)), "float32")
    variables = jax.jit(body.init)(jax.random.key(0), image)
    params = dict(variables.params)
    params["stages_0_1"] = jax.tree.map(jnp.ones_like, params["stages_0_1"])
    paths = jnp.ones((5, 1, 2)).at[1].set(0.0)

    @jax.jit
    def stage(params):
        features, _ = body.apply(
            types.Variables(params, {}), image, train=True, paths=paths
        )
        return features.levels[0]

    np.testing.assert_array_equal(stage(variables.params), stage(params))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "densenet121"])
def test_bfloat16_computes_near_float32(name):
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 1)), "float32")
    full, half = narrow(name), narrow(name, dtype=jnp.dtype("bfloat16"))
    variables = jax.jit(full.init)(jax.random.key(0), image)

    expected, _ = jax.jit(lambda v: full.apply(v, image, train=False))(variables)
    found, _ = jax.jit(lambda v: half.apply(v, image, train=False))(variables)

    assert all(level.dtype == jnp.bfloat16 for level in (found.stem, *found.levels))
    assert found.pooled.dtype == jnp.float32
    # Eight bits of mantissa.
    np.testing.assert_allclose(found.pooled, expected.pooled, rtol=0.1, atol=0.05)
