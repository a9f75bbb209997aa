"""ConvNeXt with a pyramid of features and dilation instead of stride.

Modules carry timm's names (`stages.1.blocks.0.conv_dw` is `stages_1_0/conv_dw`), with
the layer scale (`gamma` there) as `layer_scale`; `weights.layout_convnext` knows the
others'.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import convolution, stochastic_depth
from mtpret_jax.ops import depthwise

SIZES: Mapping[str, tuple[tuple[int, ...], int]] = {
    # blocks of each stage, channels of the first
    "atto": ((2, 2, 6, 2), 40),
    "tiny": ((3, 3, 9, 3), 96),
    "small": ((3, 3, 27, 3), 96),
    "base": ((3, 3, 27, 3), 128),
}
_SMALLEST = 32  # side of an image, pixels; smaller ones leave the last level empty
_LAYER_SCALE = 1e-6  # at the start: every block begins as the identity, nearly
_KERNEL_INIT = nn.initializers.normal(0.02)
# Two passes: E[x^2] - E[x]^2 loses digits where a mean is large beside its deviation.
_LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-6, use_fast_variance=False)


class Block(nn.Module):
    """A depthwise 7x7 convolution and two dense layers, scaled, beside a shortcut."""

    dilation: int
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, factors: jax.Array | None) -> jax.Array:
        """Maps [B, H, W, C] to the same shape; `factors` [1, B] are of its branch."""
        channels = inputs.shape[-1]
        dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_KERNEL_INIT)
        hidden = nn.Conv(
            channels,
            (7, 7),
            feature_group_count=channels,
            kernel_dilation=self.dilation,
            padding=3 * self.dilation,
            kernel_init=_KERNEL_INIT,
            conv_general_dilated=depthwise.convolve,
            dtype=self.dtype,
            name="conv_dw",
        )(inputs)
        hidden = _LayerNorm(dtype=self.dtype, name="norm")(hidden)
        hidden = dense(4 * channels, name="fc1")(hidden)
        hidden = dense(channels, name="fc2")(nn.gelu(hidden, approximate=False))
        scale = self.param(
            "layer_scale", nn.initializers.constant(_LAYER_SCALE), (channels,)
        )
        hidden = hidden * scale.astype(self.dtype).reshape(1, 1, 1, -1)
        factor = None if factors is None else factors[0]
        return inputs + stochastic_depth.scaled(hidden, factor)


class ConvNeXt(nn.Module):
    """The convolutional body; see `ConvNeXtBackbone` for the fields."""

    depths: tuple[int, ...]
    width: int
    in_channels: int
    output_stride: int
    dtype: jax.typing.DTypeLike
    remat: bool

    @nn.compact
    def __call__(self, image: jax.Array, paths: jax.Array | None) -> types.Features:
        """Maps images, float [B, H, W, 1] or of all channels, to features."""
        hidden, convolve = convolution.enter(image, self.in_channels, self.dtype)
        hidden = nn.Conv(
            self.width,
            (4, 4),
            strides=4,
            padding="VALID",
            kernel_init=_KERNEL_INIT,
            conv_general_dilated=convolve,
            dtype=self.dtype,
            name="stem_0",
        )(hidden)
        hidden = _LayerNorm(dtype=self.dtype, name="stem_1")(hidden)
        stem = hidden
        block = nn.remat(Block) if self.remat else Block
        levels = []
        stride, dilation = 4, 1
        for stage, depth in enumerate(self.depths):
            if stage > 0 and stride < self.output_stride:
                stride *= 2
                hidden = self._downsample(hidden, stage, step=2, dilation=1)
            elif stage > 0:
                # Its four taps lie as far apart as they would, were there strides.
                hidden = self._downsample(hidden, stage, step=1, dilation=dilation)
                dilation *= 2
            for index in range(depth):
                number = sum(self.depths[:stage]) + index
                hidden = block(dilation, self.dtype, name=f"stages_{stage}_{index}")(
                    hidden, None if paths is None else paths[number]
                )
            levels.append(hidden)
        pooled = hidden.astype(jnp.float32).mean((1, 2))
        pooled = _LayerNorm(dtype=jnp.float32, name="norm")(pooled)
        return types.Features(levels=tuple(levels), pooled=pooled, stem=stem)

    def _downsample(
        self, hidden: jax.Array, stage: int, *, step: int, dilation: int
    ) -> jax.Array:
        """Normalises; four positions, `dilation` apart, become one of twice the width.

        A row or column that is left over at the end is dropped, as PyTorch does it.
        """
        hidden = _LayerNorm(dtype=self.dtype, name=f"downsample_{stage}_0")(hidden)
        return nn.Conv(
            self.width * 2**stage,
            (2, 2),
            strides=step,
            kernel_dilation=dilation,
            padding="VALID" if step == 2 else "SAME",
            kernel_init=_KERNEL_INIT,
            dtype=self.dtype,
            name=f"downsample_{stage}_1",
        )(hidden)


@dataclasses.dataclass(frozen=True)
class ConvNeXtBackbone:
    """A ConvNeXt as `types.Backbone`.

    Attributes:
      depths: Blocks of each of the four stages.
      width: Channels of the stem and the first stage; each next stage has twice as
        many.
      in_channels: The grey channel is repeated to this many; 3 loads published weights,
        1 makes a stem for grey images.
      dtype: What layers compute in; parameters are float32.
      remat: Whether the backward pass computes activations again to save memory.

    The pooled features are normalised by the last LayerNorm, which published weights
    hold; the levels are not.

    Source: Liu et al. 2022, "A ConvNet for the 2020s"; dilation in place of stride as
    timm has it, in the depthwise convolutions and between the stages.
    """

    depths: tuple[int, ...]
    width: int
    in_channels: int = 3
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the stem and of C2 to C5; see `types.Backbone`."""
        return (self.width, *(self.width * 2**stage for stage in range(4)))

    @property
    def output_strides(self) -> tuple[int, ...]:
        """The last two levels can be dilated; see `types.Backbone`."""
        return (32, 16, 8)

    @property
    def sides(self) -> tuple[int, int]:
        """Any from 32 pixels on; see `types.Backbone`."""
        return (_SMALLEST, 1)

    @property
    def branches(self) -> tuple[int, int]:
        """One of each block; see `types.Backbone`."""
        return (sum(self.depths), 1)

    @property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """The stem and each block, as timm groups them; see `types.Backbone`.

        A stage's first block has the halving before it; the last norm is the head's.
        """
        found: list[tuple[str, ...]] = [("stem_0", "stem_1")]
        for stage, depth in enumerate(self.depths):
            blocks = [f"stages_{stage}_{index}" for index in range(depth)]
            halving = [f"downsample_{stage}_{index}" for index in (0, 1)]
            found += [(*halving, blocks[0]), *((block,) for block in blocks[1:])]
        return tuple(found)

    @property
    def averages_cells(self) -> bool:
        """The mean is normalised; see `types.Backbone`."""
        return False

    def _module(self, output_stride: int) -> ConvNeXt:
        return ConvNeXt(
            depths=self.depths,
            width=self.width,
            in_channels=self.in_channels,
            output_stride=output_stride,
            dtype=self.dtype,
            remat=self.remat,
        )

    def init(self, key: jax.Array, image: jax.Array) -> types.Variables:
        """Draws parameters; see `types.Backbone`."""
        variables = self._module(32).init(key, image, None)
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
        """Features, and the empty tree of batch statistics; see `types.Backbone`.

        Args:
          variables: As `init` gives them.
          image: Grey, float [B, H, W, 1].
          train: Changes nothing: what is random is handed in.
          output_stride: Stride of the last level, pixels; 0: 32.
          batch_norm_rows: Changes nothing: there is no BatchNorm.
          paths: See `types.Backbone`.

        Raises:
          ValueError: If the last level cannot have that stride, or the image is too
            small.
        """
        del train, batch_norm_rows
        stride = output_stride or self.output_strides[0]
        if stride not in self.output_strides:
            raise ValueError(
                "The last level of a ConvNeXt has a stride of one of "
                f"{self.output_strides} pixels, not {stride}."
            )
        if min(image.shape[1:3]) < _SMALLEST:
            raise ValueError(
                f"A ConvNeXt needs images of at least {_SMALLEST} pixels a side, got "
                f"{image.shape[1:3]}."
            )
        trees = {"params": variables.params}
        features: Any = self._module(stride).apply(trees, image, paths)
        return features, {}


def build(config: schema.BackboneConfig, *, size: str) -> ConvNeXtBackbone:
    """A ConvNeXt of a row of `SIZES`, as much narrower as a width below 64 says."""
    depths, width = SIZES[size]
    return ConvNeXtBackbone(
        depths=depths,
        width=max(1, width * config.width // 64),
        in_channels=config.in_channels,
        dtype=jnp.dtype(config.dtype),
        remat=config.remat,
    )
