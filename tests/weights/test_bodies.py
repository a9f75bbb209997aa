"""Files of every family of backbones, read as a run reads them."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import main, models
from mtpret_jax.weights import bodies, conversion, files, layout_vit, resnet, vit_names

# Names of tensors that the file of each has.
LAYOUTS = {
    "resnet18": "torchvision",
    "densenet121": "torchvision",
    "convnext_atto": "timm",
    "swin_tiny": "timm",
    "vit_tiny": "timm",
}


def written(name, tree):
    if name == "resnet18":
        return resnet.to_torchvision(tree)
    return bodies.write(tree, options(name), LAYOUTS[name])[0]


def options(name, *, width=8, family=""):
    family = family or ("mae" if name.startswith("vit_") else "")
    return schema.BackboneConfig(name=name, width=width, in_channels=3, family=family)


def drawn(name, **changes):
    """A narrow backbone, as arrays drawn without its initialisers."""
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32),
        models.backbone_shapes(options(name, **changes)),
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_each_family_starts_a_run(name):
    tree = drawn(name)
    tensors = {f"encoder.{key}": value for key, value in written(name, tree).items()}

    found = conversion.read(
        tensors, {"backbone": tree}, "backbone", options(name), "here"
    )

    assert found.prefix == "encoder."
    jax.tree.map(np.testing.assert_array_equal, found.tree["backbone"], tree)


def test_every_backbone_has_a_reader():
    tree = drawn("resnet18")

    for name in models.BACKBONES:
        with pytest.raises(ValueError, match=r"^here: "):
            conversion.read(
                {"nothing": np.zeros(1)},
                {"backbone": tree},
                "backbone",
                options(name),
                "here",
            )


def test_heads_of_files_are_those_of_resnets():
    with pytest.raises(ValueError, match=r"finetune\.head='new'"):
        conversion.read({}, {}, "detection", options("vit_tiny"), "here")


@pytest.mark.parametrize(
    ("family", "given", "told"),
    [
        ("deit", "", "deit or mae, and the config names none"),
        ("dinov3", "", "dinov3, and the config names none"),
        ("mae_finetuned", "mae", "mae_finetuned, and the config names 'mae'"),
        ("dinov2", "dinov2_registers", "dinov2, and the config names"),
    ],
)
def test_another_family_is_refused_and_none_is_guessed(family, given, told):
    tree = drawn("vit_tiny", family=family)
    layout = next(
        name for name, row in vit_names.LAYOUTS.items() if family in row.families
    )
    network = dataclasses.replace(options("vit_tiny"), family=given)

    with pytest.raises(ValueError, match=told):
        conversion.read(
            layout_vit.from_ours(tree, layout),
            {"backbone": tree},
            "backbone",
            network,
            "here",
        )


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_is_identified_as_what_it_holds(name, tmp_path, capsys):
    tensors = written(name, drawn(name, width=64))
    tensors["fc.weight" if name == "resnet18" else "classifier.weight"] = np.ones(2)
    if name in ("convnext_atto", "swin_tiny", "vit_tiny"):
        tensors["head.fc.weight"] = tensors.pop("classifier.weight")
    path = tmp_path / "model.safetensors"
    files.write(path, tensors, {})

    with pytest.raises(SystemExit) as stop:
        main.run(["weights", "identify", str(path)])

    told = capsys.readouterr()
    assert stop.value.code == 0, told.err
    assert f"config.backbone.update(name='{name}', " in told.out
    assert "left out: " in told.out
    # Where a file cannot tell, all that fit are listed.
    assert ("\nor ViT tiny" in told.out) == (name == "vit_tiny")
    assert ("as DeiT" in told.out) == (name == "vit_tiny")


@pytest.mark.parametrize(
    ("beside", "family", "pixels"),
    [
        ({"config.json": {"model_type": "vit_mae"}}, "mae", ""),
        (
            {
                "config.json": {
                    "architecture": "vit_tiny_patch16_224",
                    "pretrained_cfg": {
                        "tag": "augreg_in21k",
                        "mean": [0.5],
                        "std": [0.25],
                    },
                }
            },
            "deit",
            "{'mean': (0.5,), 'deviation': (0.25,)}",
        ),
        (
            {
                "config.json": {"model_type": "vit"},
                "preprocessor_config.json": {
                    "image_mean": [0.4, 0.5, 0.6],
                    "image_std": [0.2, 0.2, 0.3],
                },
            },
            "deit",
            "{'mean': (0.4, 0.5, 0.6), 'deviation': (0.2, 0.2, 0.3)}",
        ),
        (
            {"config.json": {"mtpret_jax": {"network": {"family": "mae"}}}},
            "mae",
            "",
        ),
        ({"config.json": [1]}, "", "config.json was not read: it holds no table."),
        ({"config.json": {"model_type": ["vit"]}}, "", ""),
    ],
    ids=["transformers", "timm", "processor", "export", "damaged", "odd"],
)
def test_the_json_beside_a_file_tells_what_it_cannot(
    beside, family, pixels, tmp_path, capsys
):
    path = tmp_path / "model.safetensors"
    files.write(path, written("vit_tiny", drawn("vit_tiny", width=64)), {})
    for name, table in beside.items():
        (tmp_path / name).write_text(json.dumps(table))

    with pytest.raises(SystemExit):
        main.run(["weights", "identify", str(path)])

    told = capsys.readouterr().out
    found = re.findall(r"family='(\w+)'", told)
    assert found == ([family] if family else ["deit", "mae"])
    assert pixels in told


@pytest.mark.parametrize(
    "tensors",
    [
        {"features.0.0.weight": np.ones((32, 3, 3, 3))},
        {"encoder.layer.0.attention.self.query.weight": np.ones((8, 8))},
        {"conv1.weight": np.ones((64, 3, 7, 7))},
        {"patch_embed.proj.weight": np.ones((192, 3, 16, 16))},
        {"blocks.0.norm1.weight": np.ones(192)},
    ],
    ids=["mobilenet", "bert", "a stem", "patches", "a norm"],
)
def test_a_foreign_file_is_refused_in_one_line(tensors, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    files.write(path, tensors, {})

    with pytest.raises(SystemExit) as stop:
        main.run(["weights", "identify", str(path)])

    told = capsys.readouterr()
    assert stop.value.code == 1
    assert str(path) in told.err
    assert len(told.err.splitlines()) == 1
    assert not told.out
