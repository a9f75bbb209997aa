"""Images to features and features to maps; knows no labels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import rules
from mtpret_jax.models import convnext, densenet, resnet, swin, vit

BACKBONES: Mapping[str, Callable[[schema.BackboneConfig], types.Backbone]] = {
    "resnet10": functools.partial(resnet.build, depth=10),
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

_SIDE = 224  # pixels; patches of 14 and of 16 divide it


def build_backbone(config: schema.BackboneConfig) -> types.Backbone:
    """The backbone that the config names.

    Raises:
      ValueError: If `BACKBONES` has no such row, or it has no families.
    """
    rules.require_known(config.name, BACKBONES, "backbone")
    for option in ("family", "positions"):
        if getattr(config, option) and not config.name.startswith("vit_"):
            raise ValueError(
                f"config.backbone.{option} is for ViTs, and the backbone is "
                f"'{config.name}'. Leave it out."
            )
    return BACKBONES[config.name](config)


def backbone_shapes(config: schema.BackboneConfig) -> types.Tree:
    """`{"params": ..., "model_state": ...}` of the backbone, leaves with `shape`."""
    backbone = build_backbone(config)
    image = jax.ShapeDtypeStruct((1, _SIDE, _SIDE, 1), jnp.float32)
    made = jax.eval_shape(backbone.init, jax.random.key(0), image)
    return {"params": made.params, "model_state": made.model_state}
