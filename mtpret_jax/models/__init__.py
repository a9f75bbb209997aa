"""Images to features and features to maps; knows no labels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import rules
from mtpret_jax.models import convnext, densenet, resnet, swin, vit

BACKBONES: Mapping[str, Callable[[schema.BackboneConfig], types.Backbone]] = {
    "resnet18": functools.partial(resnet.build, depth=18),
    "resnet50": functools.partial(resnet.build, depth=50),
    "densenet121": densenet.build,
    "convnext_atto": functools.partial(convnext.build, size="atto"),
    "convnext_tiny": functools.partial(convnext.build, size="tiny"),
    "convnext_small": functools.partial(convnext.build, size="small"),
    "convnext_base": functools.partial(convnext.build, size="base"),
    "swin_tiny": functools.partial(swin.build, size="tiny"),
    "swin_base": functools.partial(swin.build, size="base"),
    "swin_large": functools.partial(swin.build, size="large"),
    "vit_tiny": functools.partial(vit.build, size="tiny"),
    "vit_small": functools.partial(vit.build, size="small"),
    "vit_base": functools.partial(vit.build, size="base"),
    "vit_large": functools.partial(vit.build, size="large"),
}


def build_backbone(config: schema.BackboneConfig) -> types.Backbone:
    """The backbone that the config names.

    Raises:
      ValueError: If `BACKBONES` has no such row, or it has no families.
    """
    rules.require_known(config.name, BACKBONES, "backbone")
    if config.family and not config.name.startswith("vit_"):
        raise ValueError(
            f"config.backbone.family: '{config.family}' is a family of ViTs, and the "
            f"backbone is '{config.name}'. Leave it out."
        )
    return BACKBONES[config.name](config)
