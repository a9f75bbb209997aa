"""Vision transformers: one network, whose switches make the published families.

A ViT gives one map, of the stride of its patches, and no pyramid; `vit_pyramid` makes
levels of it for heads that want several. Names of parameters are ours; `weights` has
those of timm, transformers and the families' own files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import rules
from mtpret_jax.models import (
    attention,
    convolution,
    positions,
    stochastic_depth,
    vit_families,
)

_INIT = nn.initializers.truncated_normal(0.02)
_SCALE_INIT = 1e-5  # of the layer scale, as DINOv2 and DINOv3 began


class Mlp(nn.Module):
    """Two dense layers with a GELU between, or a SwiGLU; see `Family`."""

    family: vit_families.Family
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps [B, N, D] to the same shape."""
        width = tokens.shape[-1]
        wide = int(width * self.family.mlp_ratio)

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, kernel_init=_INIT, dtype=self.dtype, name=name)

        if self.family.gated:
            hidden = nn.silu(dense(wide, "gate")(tokens)) * dense(wide, "up")(tokens)
        else:
            hidden = nn.gelu(dense(wide, "fc1")(tokens), approximate=False)
        if self.family.mlp_norm:
            hidden = _norm(self.family, self.dtype, "norm")(hidden)
        return dense(width, "fc2")(hidden)


class Block(nn.Module):
    """Attention and an MLP, each of normalised tokens and added to them."""

    family: vit_families.Family
    heads: int
    rotate: Callable[[jax.Array], jax.Array] | None
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, tokens: jax.Array, factors: jax.Array | None) -> jax.Array:
        """Maps [B, N, D] to the same shape; `factors` [2, B] are of its branches."""
        branches = (
            attention.Attention(
                self.heads, self.family.key_bias, self.rotate, self.dtype, name="attn"
            ),
            Mlp(self.family, self.dtype, name="mlp"),
        )
        for number, branch in enumerate(branches, start=1):
            normed = _norm(self.family, self.dtype, f"norm{number}")(tokens)
            added = branch(normed)
            if self.family.layer_scale:
                scale = self.param(
                    f"scale{number}",
                    nn.initializers.constant(_SCALE_INIT),
                    added.shape[-1:],
                )
                added = added * scale.astype(self.dtype)[None, None]
            factor = None if factors is None else factors[number - 1]
            tokens = tokens + stochastic_depth.scaled(added, factor)
        return tokens


class ViT(nn.Module):
    """The network; see `ViTBackbone` for the fields."""

    family: vit_families.Family
    size: vit_families.Size
    in_channels: int
    dtype: jax.typing.DTypeLike
    remat: bool

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        paths: jax.Array | None,
        *,
        kept: jax.Array | None = None,
    ) -> types.Features:
        """Maps grey images, float [B, H, W, 1], to features; see `ViTBackbone`."""
        family = self.family
        patches = self._patches(image)
        batch, *grid, width = patches.shape
        rotate = self._rotation((grid[0], grid[1]))
        tokens = self._with_positions(patches)
        if kept is not None:
            first = 1 + family.registers
            cells = jnp.take_along_axis(tokens[:, first:], kept[..., None], axis=1)
            tokens = jnp.concatenate([tokens[:, :first], cells], 1)
            grid = [1, kept.shape[1]]
        block = nn.remat(Block) if self.remat else Block
        for index in range(self.size.depth):
            tokens = block(
                family, self.size.heads, rotate, self.dtype, name=f"blocks_{index}"
            )(tokens, None if paths is None else paths[index])
        norm = _norm(family, self.dtype, "norm")
        normed = norm(tokens)
        cells = normed[:, 1 + family.registers :]
        if family.pool == "class":
            pooled = normed[:, 0].astype(jnp.float32)
        elif family.norm_after_pool:
            kept = tokens[:, 1 + family.registers :].astype(jnp.float32)
            pooled = norm(kept.mean(1)).astype(jnp.float32)
        else:
            pooled = cells.astype(jnp.float32).mean(1)
        level = cells.reshape(batch, *grid, width)
        return types.Features(levels=(level,), pooled=pooled, stem=patches)

    def _patches(self, image: jax.Array) -> jax.Array:
        """Tokens of the patches before any position, [B, h, w, D]."""
        side = self.family.patch
        height, width = image.shape[1:3]
        if height % side or width % side:
            raise ValueError(
                f"A ViT with patches of {side} pixels got images of {height} x "
                f"{width}; use a side that {side} divides, such as "
                f"{-(-height // side) * side}."
            )
        hidden, convolve = convolution.enter(image, self.in_channels, self.dtype)
        return nn.Conv(
            self.size.width,
            (side, side),
            strides=side,
            padding="VALID",
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name="patch_embed",
        )(hidden)

    def _with_positions(self, patches: jax.Array) -> jax.Array:
        """The class token, registers and patches as one row of tokens [B, N, D]."""
        family = self.family
        batch, rows, columns, width = patches.shape
        tokens = patches.reshape(batch, rows * columns, width)
        first = self.param("class_token", _INIT, (width,))
        if family.learned_positions:
            side = family.positions or family.image_size
            count = (side // family.patch) ** 2
            table = self.param("positions", _INIT, (1 + count, width))
            first = first + table[0]
            cells = positions.resample(
                table[1:], (rows, columns), antialias=family.antialias
            )
            tokens = tokens + cells.astype(self.dtype)[None]
        parts = [first[None]]
        if family.registers:
            parts.append(self.param("registers", _INIT, (family.registers, width)))
        prefix = jnp.concatenate(parts).astype(self.dtype)
        prefix = jnp.broadcast_to(prefix, (batch, *prefix.shape))
        return jnp.concatenate([prefix, tokens], 1)

    def _rotation(self, grid: positions.Grid) -> Callable[..., jax.Array] | None:
        """Turns queries or keys of this grid's patches; None: they are not turned."""
        family, head = self.family, self.size.width // self.size.heads
        if not family.rotary:
            return None
        if family.rotary == "eva":
            reference = family.image_size // family.patch
            angles = positions.eva_angles(grid, head, reference)
        else:
            angles = positions.dinov3_angles(grid, head)
        paired = family.rotary == "eva"
        return lambda heads: positions.rotate(heads, angles, paired=paired)


def _norm(
    family: vit_families.Family, dtype: jax.typing.DTypeLike, name: str
) -> nn.LayerNorm:
    """Statistics are float32, and of two passes: one would cancel digits."""
    return nn.LayerNorm(family.epsilon, dtype=dtype, use_fast_variance=False, name=name)


@dataclasses.dataclass(frozen=True)
class ViTBackbone:
    """A vision transformer as `types.Backbone`.

    Attributes:
      family: A row of `vit_families.FAMILIES`, or one with other switches.
      size: A row of `vit_families.SIZES`, or another.
      in_channels: The grey channel is repeated to this many; 3 loads published weights,
        1 makes an embedding for grey images.
      dtype: What layers compute in; parameters are float32.
      remat: Whether the backward pass computes activations again to save memory.

    Source: Dosovitskiy et al. 2021; Touvron et al. 2021, "DeiT"; He et al. 2022, "MAE";
    Oquab et al. 2023, "DINOv2"; Darcet et al. 2024, "Vision transformers need
    registers"; Yao et al. 2024, "EVA-X"; Siméoni et al. 2025, "DINOv3".
    """

    family: vit_families.Family
    size: vit_families.Size
    in_channels: int = 3
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the patches and of the one level; see `types.Backbone`."""
        return (self.size.width, self.size.width)

    @property
    def output_strides(self) -> tuple[int, ...]:
        """The side of a patch; see `types.Backbone`."""
        return (self.family.patch,)

    @property
    def sides(self) -> tuple[int, int]:
        """Whole patches; see `types.Backbone`."""
        return (self.family.patch, self.family.patch)

    @property
    def branches(self) -> tuple[int, int]:
        """Attention and MLP of each block; see `types.Backbone`."""
        return (self.size.depth, 2)

    @property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """The patches and each block, as timm groups them; see `types.Backbone`.

        The last block has the norm, but one that follows the mean is the head's.
        """
        patches = ("class_token", "positions", "registers", "patch_embed")
        blocks = [(f"blocks_{index}",) for index in range(self.size.depth)]
        norm = () if self.family.norm_after_pool else ("norm",)
        return (patches, *blocks[:-1], (*blocks[-1], *norm))

    @property
    def averages_cells(self) -> bool:
        """Where patches are normalised before their mean; see `types.Backbone`."""
        return self.family.pool == "mean" and not self.family.norm_after_pool

    def _module(self) -> ViT:
        return ViT(
            family=self.family,
            size=self.size,
            in_channels=self.in_channels,
            dtype=self.dtype,
            remat=self.remat,
        )

    def init(self, key: jax.Array, image: jax.Array) -> types.Variables:
        """Draws parameters; see `types.Backbone`."""
        variables = self._module().init(key, image, None)
        return types.Variables(variables["params"], {})

    def apply(
        self,
        variables: types.Variables,
        image: jax.Array,
        *,
        train: bool,
        output_stride: int = 0,
        batch_norm_rows: int = 0,
        paths: jax.Array | None = None,
        kept: jax.Array | None = None,
    ) -> tuple[types.Features, types.Tree]:
        """Features: one level, of the stride of the patches; see `types.Backbone`.

        `kept`, int32 [B, N], are the patches that are seen, counted row by row; the
        level is then theirs, [B, 1, N, D]. Families with rotary positions see all.

        `output_stride` and `batch_norm_rows` change nothing: patches are not dilated
        and there is no BatchNorm; nor does `train`: what is random is handed in. `stem`
        are the patches before the first block.

        Raises:
          ValueError: If patches do not divide the image, or not all patches are seen
            where positions are rotary.
        """
        if kept is not None and self.family.rotary:
            raise ValueError("Families with rotary positions see every patch.")
        del train, output_stride, batch_norm_rows
        trees = {"params": variables.params}
        features: Any = self._module().apply(trees, image, paths, kept=kept)
        return features, variables.model_state


def build(config: schema.BackboneConfig, *, size: str) -> ViTBackbone:
    """A ViT of a row of `SIZES`, as much narrower as a width below 64 says.

    Raises:
      ValueError: If `FAMILIES` has no row of the config's name, or it learns no
        positions of images of the config's.
    """
    name = config.family or vit_families.DEFAULT
    rules.require_known(name, vit_families.FAMILIES, "family in config.backbone.family")
    family, row = vit_families.FAMILIES[name], vit_families.SIZES[size]
    if config.positions % family.patch or (
        config.positions and not family.learned_positions
    ):
        raise ValueError(
            f"config.backbone.positions: '{name}' has patches of {family.patch} pixels "
            f"and {'' if family.learned_positions else 'no '}learned positions; got "
            f"{config.positions}."
        )
    return ViTBackbone(
        family=dataclasses.replace(family, positions=config.positions),
        size=dataclasses.replace(row, width=row.width * config.width // 64),
        in_channels=config.in_channels,
        dtype=jnp.dtype(config.dtype),
        remat=config.remat,
    )
