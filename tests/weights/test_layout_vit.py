"""Names and axes of vision transformers' weights, both ways, and what files tell."""

import dataclasses
import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.models import vit, vit_families
from mtpret_jax.weights import arrays, identify_vit, layout_vit, vit_names

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
_SPEC = importlib.util.spec_from_file_location("drawing", GOLDEN / "drawing.py")
drawing = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(drawing)
NARROW = vit_families.Size(width=24, depth=2, heads=2)
GRID = 3
FAMILY_OF = {  # one for each layout
    "timm": "dinov2_registers",
    "timm_pooled": "mae_finetuned",
    "dinov2": "dinov2_registers",
    "dinov2_hf": "dinov2",
    "dinov2_hf5": "dinov2_registers",
    "eva_timm": "eva_x",
    "eva_timm_apart": "eva_x_normed",
    "eva": "eva_x",
    "eva_packed": "eva_x",
    "eva_apart": "eva_x_normed",
    "dinov3": "dinov3",
    "dinov3_gated": "dinov3_gated",
    "dinov3_hf": "dinov3",
    "dinov3_hf_gated": "dinov3_gated",
    "dinov3_hf5": "dinov3",
    "dinov3_hf5_gated": "dinov3_gated",
    "dinov3_timm": "dinov3_gated",
}


def networks():
    """Names and shapes of whole published networks: layout/family/size."""
    with np.load(GOLDEN / "vit_networks.npz", allow_pickle=False) as file:
        texts = {key: str(file[key]) for key in file.files}
    for key, text in texts.items():
        shapes = {}
        for line in text.splitlines():
            name, sides = line.split(" ")
            shapes[name] = tuple(int(side) for side in sides.split("x"))
        yield key, shapes


NETWORKS = dict(networks())


def expected(body):
    image = jax.ShapeDtypeStruct((1, 112, 112, 1), jnp.float32)
    shapes = jax.eval_shape(body.init, jax.random.key(0), image)
    return {"params": shapes.params, "model_state": shapes.model_state}


def narrow(name, **options):
    """A narrow network of a family: what it expects, and numbers for it."""
    family = vit_families.FAMILIES[name]
    family = dataclasses.replace(family, image_size=GRID * family.patch)
    wanted = expected(vit.ViTBackbone(family, NARROW, **options))
    rng = np.random.default_rng(0)
    tree = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), wanted
    )
    return wanted, tree


def named(layout, name=None):
    """A narrow network's expectation and its arrays under a layout's names."""
    wanted, tree = narrow(name or FAMILY_OF[layout])
    return wanted, layout_vit.from_ours(tree, layout)


def equal(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_families_are_those_of_the_models():
    assert vit_names.FAMILIES.keys() == vit_families.FAMILIES.keys()
    for key, size in vit_families.SIZES.items():
        assert identify_vit.SIZES[size.width, size.depth] == key
    assert FAMILY_OF.keys() == vit_names.LAYOUTS.keys()
    for layout in vit_names.LAYOUTS.values():
        assert set(layout.families) <= vit_names.FAMILIES.keys()


@pytest.mark.parametrize("layout", vit_names.LAYOUTS)
def test_out_and_in_again(layout):
    wanted, tree = narrow(FAMILY_OF[layout])

    out = layout_vit.from_ours(tree, layout)
    found = layout_vit.to_ours(out, wanted, "test").tree
    again = layout_vit.from_ours(found, layout)

    assert layout in layout_vit.read(out, "test").layouts
    equal(again, out)
    if layout != "timm":  # Its class token holds the position too.
        equal(found, tree)


@pytest.mark.parametrize("key", NETWORKS)
def test_whole_networks_are_read_and_told(key):
    """Names and shapes are just those of our networks of that family and size."""
    layout, name, size = key.split("/")
    file = {
        entry: np.broadcast_to(np.float32(0), shape)
        for entry, shape in NETWORKS[key].items()
    }
    found = layout_vit.read(file, key)
    family = vit_families.FAMILIES[name]
    body = vit.ViTBackbone(family, vit_families.SIZES[size])
    ours = {
        re.sub(r"^blocks_", "blocks.", entry): one.shape
        for entry, one in arrays.entries(expected(body)).items()
    }
    told = identify_vit.identify(file, key)

    shapes = {entry: tuple(array.shape) for entry, array in found.arrays.items()}
    assert shapes == ours
    assert layout in told.layouts
    assert name in told.families
    assert (told.size, told.patch) == (size, family.patch)
    assert told.registers == family.registers
    assert told.image_size == (family.image_size if family.learned_positions else 0)
    assert told.published


@pytest.mark.parametrize("key", [key for key in NETWORKS if key.endswith("small")])
def test_whole_networks_are_written_for_a_strict_load(key):
    layout, name, size = key.split("/")
    body = vit.ViTBackbone(vit_families.FAMILIES[name], vit_families.SIZES[size])
    tree = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), expected(body))

    out = layout_vit.from_ours(tree, layout)

    assert {entry: array.shape for entry, array in out.items()} == NETWORKS[key]


def test_networks_that_a_file_cannot_tell_apart_are_listed():
    def told(key):
        shapes = NETWORKS[key]
        file = {k: np.broadcast_to(np.float16(0), v) for k, v in shapes.items()}
        return identify_vit.identify(file, key)

    base = told("dinov2_hf/dinov2/base")
    assert base.published == ("DINOv2", "RAD-DINO")
    assert base.families == ("dinov2",)
    assert told("timm/deit/base").families == ("deit", "mae")
    assert told("timm/deit/small").published == ("DeiT", "Medical MAE")


@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "encoder.", "teacher.backbone.", "model."]
)
@pytest.mark.parametrize("layout", ["timm", "dinov2_hf", "dinov3_hf5"])
def test_prefixes_are_taken_off(layout, prefix):
    wanted, out = named(layout)
    file = {prefix + name: array for name, array in out.items()}
    file["classifier.weight"] = np.zeros((3, 24), np.float32)

    found = layout_vit.to_ours(file, wanted, "test")

    equal(found.tree, layout_vit.to_ours(out, wanted, "test").tree)
    assert found.prefix == prefix
    assert "classifier.weight" in found.left_out


def test_chunks_of_fsdp_are_taken_off():
    wanted, out = named("dinov2")
    file = {re.sub(r"^blocks\.", "blocks.0.", name): x for name, x in out.items()}

    equal(
        layout_vit.to_ours(file, wanted, "").tree,
        layout_vit.to_ours(out, wanted, "").tree,
    )


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("timm", "decoder_blocks.0.attn.qkv.weight"),
        ("timm", "decoder_pos_embed"),
        ("timm", "head.bias"),
        ("dinov2", "mask_token"),
        ("eva", "lm_head.weight"),
        ("eva", "rope.freqs_cos"),
        ("eva", "blocks.1.attn.rope.freqs_sin"),
        ("dinov3", "rope_embed.periods"),
    ],
)
def test_what_is_left_out_is_told(layout, name):
    wanted, out = named(layout)

    found = layout_vit.to_ours(out | {name: np.ones(3, np.float32)}, wanted, "test")

    assert name in found.left_out


def test_masked_biases_of_keys_are_dropped():
    wanted, out = named("dinov3")
    key = "blocks.1.attn.qkv.bias"
    file = dict(out)
    file[key] = file[key].copy()
    file[key][24:48] = 3.0

    with pytest.raises(ValueError, match="bias for keys"):
        layout_vit.to_ours(file, wanted, "test")
    for number in range(2):
        mask = np.ones(72, np.float32)
        mask[24:48] = 0
        file[f"blocks.{number}.attn.qkv.bias_mask"] = mask

    found = layout_vit.to_ours(file, wanted, "test")

    equal(found.tree, layout_vit.to_ours(out, wanted, "test").tree)
    assert f"{key}_mask" in found.left_out


def test_biases_that_a_whole_file_lacks_are_zero():
    wanted, out = named("dinov3_timm", "dinov3")
    file = {key: array for key, array in out.items() if not key.endswith("_bias")}

    tree = layout_vit.to_ours(file, wanted, "test").tree

    assert not tree["params"]["blocks_0"]["attn"]["query"]["bias"].any()


def test_a_patch_embedding_for_one_channel_is_summed():
    _, tree = narrow("deit")
    wanted, _ = narrow("deit", in_channels=1)

    found = layout_vit.to_ours(layout_vit.from_ours(tree, "timm"), wanted, "test")

    kernel = tree["params"]["patch_embed"]["kernel"]
    np.testing.assert_allclose(
        found.tree["params"]["patch_embed"]["kernel"],
        kernel.sum(2, keepdims=True),
        atol=1e-5,
    )
    assert found.stem == "3 channels summed to 1"


def _without(name):
    return lambda file: {key: array for key, array in file.items() if key != name}


def _with(name, array):
    return lambda file: file | {name: array}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("patch_embed.proj.weight"), "no vision transformer"),
        (_without("norm.bias"), r"without \['norm.bias'\]"),
        (_without("blocks.1.norm1.bias"), "blocks 0 and 1 are not alike"),
        (_with("dist_token", np.zeros((1, 1, 24))), "nearest is timm.*dist_token"),
        (_with("pos_embed", np.zeros((1, 11, 24))), "11 positions"),
        (_with("pos_embed", np.zeros((10, 24))), "expected \\(1, tokens, width\\)"),
        (_with("blocks.0.attn.qkv.weight", np.zeros((71, 24))), "3 parts"),
        (_with("blocks.0.attn.qkv.bias", np.zeros(())), "3 parts"),
        (_with("blocks.0.mlp.fc2.weight", np.zeros((24, 95))), "expected \\(24, 96\\)"),
        (_with("patch_embed.proj.weight", np.zeros((24, 768))), "patches' kernel"),
        (_with("m.patch_embed.proj.weight", np.zeros((1, 1))), "2 networks"),
        (lambda file: {}, "no vision transformer"),
        (lambda file: {"conv1.weight": np.zeros(3)}, "no vision transformer"),
        (_with("blocks.3.norm1.bias", np.zeros(24)), "not numbered from 0"),
    ],
)
def test_foreign_and_damaged_files_are_refused_in_one_line(change, message):
    _, out = named("timm", "deit")

    with pytest.raises(ValueError, match=message) as refused:
        identify_vit.identify(change(out), "weights")

    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("weights: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("norm.bias"), "the file lacks .*norm.bias"),
        (_with("cls_token", np.zeros((1, 1, 25), np.float32)), "expected \\(24,\\)"),
        (_with("cls_token", np.full((1, 1, 24), np.nan)), "not finite"),
        (_with("cls_token", np.zeros((1, 1, 24), int)), "expected floating point"),
        (_with("pos_embed", np.zeros((1, 17, 24))), "positions for 64 pixels.*48 pix"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, message):
    wanted, out = named("timm", "deit")

    with pytest.raises(ValueError, match=message):
        layout_vit.to_ours(change(out), wanted, "weights")


def test_a_layout_of_other_families_is_refused():
    _, tree = narrow("dinov3")

    with pytest.raises(ValueError, match="'dinov2_hf' is a layout of "):
        layout_vit.from_ours(tree, "dinov2_hf")
