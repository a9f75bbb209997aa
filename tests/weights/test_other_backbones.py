"""A backbone that torchvision's layout has no names for is refused in one line."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.experiment import start
from mtpret_jax.exports import torch_layout
from mtpret_jax.weights import files

REFUSAL = (
    "weights of this backbone can't be exchanged with torchvision: of its backbones, "
    "only ResNets are read and written."
)


class Patches:
    """A backbone of tokens: no convolutions, no BatchNorm."""

    channels = (8, 8, 16, 32, 64)
    output_strides = (32,)
    averages_cells = True
    sides = (1, 1)

    def init(self, key: Any, image: Any) -> types.Variables:
        del key, image
        params = {"token": jnp.zeros((1, 8)), "embed": {"kernel": jnp.zeros((64, 8))}}
        return types.Variables(params, {})

    def apply(self, variables: Any, image: Any, **options: Any) -> Any:
        del options
        batch, side, _, _ = image.shape
        stem, *levels = (
            jnp.zeros((batch, side // stride, side // stride, channels))
            for stride, channels in zip((2, 4, 8, 16, 32), self.channels, strict=True)
        )
        pooled = jnp.mean(levels[-1], axis=(1, 2))
        return types.Features(tuple(levels), pooled, stem), variables.model_state


@pytest.fixture(autouse=True)
def patches(monkeypatch):
    row = {"patches": lambda config: Patches()}
    monkeypatch.setattr(models, "BACKBONES", {**models.BACKBONES, **row})


@pytest.mark.parametrize("kind", ["backbone", "classification"])
def test_it_is_not_exported(kind, trained, tmp_path):
    described, task, network = trained(kind, {"name": "patches"})

    with pytest.raises(ValueError) as raised:
        torch_layout.write(network, described, task, tmp_path / "out")

    assert str(raised.value) == "export: no other library has the backbone 'patches'."
    assert not (tmp_path / "out").exists()


def test_a_run_of_it_does_not_start_from_a_file(tmp_path):
    path = tmp_path / "resnet.safetensors"
    files.write(path, {"conv1.weight": np.zeros((8, 3, 7, 7), np.float32)}, {})
    config: Any = schema.defaults()
    config.backbone.name = "patches"
    config.datasets.hand = schema.dataset("phantom_xray")
    config.runs.run = schema.run(
        stage="contrastive",
        init_from=str(path),
        contrastive={"datasets": {"hand": 1.0}, "image_size": 64},
    )

    with pytest.raises(ValueError) as raised:
        start.check(schema.parse(config))

    assert str(raised.value) == f"config.runs.run.init_from ({path}): {REFUSAL}"
