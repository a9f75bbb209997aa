"""Swin transformers: attention within windows that shift, and four levels.

Modules and parameters carry timm's names (`layers.1.blocks.0.norm1` is
`layers_1_blocks_0/norm1`); a stage begins with its halving, as in timm since 0.9.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import convolution, stochastic_depth, swin_sizes

_INIT = nn.initializers.truncated_normal(0.02)
_PATCH = 4
_HIDDEN = 4  # width of an MLP over the tokens'
_FAR = -100.0  # added to scores of tokens that were not neighbours before the shift


class WindowAttention(nn.Module):
    """Attention within windows of a map, with a learned bias for each offset.

    Attributes:
      heads: Their number; it divides the map's channels.
      window: Side of a window, tokens; a smaller map is one window.
      shifted: Whether the windows are half a window further on; not on an axis that
        one window covers.
      dtype: What layers compute in; the softmax is float32.
    """

    heads: int
    window: int
    shifted: bool
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, level: jax.Array) -> jax.Array:
        """Maps [B, h, w, C] to the same shape.

        Source: Liu et al. 2021, "Swin transformer". A map that windows do not divide is
        padded, once it is shifted, with zeros that are attended to, as timm has it.
        Differs: of a map smaller than a window the table's middle is used; timm
        resamples the table.
        """
        batch, *sides, width = level.shape
        windows = [min(side, self.window) for side in sides]
        shifts = [
            window // 2 if self.shifted and side > window else 0
            for side, window in zip(sides, windows, strict=True)
        ]
        rolled = jnp.roll(level, [-shift for shift in shifts], (1, 2))
        padding = [-side % window for side, window in zip(sides, windows, strict=True)]
        padded = jnp.pad(rolled, ((0, 0), *((0, pad) for pad in padding), (0, 0)))
        grid = (padded.shape[1], padded.shape[2])
        tokens = _split(padded, windows)  # [B * n, window, C]

        def project(name: str) -> jax.Array:
            dense = nn.Dense(width, kernel_init=_INIT, dtype=self.dtype, name=name)
            return dense(tokens).reshape(*tokens.shape[:2], self.heads, -1)

        table = self.param("offsets", _INIT, ((2 * self.window - 1) ** 2, self.heads))
        bias = table[_offsets(windows, self.window)].transpose(2, 0, 1)[None]
        if any(shifts):
            mask = _strangers(grid, windows, shifts)
            # Not by `tile`, which takes no batch of any size, as exports have.
            mask = jnp.broadcast_to(mask, (batch, *mask.shape))
            mask = mask.reshape(-1, 1, *mask.shape[2:])
            shape = (mask.shape[0], self.heads, *mask.shape[2:])
            bias = jnp.broadcast_to(bias, shape) + jnp.broadcast_to(mask, shape)
        mixed = jax.nn.dot_product_attention(
            project("query"),
            project("key"),
            project("value"),
            bias.astype(self.dtype),
            implementation="xla",
        ).reshape(tokens.shape)
        mixed = nn.Dense(width, kernel_init=_INIT, dtype=self.dtype, name="proj")(mixed)
        merged = _join(mixed, grid, windows)[:, : sides[0], : sides[1]]
        return jnp.roll(merged, shifts, (1, 2))


def _split(level: jax.Array, windows: list[int]) -> jax.Array:
    """A map [B, h, w, C] as windows [B * n, tokens, C], row by row."""
    batch, height, width, channels = level.shape
    rows, columns = windows
    parts = level.reshape(
        batch, height // rows, rows, width // columns, columns, channels
    ).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, rows * columns, channels)


def _join(parts: jax.Array, grid: tuple[int, int], windows: list[int]) -> jax.Array:
    """The inverse of `_split`."""
    (height, width), (rows, columns) = grid, windows
    level = parts.reshape(
        -1, height // rows, width // columns, rows, columns, parts.shape[-1]
    )
    return level.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, parts.shape[-1])


def _offsets(windows: list[int], largest: int) -> np.ndarray:
    """The row of the table for each pair of tokens of a window, int [N, N]."""
    places = np.stack(
        np.meshgrid(*(np.arange(side) for side in windows), indexing="ij"), -1
    ).reshape(-1, 2)
    offset = places[:, None] - places[None] + largest - 1
    return offset[..., 0] * (2 * largest - 1) + offset[..., 1]


def _strangers(
    grid: tuple[int, int], windows: list[int], shifts: list[int]
) -> np.ndarray:
    """`_FAR` for pairs from different ends of the map, float32 [n, tokens, tokens]."""
    region = np.zeros(grid, int)
    for axis, (side, window, shift) in enumerate(
        zip(grid, windows, shifts, strict=True)
    ):
        place = np.arange(side)
        along = (place >= side - window).astype(int) + (place >= side - shift)
        along = along if shift else np.zeros_like(along)
        region = 3 * region + (along[:, None] if axis == 0 else along[None])
    rows, columns = windows
    parts = region.reshape(grid[0] // rows, rows, grid[1] // columns, columns)
    parts = parts.transpose(0, 2, 1, 3).reshape(-1, rows * columns)
    different = parts[:, :, None] != parts[:, None]
    return np.where(different, np.float32(_FAR), np.float32(0))


class Block(nn.Module):
    """Attention within windows and an MLP, each of normalised tokens and added."""

    heads: int
    window: int
    shifted: bool
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, level: jax.Array, factors: jax.Array | None) -> jax.Array:
        """Maps [B, h, w, C] to the same shape; `factors` [2, B] are of its branches."""
        width = level.shape[-1]

        def add(level: jax.Array, branch: jax.Array, number: int) -> jax.Array:
            factor = None if factors is None else factors[number]
            return level + stochastic_depth.scaled(branch, factor)

        attend = WindowAttention(
            self.heads, self.window, self.shifted, self.dtype, name="attn"
        )
        level = add(level, attend(_norm(self.dtype, "norm1")(level)), 0)
        hidden = _norm(self.dtype, "norm2")(level)
        for name, features in (("mlp_fc1", _HIDDEN * width), ("mlp_fc2", width)):
            hidden = nn.Dense(features, kernel_init=_INIT, dtype=self.dtype, name=name)(
                hidden
            )
            hidden = nn.gelu(hidden, approximate=False) if name == "mlp_fc1" else hidden
        return add(level, hidden, 1)


class Swin(nn.Module):
    """The network; see `SwinBackbone` for the fields."""

    size: swin_sizes.Size
    in_channels: int
    dtype: jax.typing.DTypeLike
    remat: bool

    @nn.compact
    def __call__(self, image: jax.Array, paths: jax.Array | None) -> types.Features:
        """Maps images, float [B, H, W, 1] or of all channels, to features."""
        height, width = image.shape[1:3]
        if height % _PATCH or width % _PATCH:
            raise ValueError(
                f"A Swin got images of {height} x {width}; use a side that {_PATCH} "
                "divides."
            )
        hidden, convolve = convolution.enter(image, self.in_channels, self.dtype)
        hidden = nn.Conv(
            self.size.width,
            (_PATCH, _PATCH),
            strides=_PATCH,
            padding="VALID",
            dtype=self.dtype,
            conv_general_dilated=convolve,
            name="patch_embed",
        )(hidden)
        hidden = stem = _norm(self.dtype, "patch_norm")(hidden)
        block = nn.remat(Block) if self.remat else Block
        levels, number = [], 0
        for stage, depth in enumerate(self.size.depths):
            if stage:
                hidden = self._halved(hidden, f"layers_{stage}_downsample")
            for index in range(depth):
                hidden = block(
                    self.size.heads[stage],
                    self.size.window,
                    index % 2 == 1,
                    self.dtype,
                    name=f"layers_{stage}_blocks_{index}",
                )(hidden, None if paths is None else paths[number])
                number += 1
            levels.append(hidden)
        last = _norm(self.dtype, "norm")(hidden)
        # Finer levels are normalised for the heads, without parameters: no published
        # file has any, and a head's first layer can scale.
        finer = [_norm(self.dtype, None, affine=False)(one) for one in levels[:-1]]
        return types.Features(
            levels=(*finer, last),
            pooled=last.astype(jnp.float32).mean((1, 2)),
            stem=stem,
        )

    def _halved(self, level: jax.Array, name: str) -> jax.Array:
        """Four neighbours side by side, normalised and brought to twice the width."""
        _, height, width, channels = level.shape
        level = jnp.pad(level, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        # The column varies slower than the row, as in the authors' code.
        parts = [level[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        normed = _norm(self.dtype, f"{name}_norm")(jnp.concatenate(parts, -1))
        return nn.Dense(
            2 * channels,
            use_bias=False,
            kernel_init=_INIT,
            dtype=self.dtype,
            name=f"{name}_reduction",
        )(normed)


def _norm(
    dtype: jax.typing.DTypeLike, name: str | None, *, affine: bool = True
) -> nn.LayerNorm:
    return nn.LayerNorm(
        1e-5,
        dtype=dtype,
        use_fast_variance=False,
        use_bias=affine,
        use_scale=affine,
        name=name,
    )


@dataclasses.dataclass(frozen=True)
class SwinBackbone:
    """A Swin transformer as `types.Backbone`.

    Attributes:
      size: A row of `swin_sizes.SIZES`, or another.
      in_channels: The grey channel is repeated to this many; 3 loads published weights,
        1 makes an embedding for grey images.
      dtype: What layers compute in; parameters are float32.
      remat: Whether the backward pass computes activations again to save memory.

    Source: Liu et al. 2021, "Swin transformer".
    """

    size: swin_sizes.Size
    in_channels: int = 3
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the patches and of C2 to C5; see `types.Backbone`."""
        return (self.size.width, *(self.size.width * 2**stage for stage in range(4)))

    @property
    def output_strides(self) -> tuple[int, ...]:
        """Of the last level; see `types.Backbone`."""
        return (32,)

    @property
    def sides(self) -> tuple[int, int]:
        """Whole patches; see `types.Backbone`."""
        return (_PATCH, _PATCH)

    @property
    def branches(self) -> tuple[int, int]:
        """Attention and MLP of each block; see `types.Backbone`."""
        return (sum(self.size.depths), 2)

    @property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """The patches and each block, as timm groups them; see `types.Backbone`.

        A stage's first block has the halving before it, the last one the norm.
        """
        found: list[tuple[str, ...]] = [("patch_embed", "patch_norm")]
        for stage, depth in enumerate(self.size.depths):
            blocks = [f"layers_{stage}_blocks_{index}" for index in range(depth)]
            halving = f"layers_{stage}_downsample"
            found += [(f"{halving}_norm", f"{halving}_reduction", blocks[0])]
            found += [(block,) for block in blocks[1:]]
        return (*found[:-1], (*found[-1], "norm"))

    @property
    def averages_cells(self) -> bool:
        """The last level is normalised before its mean; see `types.Backbone`."""
        return True

    def _module(self) -> Swin:
        return Swin(self.size, self.in_channels, self.dtype, self.remat)

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
    ) -> tuple[types.Features, types.Tree]:
        """Features of strides 4, 8, 16 and 32; see `types.Backbone`.

        `output_stride` and `batch_norm_rows` change nothing: windows are not dilated
        and there is no BatchNorm; nor does `train`: what is random is handed in. `stem`
        are the patches, of stride 4.

        Raises:
          ValueError: If 4 does not divide the image.
        """
        del train, output_stride, batch_norm_rows
        trees = {"params": variables.params}
        features: Any = self._module().apply(trees, image, paths)
        return features, variables.model_state


def build(config: schema.BackboneConfig, *, size: str) -> SwinBackbone:
    """A Swin of a row of `SIZES`, as much narrower as a width below 64 says."""
    row = swin_sizes.SIZES[size]
    return SwinBackbone(
        size=dataclasses.replace(row, width=row.width * config.width // 64),
        in_channels=config.in_channels,
        dtype=jnp.dtype(config.dtype),
        remat=config.remat,
    )
