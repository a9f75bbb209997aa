"""ResNet-10, -18 and -50 with a pyramid of features and dilation instead of stride.

Modules and parameters carry torchvision's names (`layer1.0.conv1.weight` is
`layer1_0/conv1/kernel`), so weights map one to one.
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
from mtpret_jax.models import convolution, normalisation
from mtpret_jax.ops import pooling

_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _conv(
    features: int,
    size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    convolve: Callable[..., jax.Array] = convolution.convolve,
    **options: Any,
) -> nn.Conv:
    """A convolution without bias, padded as PyTorch pads it."""
    pad = dilation * (size // 2)
    return nn.Conv(
        features,
        (size, size),
        strides=stride,
        kernel_dilation=dilation,
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        kernel_init=_KERNEL_INIT,
        conv_general_dilated=convolve,
        **options,
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first strides."""

    features: int
    stride: int
    dilation: int  # of the convolution that strides or would
    next_dilation: int  # of what follows it
    norm: Callable[..., nn.Module]
    dtype: jax.typing.DTypeLike
    expansion = 1

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H/stride, W/stride, features]."""
        hidden = _conv(
            self.features,
            3,
            stride=self.stride,
            dilation=self.dilation,
            dtype=self.dtype,
            name="conv1",
        )(inputs)
        hidden = nn.relu(self.norm(name="bn1")(hidden, train=train))
        hidden = _conv(
            self.features,
            3,
            dilation=self.next_dilation,
            dtype=self.dtype,
            name="conv2",
        )(hidden)
        hidden = self.norm(name="bn2")(hidden, train=train)
        return nn.relu(hidden + _shortcut(self, inputs, self.features, train))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the 3x3 one strides."""

    features: int
    stride: int
    dilation: int
    next_dilation: int  # unused: 1x1 convolutions have none
    norm: Callable[..., nn.Module]
    dtype: jax.typing.DTypeLike
    expansion = 4

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H/stride, W/stride, 4 * features]."""
        outputs = self.features * self.expansion
        hidden = _conv(self.features, 1, dtype=self.dtype, name="conv1")(inputs)
        hidden = nn.relu(self.norm(name="bn1")(hidden, train=train))
        hidden = _conv(
            self.features,
            3,
            stride=self.stride,
            dilation=self.dilation,
            dtype=self.dtype,
            name="conv2",
        )(hidden)
        hidden = nn.relu(self.norm(name="bn2")(hidden, train=train))
        hidden = _conv(outputs, 1, dtype=self.dtype, name="conv3")(hidden)
        hidden = self.norm(name="bn3")(hidden, train=train)
        return nn.relu(hidden + _shortcut(self, inputs, outputs, train))


def _shortcut(
    block: BasicBlock | Bottleneck, inputs: jax.Array, outputs: int, train: bool
) -> jax.Array:
    """The input itself, or projected where its shape would not fit."""
    if block.stride == 1 and inputs.shape[-1] == outputs:
        return inputs
    projected = _conv(
        outputs, 1, stride=block.stride, dtype=block.dtype, name="downsample_0"
    )(inputs)
    return block.norm(name="downsample_1")(projected, train=train)


class ResNet(nn.Module):
    """The convolutional body; see `ResNetBackbone` for the fields."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, ...]
    width: int
    in_channels: int
    output_stride: int
    dtype: jax.typing.DTypeLike
    remat: bool
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> types.Features:
        """Maps images, float [B, H, W, 1] or of all channels, to features."""
        hidden, convolve = convolution.enter(image, self.in_channels, self.dtype)
        hidden = _conv(
            self.width,
            7,
            stride=2,
            dtype=self.dtype,
            convolve=convolve,
            name="conv1",
        )(hidden)
        hidden = nn.relu(self.norm(name="bn1")(hidden, train=train))
        stem = hidden
        hidden = pooling.max_pool(hidden)
        block = nn.remat(self.block, static_argnums=(2,)) if self.remat else self.block
        levels = []
        stride, dilation = 4, 1
        for level, depth in enumerate(self.depths):
            level_stride, first_dilation = 1, dilation
            if level > 0 and stride < self.output_stride:
                level_stride, stride = 2, stride * 2
            elif level > 0:
                dilation *= 2  # Dilate where the usual network would stride.
            for index in range(depth):
                hidden = block(
                    features=self.width * 2**level,
                    stride=level_stride if index == 0 else 1,
                    dilation=first_dilation if index == 0 else dilation,
                    next_dilation=dilation,
                    norm=self.norm,
                    dtype=self.dtype,
                    name=f"layer{level + 1}_{index}",
                )(hidden, train)
            levels.append(hidden)
        pooled = hidden.astype(jnp.float32).mean((1, 2))
        return types.Features(levels=tuple(levels), pooled=pooled, stem=stem)


# Blocks of each level, by the layers of a network.
_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


@dataclasses.dataclass(frozen=True)
class ResNetBackbone:
    """A residual network as `types.Backbone`.

    Attributes:
      depth: Layers: 10, 18 or 50.
      width: Channels of the stem; 64 in the published networks.
      in_channels: The grey channel is repeated to this many; 3 loads torchvision's
        weights, 1 makes a stem for grey images.
      dtype: What layers compute in; parameters are float32, whose products are rounded
        as the device does by default: docs/multi_device.md, "Precision".
      remat: Whether the backward pass computes activations again to save memory.

    Source: He et al. 2016; stride in the 3x3 convolution and dilation in place of
    stride as torchvision has them. ResNet-10 has one block a level, as MONAI's has.
    Differs: networks of basic blocks can be dilated too, so that they still compute
    what they would with strides, at more places.
    """

    depth: int
    width: int = 64
    in_channels: int = 3
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False

    @property
    def _depths(self) -> tuple[int, ...]:
        return _BLOCKS[self.depth]

    @property
    def _block(self) -> type[BasicBlock] | type[Bottleneck]:
        return Bottleneck if self.depth == 50 else BasicBlock

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the stem and of C2 to C5; see `types.Backbone`."""
        finest = self.width * self._block.expansion
        return (self.width, *(finest * 2**level for level in range(4)))

    @property
    def output_strides(self) -> tuple[int, ...]:
        """The last two levels can be dilated; see `types.Backbone`."""
        return (32, 16, 8)

    @property
    def sides(self) -> tuple[int, int]:
        """Any side; see `types.Backbone`."""
        return (1, 1)

    @property
    def branches(self) -> tuple[int, int]:
        """None is left out; see `types.Backbone`."""
        return (0, 0)

    @property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """The stem and each block, as timm groups them; see `types.Backbone`."""
        blocks = [
            (f"layer{level}_{index}",)
            for level, depth in enumerate(self._depths, start=1)
            for index in range(depth)
        ]
        return (("conv1", "bn1"), *blocks)

    @property
    def averages_cells(self) -> bool:
        """They are averaged as they are; see `types.Backbone`."""
        return True

    def _module(self, output_stride: int, rows: int) -> ResNet:
        def norm(name: str) -> normalisation.BatchNorm:
            return normalisation.BatchNorm(
                rows=rows,
                dtype=self.dtype,
                name=name,
            )

        return ResNet(
            block=self._block,
            depths=self._depths,
            width=self.width,
            in_channels=self.in_channels,
            output_stride=output_stride,
            dtype=self.dtype,
            remat=self.remat,
            norm=norm,
        )

    def init(self, key: jax.Array, image: jax.Array) -> types.Variables:
        """Draws parameters; see `types.Backbone`."""
        variables = self._module(32, 0).init(key, image, False)
        return types.Variables(variables["params"], variables["batch_stats"])

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
        """Features and new batch statistics; see `types.Backbone`."""
        del paths
        stride = output_stride or self.output_strides[0]
        if stride not in self.output_strides:
            raise ValueError(
                f"The last level of a ResNet has a stride of one of "
                f"{self.output_strides} pixels, not {stride}."
            )
        trees = {"params": variables.params, "batch_stats": variables.model_state}
        module = self._module(stride, batch_norm_rows)
        if not train:
            found: Any = module.apply(trees, image, False)
            return found, variables.model_state
        result: Any = module.apply(trees, image, True, mutable=["batch_stats"])
        features, updated = result
        return features, updated["batch_stats"]


def build(config: schema.BackboneConfig, *, depth: int) -> ResNetBackbone:
    """A residual network of `depth` layers with the sizes of the config."""
    return ResNetBackbone(
        depth=depth,
        width=config.width,
        in_channels=config.in_channels,
        dtype=jnp.dtype(config.dtype),
        remat=config.remat,
    )
