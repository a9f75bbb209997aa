"""Exports of backbones that are not ResNets: written, read again, refused."""

import functools
import importlib.util
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import main, models
from mtpret_jax.models import convnext, densenet, swin_sizes, vit_families
from mtpret_jax.weights import conversion, layouts, libraries

SCRIPT = pathlib.Path(__file__).parents[1] / "pytorch" / "write_exported.py"
FAMILIES = [
    *[("convnext_atto", "", library, 64) for library in ("timm", "torchvision")],
    *[("densenet121", "", library, 64) for library in ("timm", "torchvision")],
    ("swin_tiny", "", "timm", 224),
    *[("vit_tiny", family, "timm", 112) for family in vit_families.FAMILIES],
    *[("vit_tiny", f, "transformers", 112) for f in libraries.HUGGING_FACE],
]


def options(name, family="", **more):
    return schema.BackboneConfig(name=name, family=family, width=8, **more)


def drawn(network, classes=0):
    """A narrow network with random weights, perhaps with a head of classes."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return rng.normal(size=leaf.shape).astype(np.float32)

    tree = {"backbone": jax.tree.map(draw, models.backbone_shapes(network))}
    if classes:
        width = models.build_backbone(network).channels[-1]
        fc = {
            "kernel": draw(np.zeros((width, classes))),
            "bias": draw(np.zeros(classes)),
        }
        tree["head"] = {"params": {"fc": fc}, "model_state": {}}
    return tree


def equal(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize(("name", "family", "library", "side"), FAMILIES)
def test_a_file_that_was_written_is_read_and_written_as_it_was(
    name, family, library, side
):
    """Names and bits; with a head of classes where the library has one."""
    network = options(name, family)
    theirs = libraries.find(network, side, library)
    kind = "classification" if theirs.head else "backbone"
    tree = drawn(network, 3 if theirs.head else 0)
    network, body = libraries.for_side(network, tree["backbone"], side)
    tree["backbone"] = body

    file, stem = conversion.write(tree, kind, network, theirs)
    found = conversion.read(file, tree, kind, network, "here")
    again, _ = conversion.write(found.tree, kind, network, theirs)

    assert stem == "3 channels, unchanged"
    equal(again, file)
    if (family, library) != ("dinov2_registers", "timm"):  # Its token has its position.
        equal(found.tree, tree)
    assert not [key for key in found.left_out if "mask_token" not in key]


@pytest.mark.parametrize(
    "name", ["convnext_atto", "densenet121", "swin_tiny", "vit_tiny"]
)
def test_a_stem_for_one_channel_is_divided_over_three(name):
    network = options(name, "deit" if name == "vit_tiny" else "", in_channels=1)
    tree = drawn(network)

    file, stem = conversion.write(
        tree, "backbone", network, libraries.find(network, 224)
    )
    found = conversion.read(file, tree, "backbone", network, "here")

    assert stem == "1 channel divided over 3"
    assert found.stem == "3 channels summed to 1"
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(close, found.tree, tree)


@pytest.mark.parametrize(
    ("network", "side", "library", "told"),
    [
        (options("resnet18"), 64, "timm", "is not written as timm has it; expected"),
        (options("swin_tiny"), 224, "torchvision", "expected one of ['timm']"),
        (options("swin_tiny"), 192, "", "Train on images of 224 pixels or more."),
        (options("vit_tiny", "mae"), 64, "transformers", "this one is 'mae'"),
    ],
)
def test_what_a_library_has_not_is_refused_in_one_line(network, side, library, told):
    with pytest.raises(ValueError) as refused:
        libraries.find(network, side, library)

    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_head_of_another_number_of_classes_is_refused():
    network = options("convnext_atto")
    file, _ = conversion.write(
        drawn(network, 4), "classification", network, libraries.find(network, 64)
    )

    with pytest.raises(ValueError, match=r"'head.fc.weight' has shape \(4, 40\), exp"):
        conversion.read(file, drawn(network, 3), "classification", network, "here")
    with pytest.raises(ValueError, match=r"lacks \['head.fc.bias', 'head.fc.weight'\]"):
        conversion.read(
            {key: array for key, array in file.items() if "head.fc" not in key},
            drawn(network, 3),
            "classification",
            network,
            "here",
        )


@pytest.fixture
def shallow(monkeypatch):
    """Networks of few blocks, and the script that makes work folders of them."""
    spec = importlib.util.spec_from_file_location("write_exported", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "write_exported", script)
    spec.loader.exec_module(script)
    for module in (convnext, swin_sizes, vit_families):
        monkeypatch.setattr(module, "SIZES", module.SIZES)  # Put back afterwards.
    script.make_shallow()
    rows = {
        "densenet121": lambda config: densenet.DenseNetBackbone(
            (1, 1, 1, 1), config.width, config.in_channels
        )
    }
    monkeypatch.setattr(models, "BACKBONES", {**models.BACKBONES, **rows})
    return script


def export(script, work, **network):
    """Writes a work folder, exports its run; what `config.json` holds then."""
    row = script.Network(**network)
    script.write_run(work, row)
    out = work / "out"
    options = ["export", f"--workdir={work}", "--run=run", f"--out={out}"]
    with pytest.raises(SystemExit) as stop:
        main.run([*options, *([f"--layout={row.layout}"] if row.layout else [])])
    assert stop.value.code == 0
    return json.loads((out / "config.json").read_text())


NARROW = {"width": 8}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "built"),
    [
        (
            {"backbone": {"name": "convnext_tiny"}, "size": 32},
            {"dims": [12, 24, 48, 96], "conv_mlp": True, "num_classes": 0},
        ),
        (
            {"backbone": {"name": "densenet121"}, "size": 32, "kind": "classification"},
            {"growth_rate": 4, "num_classes": 3},
        ),
        (
            {"backbone": {"name": "swin_tiny"}, "size": 224},
            {"img_size": 224, "embed_dim": 12, "depths": [2, 1, 1, 1]},
        ),
        (
            {
                "backbone": {"name": "vit_tiny", "family": "dinov2_registers"},
                "size": 70,
                "kind": "classification",
            },
            {"model_name": "vit_small_patch14_reg4_dinov2", "img_size": 70},
        ),
    ],
    ids=["convnext", "densenet", "swin", "vit"],
)
def test_a_run_of_every_family_is_exported(network, built, shallow, tmp_path):
    """Read again and compared by the command itself."""
    network["backbone"] |= NARROW

    facts = export(shallow, tmp_path, **network)

    assert facts["library"] == "timm"
    assert facts["timm"]["model_name"].startswith(facts["backbone"].partition("_")[0])
    assert built.items() <= facts["timm"].items()
    assert facts.get("class_names", []) == (
        shallow.CLASSES if "kind" in network else []
    )
    assert "timm.create_model" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_a_head_of_masks_stays_behind_and_is_told(shallow, tmp_path, capsys):
    network = {"name": "vit_tiny", "family": "dinov3", **NARROW}

    facts = export(
        shallow,
        tmp_path,
        backbone=network,
        size=64,
        layout="transformers",
        kind="segmentation",
    )

    assert facts["kind"] == "backbone"
    assert facts["model_type"] == "dinov3_vit"
    assert facts["architectures"] == ["DINOv3ViTModel"]
    assert capsys.readouterr().err.splitlines()[-1] == (
        "Only the backbone is written: with 'vit_tiny', that library has no such head "
        "for segmentation."
    )
    assert "AutoModel" in (tmp_path / "out" / "README.md").read_text()


def test_outputs_have_names_of_their_own_where_they_are_no_classes():
    outputs = {
        kind: row.outputs(["a", "b", "c"]) for kind, row in layouts.LAYOUTS.items()
    }

    assert outputs.pop("ordinal") == ["above a", "above b"]
    assert all(found == ["a", "b", "c"] for found in outputs.values())
