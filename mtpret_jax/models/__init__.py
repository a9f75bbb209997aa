"""Images to features and features to maps; knows no labels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import rules
from mtpret_jax.models import resnet

BACKBONES: Mapping[str, Callable[[schema.BackboneConfig], types.Backbone]] = {
    "resnet18": functools.partial(resnet.build, depth=18),
    "resnet50": functools.partial(resnet.build, depth=50),
}


def build_backbone(config: schema.BackboneConfig) -> types.Backbone:
    """The backbone that the config names.

    Raises:
      ValueError: If `BACKBONES` has no such row.
    """
    rules.require_known(config.name, BACKBONES, "backbone")
    return BACKBONES[config.name](config)
