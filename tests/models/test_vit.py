"""The vision transformer as a backbone: features, options, errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.models import attention, positions, vit, vit_families

SMALL = vit_families.Size(width=24, depth=2, heads=2)
PARAMETERS = {  # as counted in timm without a head
    ("deit", "tiny"): 5_524_416,
    ("deit", "small"): 21_665_664,
    ("deit", "base"): 85_798_656,
    ("mae", "large"): 303_301_632,
}


def backbone(name="deit", **options):
    family = vit_families.FAMILIES[name]
    family = dataclasses.replace(family, image_size=4 * family.patch)
    return vit.ViTBackbone(family, SMALL, **options)


def image(rows=3, columns=4, patch=16):
    shape = (4, rows * patch, columns * patch, 1)
    return jax.random.normal(jax.random.key(5), shape)


def bare(body, example):
    """Its parameters, layer scales so large that they matter."""

    def larger(path, leaf):
        return leaf + 0.5 if path[-1].key.startswith("scale") else leaf

    variables = jax.jit(body.init)(jax.random.key(0), example)
    return jax.tree_util.tree_map_with_path(larger, variables)


@pytest.mark.parametrize(("name", "size"), PARAMETERS)
def test_number_of_parameters(name, size):
    body = vit.ViTBackbone(vit_families.FAMILIES[name], vit_families.SIZES[size])
    shapes = jax.eval_shape(
        body.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    )

    assert sum(x.size for x in jax.tree.leaves(shapes)) == PARAMETERS[name, size]
    assert shapes.model_state == {}


@pytest.mark.parametrize("name", vit_families.FAMILIES)
def test_every_family_computes_in_bfloat16(name):
    body = backbone(name, dtype=jnp.bfloat16)
    example = image(patch=body.family.patch)
    variables = bare(body, example)
    exact = dataclasses.replace(body, dtype=jnp.float32)

    rounded, _ = jax.jit(lambda v, x: body.apply(v, x, train=True))(variables, example)
    wanted, _ = jax.jit(lambda v, x: exact.apply(v, x, train=True))(variables, example)

    assert rounded.levels[0].dtype == jnp.bfloat16
    assert rounded.pooled.dtype == jnp.float32
    scale = np.abs(wanted.pooled).max()
    np.testing.assert_allclose(rounded.pooled, wanted.pooled, atol=0.06 * scale)


def test_a_stem_for_one_channel_gives_what_its_sum_gives():
    body = backbone()
    variables = bare(body, image())
    params = dict(variables.params)
    stem = params["patch_embed"]
    params["patch_embed"] = {**stem, "kernel": stem["kernel"].sum(2, keepdims=True)}

    three, _ = body.apply(variables, image(), train=False)
    one, _ = dataclasses.replace(body, in_channels=1).apply(
        dataclasses.replace(variables, params=params), image(), train=False
    )

    np.testing.assert_allclose(one.pooled, three.pooled, atol=1e-4)


def test_a_side_that_patches_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"50 x 48; use a side that 16 divides.* 64"):
        backbone().init(jax.random.key(0), jnp.zeros((1, 50, 48, 1)))


def test_a_block_whose_branches_are_left_out_changes_nothing():
    """In an example of its own: the others keep theirs."""
    body = backbone()
    variables = bare(body, image())

    def level(paths):
        features, _ = body.apply(variables, image(), train=True, paths=paths)
        return features.levels[0]

    whole, first = level(None), level(jnp.zeros((2, 2, 4)))
    dropped = level(jnp.ones((2, 2, 4)).at[:, :, 1].set(0.0))

    np.testing.assert_allclose(dropped[0], whole[0], atol=1e-5)
    np.testing.assert_allclose(dropped[1], first[1], atol=1e-5)
    assert np.abs(dropped[1] - whole[1]).max() > 0.01


def test_weights_of_a_resampled_grid_sum_to_one():
    for antialias in (False, True):
        weights = positions.cubic_weights(37, 16, antialias=antialias)
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)


def test_attention_is_a_softmax_average():
    key = jax.random.key(0)
    query, keys, value = jax.random.normal(key, (3, 2, 5, 3, 8))

    found = attention.attend(query, keys, value)

    scores = jnp.einsum("bqhc,bkhc->bhqk", query, keys) / np.sqrt(8)
    wanted = jnp.einsum("bhqk,bkhc->bqhc", jax.nn.softmax(scores), value)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("count", [4, 5])
def test_a_token_added_for_an_even_number_changes_nothing(count):
    """Nor gradients. What cuDNN runs is run by XLA here."""
    heads = jax.random.normal(jax.random.key(0), (3, 2, count, 3, 8))

    def total(heads, attend):
        return jnp.sin(attend(*heads)).sum()

    found, wanted = (
        jax.value_and_grad(total)(heads, attend)
        for attend in (
            functools.partial(attention.attend_even, implementation="xla"),
            attention.attend,
        )
    )

    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
