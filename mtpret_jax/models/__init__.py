"""Images to features and features to maps; knows no labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax.config import rules
from mtpret_jax.models import resnet


def _resnet(depth: int) -> Callable[[schema.BackboneConfig], resnet.ResNetBackbone]:
    def build(config: schema.BackboneConfig) -> resnet.ResNetBackbone:
        return resnet.ResNetBackbone(
            depth=depth,
            width=config.width,
            in_channels=config.in_channels,
            dtype=jnp.dtype(config.dtype),
            remat=config.remat,
        )

    return build


BACKBONES: Mapping[str, Callable[[schema.BackboneConfig], resnet.ResNetBackbone]] = {
    "resnet18": _resnet(18),
    "resnet50": _resnet(50),
}


def build_backbone(config: schema.BackboneConfig) -> resnet.ResNetBackbone:
    """The backbone that the config names.

    Raises:
      ValueError: If `BACKBONES` has no such row.
    """
    rules.require_known(config.name, BACKBONES, "backbone")
    return BACKBONES[config.name](config)
