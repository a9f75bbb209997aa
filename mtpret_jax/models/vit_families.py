"""Families and sizes of vision transformers, as switches and numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Family:
    """What tells published vision transformers apart, besides their size.

    Attributes:
      patch: Side of a patch, pixels.
      image_size: Side of the images of pre-training, pixels: of the learned positions'
        grid, and where EVA-X's rotary angles have their unit.
      positions: The same of the learned positions alone; 0: `image_size`.
      registers: Learned tokens beside the class token that no one reads.
      learned_positions: Whether positions are learned and added to the patches.
      antialias: How learned positions are resampled; see `positions.resample`.
      rotary: How queries and keys are turned by their place: "", "eva" or "dinov3".
      layer_scale: Whether each branch is scaled by a learned vector.
      gated: Whether the MLP is a SwiGLU instead of a GELU.
      mlp_ratio: Width of the MLP over the tokens'.
      mlp_norm: Whether the MLP normalises before its last layer.
      key_bias: Whether keys have a bias.
      epsilon: Added to variances.
      pool: What stands for the image: "class", the class token; "mean", of the patches.
      norm_after_pool: Whether the mean is normalised, and not each patch before it.
    """

    patch: int = 16
    image_size: int = 224
    positions: int = 0
    registers: int = 0
    learned_positions: bool = True
    antialias: bool = True
    rotary: str = ""
    layer_scale: bool = False
    gated: bool = False
    mlp_ratio: float = 4.0
    mlp_norm: bool = False
    key_bias: bool = True
    epsilon: float = 1e-6
    pool: str = "class"
    norm_after_pool: bool = False


@dataclasses.dataclass(frozen=True)
class Size:
    """Width of the tokens, number of blocks, heads of each."""

    width: int
    depth: int
    heads: int


SIZES: Mapping[str, Size] = {
    "tiny": Size(192, 12, 3),
    "small": Size(384, 12, 6),
    "base": Size(768, 12, 12),
    "large": Size(1024, 24, 16),
}
_DEIT = Family()
_DINOV2 = Family(patch=14, image_size=518, antialias=False, layer_scale=True)
_EVA_X = Family(
    rotary="eva",
    gated=True,
    mlp_ratio=8 / 3,
    key_bias=False,
    pool="mean",
    norm_after_pool=True,
)
_DINOV3 = Family(
    learned_positions=False,
    rotary="dinov3",
    registers=4,
    layer_scale=True,
    key_bias=False,
    epsilon=1e-5,
)
DEFAULT = "deit"
FAMILIES: Mapping[str, Family] = {
    "deit": _DEIT,
    "mae": dataclasses.replace(_DEIT, pool="mean"),
    # Fine-tuned as the authors of MAE do it: `fc_norm` instead of `norm`.
    "mae_finetuned": dataclasses.replace(_DEIT, pool="mean", norm_after_pool=True),
    "dinov2": _DINOV2,
    "dinov2_registers": dataclasses.replace(_DINOV2, registers=4, antialias=True),
    "eva_x": _EVA_X,  # tiny and small
    "eva_x_normed": dataclasses.replace(_EVA_X, mlp_norm=True),  # base
    "dinov3": _DINOV3,
    "dinov3_gated": dataclasses.replace(_DINOV3, gated=True),  # "plus"
}
