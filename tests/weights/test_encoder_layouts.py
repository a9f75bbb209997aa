"""Names, shapes and recognition of ConvNeXt's and DenseNet's weights, in and out."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.models import convnext, densenet
from mtpret_jax.weights import layout_convnext, layout_densenet

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FAMILIES = {"convnext": layout_convnext.FAMILY, "densenet": layout_densenet.FAMILY}
BODIES = {
    "convnext": convnext.ConvNeXtBackbone,
    "densenet": densenet.DenseNetBackbone,
}
SMALL = {"convnext": ((2, 1, 3, 1), 8), "densenet": ((2, 1, 3, 1), 8)}
LAYOUTS = [(kind, name) for kind, family in FAMILIES.items() for name in family.layouts]


def listed(kind):
    """Whole networks of full size: names and shapes, by library and size."""
    with np.load(GOLDEN / f"{kind}_layouts.npz", allow_pickle=False) as file:
        lines = {key: [str(line).split(" ") for line in file[key]] for key in file}
    return {
        key: {name: tuple(int(n) for n in s.split("x") if n) for name, s in rows}
        for key, rows in lines.items()
    }


def zero(shape):
    """A tensor that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


def zeros(shapes):
    return {name: zero(shape) for name, shape in shapes.items()}


def expected(kind, depths, width, channels):
    """The shapes of our network."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    body = BODIES[kind](depths, width, in_channels=channels)
    found = jax.eval_shape(body.init, jax.random.key(0), image)
    return {"params": found.params, "model_state": found.model_state}


def map_shapes(tree, function):
    return jax.tree.map(lambda leaf: function(leaf.shape), tree)


def drawn(kind, name, *, channels=3):
    """Our small network with random numbers, and the same in a library's layout."""
    family, rng = FAMILIES[kind], np.random.default_rng(0)
    wanted = expected(kind, *SMALL[kind], channels)
    tree = map_shapes(wanted, lambda shape: rng.normal(size=shape).astype(np.float32))
    return wanted, tree, family.write(tree, name, channels=channels)[0]


FULL = [(kind, key) for kind in FAMILIES for key in listed(kind)]


@pytest.mark.parametrize(("kind", "key"), FULL)
def test_a_whole_network_is_recognised_and_written_with_the_same_names(kind, key):
    """Of a library's network only the head is left out, and nothing is added."""
    family, (name, size), shapes = FAMILIES[kind], key.split("/"), listed(kind)[key]

    network = family.identify(zeros(shapes), key)
    wanted = expected(kind, network.depths, network.width, 3)
    tensors, _ = family.write(map_shapes(wanted, zero), network.layout, channels=3)

    assert network.layout == {"densenet timm": "torchvision"}.get(
        f"{kind} {name}", name
    )
    assert network.size == size.removeprefix("densenet").replace("narrow", "")
    heads = ("head.fc.", "head.", "classifier.")
    assert all(left.startswith(heads) for left in network.left_out)
    if name == "torchvision_old":  # From before batches were counted.
        tensors = {n: a for n, a in tensors.items() if not n.endswith("tracked")}
    assert {network.prefix + n: array.shape for n, array in tensors.items()} == {
        n: shape for n, shape in shapes.items() if n not in network.left_out
    }


@pytest.mark.parametrize(("kind", "name"), LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_out_and_in_again_changes_nothing(kind, name, channels):
    wanted, tree, tensors = drawn(kind, name, channels=channels)

    converted = FAMILIES[kind].read(tensors, wanted, "start")

    jax.tree.map(np.testing.assert_array_equal, converted.tree, tree)
    assert converted.stem == f"{channels} channels, unchanged"
    assert converted.left_out == ()
    assert FAMILIES[kind].identify(tensors, "start").layout == name


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.encoder_q."])
def test_a_prefix_is_taken_off_and_what_lies_outside_left_out(kind, prefix):
    wanted, tree, tensors = drawn(kind, "torchvision")
    wrapped = {prefix + name: array for name, array in tensors.items()}
    wrapped["queue"] = np.ones(3)

    converted = FAMILIES[kind].read(wrapped, wanted, "start")

    jax.tree.map(np.testing.assert_array_equal, converted.tree, tree)
    assert converted.prefix == prefix
    assert converted.left_out == ("queue",)


@pytest.mark.parametrize("kind", FAMILIES)
def test_two_networks_in_a_file_are_refused(kind):
    wanted, _, tensors = drawn(kind, "torchvision")
    both = {f"{end}.{n}": a for end in ("query", "key") for n, a in tensors.items()}

    with pytest.raises(ValueError, match=r"2 networks, under \['key.', 'query.'\]"):
        FAMILIES[kind].read(both, wanted, "start")


@pytest.mark.parametrize(("kind", "name"), LAYOUTS)
def test_no_tensor_can_be_missing_added_cut_or_infinite(kind, name):
    family = FAMILIES[kind]
    wanted, _, tensors = drawn(kind, name)
    for lost in tensors:
        if not lost.endswith("tracked"):
            with pytest.raises(ValueError, match="start: "):
                family.read(
                    {n: a for n, a in tensors.items() if n != lost}, wanted, "start"
                )
    some = [n for n in tensors if not n.endswith("tracked")][::5]
    for changed in some:
        for array in (tensors[changed][:-1], np.full_like(tensors[changed], np.inf)):
            with pytest.raises(ValueError, match="start: "):
                family.read(tensors | {changed: array}, wanted, "start")
    with pytest.raises(ValueError, match=r"\['other.weight'\] \(1 in all\)"):
        family.read(tensors | {"other.weight": np.ones(2)}, wanted, "start")


def test_another_size_is_told_in_words():
    tensors = zeros(listed("convnext")["timm/tiny"])
    wanted = expected("convnext", *layout_convnext.FAMILY.sizes["small"], 3)

    with pytest.raises(
        ValueError, match="holds ConvNeXt tiny, the config wants ConvNeXt small"
    ):
        layout_convnext.FAMILY.read(tensors, wanted, "start")


def test_version_two_of_convnext_is_named():
    _, _, tensors = drawn("convnext", "timm")
    tensors |= {"stages.0.blocks.0.mlp.grn.weight": np.ones(32, np.float32)}

    with pytest.raises(ValueError, match="is a part of ConvNeXt V2"):
        layout_convnext.FAMILY.identify(tensors, "start")


def test_a_last_norm_that_does_not_repeat_is_refused():
    wanted, _, tensors = drawn("convnext", "dinov3")
    tensors["norms.3.bias"] = tensors["norms.3.bias"] + 1

    with pytest.raises(ValueError, match=r"'norms.3.bias' should repeat 'norm.bias'"):
        layout_convnext.FAMILY.read(tensors, wanted, "start")


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_network_of_another_kind_is_refused(kind):
    other = "densenet" if kind == "convnext" else "convnext"
    wanted, tree, _ = drawn(kind, "torchvision")
    _, _, tensors = drawn(other, "torchvision")

    with pytest.raises(
        ValueError, match=f"start: no {FAMILIES[kind].name} in the layout"
    ):
        FAMILIES[kind].read(tensors, wanted, "start")
    with pytest.raises(ValueError, match=f"is no part of a {FAMILIES[other].name}"):
        FAMILIES[other].write(tree, "torchvision", channels=3)


def test_operating_points_of_torchxrayvision_are_left_out():
    wanted, tree, tensors = drawn("densenet", "torchvision", channels=1)
    tensors |= {"op_threshs": np.ones(18), "classifier.weight": np.ones((18, 3))}

    converted = layout_densenet.FAMILY.read(tensors, wanted, "start")

    jax.tree.map(np.testing.assert_array_equal, converted.tree, tree)
    assert converted.left_out == ("classifier.weight", "op_threshs")


def test_our_sizes_are_among_the_published():
    assert convnext.SIZES.items() <= layout_convnext.FAMILY.sizes.items()
    assert layout_densenet.FAMILY.sizes["121"] == (densenet.DENSENET121, 64)
