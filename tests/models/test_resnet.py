"""Residual networks, BatchNorm in groups: sizes and hand-worked numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import heads, normalisation

# Parameters of the body at width 64 and three channels: torchvision's counts without
# the last dense layer (11,689,512 - 513,000 and 25,557,032 - 2,049,000).
RESNETS = ("resnet10", "resnet18", "resnet50")
# Those of torchvision and timm 1.0.31 (`num_classes=0`).
PARAMETERS = {
    "resnet10": 4_905_792,  # of ResNet(BasicBlock, [1, 1, 1, 1])
    "resnet18": 11_176_512,
    "resnet50": 23_508_032,
    "densenet121": 6_953_856,
    "convnext_atto": 3_374_520,
    "convnext_tiny": 27_820_128,
    "convnext_small": 49_454_688,
    "convnext_base": 87_566_464,
    "swin_tiny": 27_519_354,
    "swin_base": 86_743_224,
    "swin_large": 195_198_516,
    "vit_tiny": 5_524_416,
    "vit_small": 21_665_664,
    "vit_base": 85_798_656,
    "vit_large": 303_301_632,
}


def backbone(**options):
    return models.build_backbone(schema.BackboneConfig(**options))


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_every_backbone_has_its_parameters_counted():
    assert set(PARAMETERS) == set(models.BACKBONES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_backbone_has_as_many_parameters_as_the_libraries(name):
    body = backbone(name=name)

    variables = jax.eval_shape(
        body.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 224, 224, 1), jnp.float32),
    )

    assert count(variables.params) == PARAMETERS[name]


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize(("stride", "sides"), [(32, 2), (16, 4), (8, 8)])
def test_dilation_keeps_parameters_and_refines_the_last_level(name, stride, sides):
    body = backbone(name=name, width=8)
    image = jax.ShapeDtypeStruct((2, 64, 64, 1), jnp.float32)
    variables = jax.eval_shape(body.init, jax.random.key(0), image)

    features, _ = jax.eval_shape(
        lambda v, x: body.apply(v, x, train=True, output_stride=stride),
        variables,
        image,
    )

    assert [level.shape[1] for level in features.levels][:2] == [16, 8]
    assert features.levels[-1].shape[1] == sides
    maps = (features.stem, *features.levels)
    assert body.channels == tuple(found.shape[-1] for found in maps)
    assert stride in body.output_strides


def test_a_stride_that_cannot_be_had_is_told():
    body = backbone(name="resnet18", width=8)
    image = jnp.zeros((1, 64, 64, 1))
    variables = body.init(jax.random.key(0), image)

    with pytest.raises(ValueError, match=r"\(32, 16, 8\) pixels, not 4"):
        body.apply(variables, image, train=False, output_stride=4)


def test_unknown_backbone_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'resnet50'"):
        backbone(name="resnet51")


def apply_norm(rows, inputs, *, momentum=0.9):
    module = normalisation.BatchNorm(rows=rows, momentum=momentum)
    variables = module.init(jax.random.key(0), inputs, train=True)
    return module.apply(variables, inputs, train=True, mutable=["batch_stats"])


def test_groups_are_normalised_by_themselves():
    inputs = jnp.asarray(np.random.default_rng(0).normal(3, 2, (8, 3, 3, 2)), "float32")

    outputs, _ = apply_norm(2, inputs)

    for start in range(0, 8, 2):
        part = np.asarray(inputs[start : start + 2])
        expected = (part - part.mean((0, 1, 2))) / np.sqrt(part.var((0, 1, 2)) + 1e-5)
        np.testing.assert_allclose(outputs[start : start + 2], expected, atol=2e-5)


@pytest.mark.parametrize("rows", [0, 2, 4, 8])
def test_running_statistics_are_those_of_the_whole_batch_and_unbiased(rows):
    inputs = np.random.default_rng(0).normal(3, 2, (4, 5)).astype("float32")

    _, updated = apply_norm(rows, jnp.asarray(inputs))

    found = updated["batch_stats"]
    np.testing.assert_allclose(found["mean"], 0.1 * inputs.mean(0), rtol=1e-5)
    expected = 0.9 + 0.1 * inputs.var(0, ddof=1)
    np.testing.assert_allclose(found["var"], expected, rtol=1e-5)


def test_a_batch_that_does_not_divide_into_groups_is_refused():
    with pytest.raises(ValueError, match="does not divide into groups of 3 rows"):
        apply_norm(3, jnp.ones((4, 2)))


@pytest.mark.slow
def test_recomputing_activations_changes_nothing():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 1)), "float32")
    plain = backbone(name="resnet18", width=8)
    remat = dataclasses.replace(plain, remat=True)
    variables = jax.jit(plain.init)(jax.random.key(0), image)

    def loss(params, body):
        features, _ = body.apply(
            types.Variables(params, variables.model_state), image, train=True
        )
        return jnp.sum(jnp.square(features.pooled))

    one = jax.jit(lambda params: jax.grad(loss)(params, plain))(variables.params)
    other = jax.jit(lambda params: jax.grad(loss)(params, remat))(variables.params)

    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_computes_near_float32_and_keeps_float32_parameters():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 1)), "float32")
    full = backbone(name="resnet18", width=8)
    half = backbone(name="resnet18", width=8, compute_dtype="bfloat16")
    variables = jax.jit(full.init)(jax.random.key(0), image)

    expected, _ = full.apply(variables, image, train=False)
    found, _ = half.apply(variables, image, train=False)

    assert found.levels[-1].dtype == jnp.bfloat16
    assert found.pooled.dtype == jnp.float32
    # Eight bits of mantissa, twenty layers.
    np.testing.assert_allclose(found.pooled, expected.pooled, rtol=0.1, atol=0.05)


def test_projection_gives_unit_length():
    module = heads.Projection(16)
    pooled = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8)), "float32")
    variables = module.init(jax.random.key(0), pooled)

    embedding = module.apply(variables, pooled)

    np.testing.assert_allclose(jnp.linalg.norm(embedding, axis=-1), 1.0, rtol=1e-5)
