"""DeepLabV3: torchvision's parameter counts, dilation in place of stride, odd sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import deeplab

# torchvision's deeplabv3_resnet50 has 42,004,074 with 21 classes and the auxiliary
# head, of which 23,508,032 are the body's and 2,365,205 the auxiliary head's. For
# ResNet-18 the same sums over 512 and 256 channels.
PARAMETERS = {
    ("resnet50", False): 42_004_074 - 23_508_032 - 2_365_205,
    ("resnet50", True): 42_004_074 - 23_508_032,
    ("resnet18", False): 4_727_573,
    ("resnet18", True): 4_727_573 + 148_949,
}


def head(**options) -> deeplab.DeepLabV3:
    options = {
        "classes": 3,
        "channels": 8,
        "rates": (1, 2),
        "dropout": 0.1,
        "auxiliary_weight": 0.0,
        "image_size": 32,
    } | options
    return deeplab.DeepLabV3(**options)


def noise(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def features(*levels: jax.Array) -> types.Features:
    return types.Features(levels, levels[-1].mean((1, 2)), levels[0])


@pytest.mark.parametrize(("name", "auxiliary"), PARAMETERS)
def test_it_has_as_many_parameters_as_torchvisions(name, auxiliary):
    body = models.build_backbone(schema.BackboneConfig(name=name))
    module = head(
        classes=21,
        channels=256,
        rates=(12, 24, 36),
        auxiliary_weight=0.5 if auxiliary else 0.0,
    )

    def init(key, image):
        found, _ = body.apply(body.init(key, image), image, train=False)
        return module.init(key, found, train=False)["params"]

    params = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 64, 64, 1)))

    assert (
        sum(leaf.size for leaf in jax.tree.leaves(params))
        == (PARAMETERS[name, auxiliary])
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_dilated_level_holds_the_strided_one(name):
    """Dilation computes what the stride skips; at the strided places all is as was."""
    body = models.build_backbone(
        schema.BackboneConfig(name=name, width=4, in_channels=1)
    )
    image = noise(1, 64, 96, 1)
    variables = jax.jit(body.init)(jax.random.key(0), image)

    @functools.partial(jax.jit, static_argnums=2)
    def levels(variables, image, stride):
        found, _ = body.apply(variables, image, train=False, output_stride=stride)
        return found.levels

    strided = levels(variables, image, 32)
    for stride in (8, 16):
        dilated = levels(variables, image, stride)
        for number, (one, other) in enumerate(zip(strided, dilated, strict=True)):
            full = 4 * 2**number
            step, side = max(1, full // stride), 64 // min(full, stride)
            assert other.shape[1:3] == (side, side * 3 // 2)
            # Float32 sums of another order, in up to 50 layers.
            np.testing.assert_allclose(
                other[:, ::step, ::step], one, rtol=1e-3, atol=1e-4
            )


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_an_atrous_branch_reads_cells_as_far_off_as_its_rate(rate):
    module = head(rates=(rate,))
    level = jnp.zeros((1, 9, 9, 4)).at[0, 4, 4].set(1.0)
    variables = module.init(jax.random.key(0), features(level), train=False)

    _, seen = module.apply(
        variables, features(level), train=False, capture_intermediates=True
    )

    hidden = np.asarray(seen["intermediates"]["convs_1_0"]["__call__"][0])
    near = (4 - rate, 4, 4 + rate)
    expected = {(y, x) for y in near for x in near}
    found = {(int(y), int(x)) for y, x in np.argwhere(np.abs(hidden[0]).sum(-1) > 0)}
    assert found == expected


@pytest.mark.parametrize(
    ("classes", "height", "width"), [(2, 4, 4), (7, 5, 7), (3, 1, 1)]
)
def test_every_pixel_and_class_gets_a_logit(classes, height, width):
    module = head(classes=classes, image_size=33, auxiliary_weight=0.4)
    found = features(noise(2, height, width, 8), noise(2, height, width, 16))
    variables = module.init(jax.random.key(0), found, train=False)

    results = module.apply(variables, found, train=False)

    assert len(results) == len(module.loss_weights) == 2
    for logits in results:
        assert logits.shape == (2, 33, 33, classes)
        assert logits.dtype == jnp.float32


def test_each_head_reads_its_own_level():
    module = head(auxiliary_weight=0.4)
    found = features(noise(1, 4, 4, 8), noise(1, 4, 4, 16))
    variables = module.init(jax.random.key(0), found, train=False)

    def slopes(result):
        def total(found):
            return module.apply(variables, found, train=False)[result].sum()

        return [bool(np.any(level)) for level in jax.grad(total)(found).levels]

    assert slopes(0) == [False, True]
    assert slopes(1) == [True, False]


def test_both_heads_drop_in_training():
    module = head(auxiliary_weight=0.4, dropout=0.5)
    found = features(noise(2, 4, 4, 8), noise(2, 4, 4, 16))
    variables = module.init(jax.random.key(0), found, train=False)

    def run(seed):
        results, _ = module.apply(
            variables,
            found,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(seed)},
        )
        return results

    for one, other in zip(run(0), run(1), strict=True):
        assert np.abs(one - other).max() > 1e-3
