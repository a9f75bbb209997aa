"""`weights check`: one clear line, whatever the library makes of the file."""

import importlib
from typing import Any

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import main, models
from mtpret_jax.inference import golden, networks, preprocessing
from mtpret_jax.weights import bodies, files, layout_vit, reference, resnet

SHAPES = models.backbone_shapes(schema.BackboneConfig(name="resnet18"))


def drawn(shape: Any) -> np.ndarray:
    rng = np.random.default_rng(int(np.prod(shape)))
    if len(shape) > 1:
        return rng.normal(size=shape, scale=np.prod(shape[:-1]) ** -0.5)
    return rng.uniform(0.5, 1.5, shape)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A ResNet-18 of drawn weights, with a head that is no part of it."""
    import jax

    tree = jax.tree.map(lambda leaf: drawn(leaf.shape).astype(np.float32), SHAPES)
    tensors = resnet.to_torchvision(tree) | {"fc.weight": np.ones((2, 512), np.float32)}
    path = tmp_path_factory.mktemp("file") / "resnet18.safetensors"
    files.write(path, tensors, {})
    return path


def features(tensors: Any, factor: float) -> reference.Reference:
    """The right features, times a factor."""
    network = schema.BackboneConfig(name="resnet18")
    tree = {"backbone": bodies.read(tensors, SHAPES, network, "file").tree}
    built = networks.Network(models.build_backbone(network), None)
    return reference.Reference(
        "torchvision 1.0", lambda x: factor * np.asarray(built(tree, x)["embedding"])
    )


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main.run(["weights", "check", *map(str, arguments)])
    return int(str(ended.value.code))


@pytest.mark.parametrize(("factor", "code"), [(1, 0), (1.01, 1), (float("nan"), 1)])
def test_the_exit_code_says_whether_features_are_the_same(
    file, factor, code, monkeypatch, capsys
):
    loaded = {}

    def load(tensors, options, read, where):
        loaded.update(options, left_out=read.left_out)
        return features(tensors, factor)

    monkeypatch.setattr(reference, "load", load)

    assert run(file) == code
    told = capsys.readouterr()
    line = told.err if code else told.out
    assert line.count("\n") == 1
    assert "those of torchvision 1.0 by" in line
    assert ("the same" in line) is not code
    assert loaded["name"] == "resnet18"
    assert loaded["left_out"] == ("fc.weight",)


def test_a_library_that_is_not_installed_is_told_in_one_line(file, monkeypatch):
    def absent(name, *rest):
        raise ModuleNotFoundError(f"No module named {name!r}")

    tensors = files.read(file).tensors
    read = bodies.read(tensors, SHAPES, schema.BackboneConfig("resnet18"), "file")
    options = {"name": "resnet18", "width": 64, "in_channels": 3}
    monkeypatch.setattr(importlib, "import_module", absent)

    with pytest.raises(ValueError, match="pip install torchvision") as refused:
        reference.load(tensors, options, read, "file")

    assert "\n" not in str(refused.value)


def test_a_family_that_the_file_cannot_tell_is_asked_for(tmp_path, capsys):
    import jax

    network = schema.BackboneConfig(name="vit_tiny", family="deit")
    shapes = models.backbone_shapes(network)
    tree = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    path = tmp_path / "vit.safetensors"
    files.write(path, layout_vit.from_ours(tree, "timm"), {})

    assert run(path) == 1
    assert "fits the families deit, mae; name one: --family" in capsys.readouterr().err
    assert run(path, "--family=eva_x") == 1
    assert "fits the families deit, mae" in capsys.readouterr().err


def test_the_image_is_the_golden_one_at_the_network_s_own_size():
    from mtpret_jax.cli import weights_check

    one = weights_check._image(schema.BackboneConfig("vit_base", family="dinov2"))
    other = weights_check._image(schema.BackboneConfig(name="swin_tiny"))

    assert (one.shape, other.shape) == ((1, 518, 518, 1), (1, 224, 224, 1))
    made = preprocessing.Preparation(224, "stretch", None, 0, 8)
    np.testing.assert_array_equal(other[0], made(golden.chest())[0])
