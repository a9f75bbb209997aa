"""Files of every family of backbones, read as a run reads them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.weights import (
    conversion,
    layout_convnext,
    layout_densenet,
    layout_swin,
    layout_vit,
    resnet,
)

WRITERS = {
    "resnet18": resnet.to_torchvision,
    "densenet121": lambda tree: layout_densenet.FAMILY.write(
        tree, "torchvision", channels=3
    )[0],
    "convnext_atto": lambda tree: layout_convnext.FAMILY.write(
        tree, "timm", channels=3
    )[0],
    "swin_tiny": lambda tree: layout_swin.from_ours(tree, "timm"),
    "vit_tiny": lambda tree: layout_vit.from_ours(tree, "timm"),
}


def drawn(name):
    """A narrow backbone, as arrays drawn without its initialisers."""
    body = models.build_backbone(
        schema.BackboneConfig(name=name, width=8, in_channels=3)
    )
    made = jax.eval_shape(body.init, jax.random.key(0), jnp.zeros((1, 64, 64, 1)))
    generator = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32),
        {"params": made.params, "model_state": made.model_state},
    )


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_each_family_starts_a_run(name):
    tree = drawn(name)
    tensors = {f"encoder.{key}": value for key, value in WRITERS[name](tree).items()}

    found = conversion.read(tensors, {"backbone": tree}, "backbone", name, "here")

    assert found.prefix == "encoder."
    jax.tree.map(np.testing.assert_array_equal, found.tree["backbone"], tree)


def test_every_backbone_has_a_reader():
    tree = drawn("resnet18")

    for name in models.BACKBONES:
        with pytest.raises(ValueError, match=r"^here: "):
            conversion.read(
                {"nothing": np.zeros(1)}, {"backbone": tree}, "backbone", name, "here"
            )


def test_heads_of_files_are_those_of_resnets():
    with pytest.raises(ValueError, match=r"finetune\.head='new'"):
        conversion.read({}, {}, "detection", "vit_tiny", "here")
