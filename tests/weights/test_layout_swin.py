"""Names and axes of Swin transformers' weights, both ways."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.models import swin, swin_sizes
from mtpret_jax.weights import layout_swin

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
_SPEC = importlib.util.spec_from_file_location("drawing", GOLDEN / "drawing.py")
drawing = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(drawing)
NARROW = swin_sizes.Size(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=3)


def expected(size):
    image = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    shapes = jax.eval_shape(swin.SwinBackbone(size).init, jax.random.key(0), image)
    return {"params": shapes.params, "model_state": {}}


def narrow():
    wanted = expected(NARROW)
    rng = np.random.default_rng(0)
    tree = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), wanted
    )
    return wanted, tree


@pytest.mark.parametrize("name", layout_swin.LAYOUTS)
def test_out_and_in_again(name):
    wanted, tree = narrow()
    file = {f"teacher.{k}": x for k, x in layout_swin.from_ours(tree, name).items()}
    file["teacher.layers.0.blocks.0.attn.relative_position_index"] = np.zeros(9)
    file["teacher.head.weight"] = np.zeros(9)

    found = layout_swin.to_ours(file, wanted, "test")
    told = layout_swin.identify(file, "test")

    jax.tree.map(np.testing.assert_array_equal, found.tree, tree)
    assert len(found.left_out) == 2
    assert told.layout == name
    assert (told.depths, told.heads) == (NARROW.depths, NARROW.heads)
    assert (told.width, told.window, told.in_channels) == (8, 3, 3)


def published(size):
    """Names and shapes of a whole network, as timm saves it."""
    with np.load(GOLDEN / "swin_networks.npz", allow_pickle=False) as file:
        lines = [line.split(" ") for line in str(file[size]).splitlines()]
    return {name: tuple(int(n) for n in sides.split("x")) for name, sides in lines}


def test_a_whole_network_is_written_for_a_strict_load():
    tree = jax.tree.map(
        lambda leaf: np.broadcast_to(np.float32(0), leaf.shape),
        expected(swin_sizes.SIZES["base"]),
    )

    out = layout_swin.from_ours(tree, "timm")

    assert {name: array.shape for name, array in out.items()} == published("base")


@pytest.mark.parametrize("size", ["base", "large"])
def test_whole_networks_are_told(size):
    file = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in published(size).items()
    }

    told = layout_swin.identify(file, size)

    wanted = swin_sizes.SIZES[size]
    assert told.size == size
    assert (told.width, told.depths) == (wanted.width, wanted.depths)
    assert (told.heads, told.window) == (wanted.heads, wanted.window)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: {}, "no Swin transformer"),
        (
            lambda file: file | {f"a.{k}": x for k, x in file.items()},
            "holds 2 networks",
        ),
        (lambda file: file | {"patch_embed.odd": np.zeros(1)}, "patch_embed.odd"),
        (
            lambda file: file | {"layers.0.blocks.0.attn.qkv.bias": np.zeros(23)},
            "expected 3 parts",
        ),
        (
            lambda file: {k: x for k, x in file.items() if "blocks.1" not in k},
            "lacks .*layers.2.blocks.1",
        ),
    ],
)
def test_foreign_and_damaged_files_are_refused(change, message):
    wanted, tree = narrow()
    file = change(layout_swin.from_ours(tree, "timm"))

    with pytest.raises(ValueError, match=message):
        layout_swin.to_ours(file, wanted, "test")


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="no layout of Swin"):
        layout_swin.from_ours(narrow()[1], "other")
