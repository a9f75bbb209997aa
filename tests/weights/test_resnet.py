"""Names, shapes and stems of weights of torchvision, in and out."""

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.weights import resnet

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
_SPEC = importlib.util.spec_from_file_location("drawing", GOLDEN / "drawing.py")
drawing = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(drawing)
NETWORKS = ("resnet18", "resnet50")


def backbone(**options):
    return models.build_backbone(schema.BackboneConfig(**options))


def expected(body):
    """Shapes that a backbone wants."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)
    return {"params": shapes.params, "model_state": shapes.model_state}


@functools.cache
def reference(name):
    """torchvision's shapes, and weights of these shapes."""
    shapes = drawing.load(name).shapes
    return shapes, drawing.draw(shapes)


def small(name="resnet18", **options):
    """Random weights of a narrow network, in our layout and in torchvision's."""
    body = backbone(name=name, width=8, **options)
    rng = np.random.default_rng(0)
    tree = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), expected(body)
    )
    return body, tree, resnet.to_torchvision(tree)


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_out_are_torchvisions(name):
    shapes, weights = reference(name)
    tree = resnet.from_torchvision(weights, expected(backbone(name=name)), "").tree

    out = resnet.to_torchvision(tree)

    assert {key: array.shape for key, array in out.items()} == shapes
    for key, array in out.items():
        np.testing.assert_array_equal(array, weights[key])
        assert array.flags.c_contiguous


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_out_and_in_again_changes_nothing(name, channels):
    body, tree, weights = small(name, in_channels=channels)

    converted = resnet.from_torchvision(weights, expected(body), "start")

    jax.tree.map(np.testing.assert_array_equal, converted.tree, tree)
    assert converted.stem == f"{channels} channels, unchanged"
    assert converted.left_out == ()


def test_the_classifier_and_counters_are_left_out():
    body, tree, weights = small()
    weights |= {
        "fc.weight": np.ones((5, 64)),
        "fc.bias": np.ones(5),
        "bn1.num_batches_tracked": np.asarray(3),
        "layer1.0.bn1.num_batches_tracked": np.asarray(3),
    }

    converted = resnet.from_torchvision(weights, expected(body), "start")

    jax.tree.map(np.testing.assert_array_equal, converted.tree, tree)
    assert converted.left_out == ("fc.bias", "fc.weight")


def test_a_prefix_is_taken_off_and_what_lies_outside_left_out():
    body, tree, weights = small()
    wrapped = {f"module.encoder.{key}": array for key, array in weights.items()}
    wrapped["module.projector.weight"] = np.ones((2, 2))

    converted = resnet.from_torchvision(wrapped, expected(body), "start")

    jax.tree.map(np.testing.assert_array_equal, converted.tree, tree)
    assert converted.left_out == ("module.projector.weight",)

    both = {f"{end}.{k}": v for end in ("query", "key") for k, v in weights.items()}
    with pytest.raises(ValueError, match=r"2 networks, under \['key.', 'query.'\]"):
        resnet.from_torchvision(both, expected(body), "start")


def features_of(body, converted):
    image = np.random.default_rng(1).normal(size=(2, 32, 32, 1)).astype(np.float32)
    features, _ = jax.jit(lambda v, x: body.apply(v, x, train=False))(
        types.Variables(**converted.tree), image
    )
    return np.asarray(features.levels[0])


@pytest.mark.parametrize(
    ("channels", "wanted", "said"),
    [(3, 1, "3 channels summed to 1"), (1, 3, "1 channel divided over 3")],
)
def test_a_stem_for_other_channels_gives_the_same_features(channels, wanted, said):
    body, _, weights = small(in_channels=channels)
    weights |= {  # A variance is not negative.
        key: np.abs(array) for key, array in weights.items() if "running_var" in key
    }
    other = backbone(name="resnet18", width=8, in_channels=wanted)
    same = resnet.from_torchvision(weights, expected(body), "start")

    changed = resnet.from_torchvision(weights, expected(other), "start")

    assert changed.stem == said
    found, level = features_of(other, changed), features_of(body, same)
    # Sums of three float32 products against one: last bits, spread by five layers.
    np.testing.assert_allclose(found, level, rtol=0, atol=1e-5 * np.abs(level).max())


def test_a_stem_for_neither_one_nor_the_wanted_channels_is_refused():
    body, _, weights = small(in_channels=3)
    weights["conv1.weight"] = np.zeros((8, 4, 7, 7), np.float32)

    with pytest.raises(ValueError, match=r"stem has 4 channels.*to 4 or 1"):
        resnet.from_torchvision(weights, expected(body), "start")


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_other_precisions_become_float32(dtype):
    body, _, weights = small()
    rounded = {key: array.astype(dtype) for key, array in weights.items()}

    tree = resnet.from_torchvision(rounded, expected(body), "start").tree

    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(
        tree["params"]["bn1"]["scale"], rounded["bn1.weight"].astype(np.float32)
    )


def refused(weights, body):
    with pytest.raises(ValueError) as raised:
        resnet.from_torchvision(weights, expected(body), "start")
    return str(raised.value)


def test_another_depth_or_width_is_told_from_the_wanted_one():
    _, _, weights = small("resnet50")
    found = refused(weights, backbone(name="resnet18", width=8))
    assert found.startswith("start: the file lacks [")
    assert "in all) that this network does not know" in found
    assert found.endswith(
        "The file holds ResNet-50 of width 8, the config wants ResNet-18 of width 8. "
        "Change config.backbone, or start from other weights."
    )

    found = refused(small()[2], backbone(name="resnet18", width=16))
    assert "has shape (8,), expected (16,)" in found
    assert "ResNet-18 of width 8, the config wants ResNet-18 of width 16" in found


def test_names_are_reported_on_both_sides():
    body, _, weights = small()
    weights["layer1.0.se.fc1.weight"] = np.ones(3)
    del weights["layer4.1.bn2.bias"]

    found = refused(weights, body)

    assert found.startswith(
        "start: the file lacks ['layer4.1.bn2.bias'] (1 in all) and has "
        "['layer1.0.se.fc1.weight'] (1 in all) that this network does not know. "
    )


def test_a_file_of_something_else_is_named_by_what_it_begins_with():
    found = refused({"patch_embed.proj.weight": np.ones(3)}, backbone(name="resnet18"))

    assert found == (
        "start: no ResNet in torchvision's or timm's layout: no 'conv1.weight', "
        "'layer1.0.conv1.weight', 'layer4.0.conv1.weight' among the 1 tensors of the "
        "file, which begin with ['patch_embed.proj.weight']."
    )


def test_numbers_that_no_network_can_use_are_refused():
    body, _, weights = small()
    broken = weights | {"bn1.weight": np.full(8, np.nan)}
    assert "'bn1.weight' holds numbers that are not finite" in refused(broken, body)
    broken = weights | {"bn1.weight": np.full(8, 1e300)}
    assert "not finite in float32" in refused(broken, body)
    broken = weights | {"bn1.weight": np.ones(8, np.int8)}
    assert "'bn1.weight' holds int8" in refused(broken, body)
