"""DenseNet-121 with a pyramid of features.

Modules and parameters carry torchvision's names, without `features`
(`denseblock1.denselayer2.conv1.weight` is `denseblock1_denselayer2/conv1/kernel`), so
weights map one to one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.models import convolution, normalisation
from mtpret_jax.ops import pooling

DENSENET121 = (6, 12, 24, 16)  # layers of each block
_BOTTLENECK = 4  # channels of a layer's first convolution, in its outputs
_SMALLEST = 32  # side of an image, pixels; smaller ones leave the last level empty
_Norm = Callable[..., normalisation.BatchNorm]
_Conv = functools.partial(
    nn.Conv,
    use_bias=False,
    kernel_init=nn.initializers.he_normal(),
    conv_general_dilated=convolution.convolve,
)


class DenseLayer(nn.Module):
    """What a layer adds to the channels before it: 1x1 and 3x3 convolutions."""

    growth: int
    norm: _Norm
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H, W, growth]."""
        hidden = nn.relu(self.norm(name="norm1")(inputs, train=train))
        hidden = _Conv(
            _BOTTLENECK * self.growth, (1, 1), dtype=self.dtype, name="conv1"
        )(hidden)
        hidden = nn.relu(self.norm(name="norm2")(hidden, train=train))
        return _Conv(self.growth, (3, 3), padding=1, dtype=self.dtype, name="conv2")(
            hidden
        )


class Transition(nn.Module):
    """Half the channels at half the size, by a 1x1 convolution and means of 2x2."""

    norm: _Norm
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H // 2, W // 2, C // 2]."""
        hidden = nn.relu(self.norm(name="norm")(inputs, train=train))
        hidden = _Conv(inputs.shape[-1] // 2, (1, 1), dtype=self.dtype, name="conv")(
            hidden
        )
        return nn.avg_pool(hidden, (2, 2), strides=(2, 2))


class DenseNet(nn.Module):
    """The convolutional body; see `DenseNetBackbone` for the fields."""

    depths: tuple[int, ...]
    width: int
    growth: int
    in_channels: int
    dtype: jax.typing.DTypeLike
    remat: bool
    norm: _Norm

    @nn.compact
    def __call__(self, image: jax.Array, train: bool) -> types.Features:
        """Maps images, float [B, H, W, 1] or of all channels, to features."""
        hidden, convolve = convolution.enter(image, self.in_channels, self.dtype)
        hidden = _Conv(
            self.width,
            (7, 7),
            strides=2,
            padding=3,
            conv_general_dilated=convolve,
            dtype=self.dtype,
            name="conv0",
        )(hidden)
        hidden = nn.relu(self.norm(name="norm0")(hidden, train=train))
        stem = hidden
        hidden = pooling.max_pool(hidden)
        layer = nn.remat(DenseLayer, static_argnums=(2,)) if self.remat else DenseLayer
        levels = []
        for number, depth in enumerate(self.depths, start=1):
            for index in range(1, depth + 1):
                added = layer(
                    self.growth,
                    self.norm,
                    self.dtype,
                    name=f"denseblock{number}_denselayer{index}",
                )(hidden, train)
                hidden = jnp.concatenate([hidden, added], -1)
            if number == len(self.depths):
                break
            levels.append(hidden)
            transition = Transition(self.norm, self.dtype, name=f"transition{number}")
            hidden = transition(hidden, train)
        levels.append(nn.relu(self.norm(name="norm5")(hidden, train=train)))
        pooled = levels[-1].astype(jnp.float32).mean((1, 2))
        return types.Features(levels=tuple(levels), pooled=pooled, stem=stem)


@dataclasses.dataclass(frozen=True)
class DenseNetBackbone:
    """A DenseNet as `types.Backbone`.

    Attributes:
      depths: Layers of each of the four blocks.
      width: Channels of the stem; 64 in the published network. A layer adds half as
        many, 32 there.
      in_channels: The grey channel is repeated to this many; 3 loads torchvision's
        weights, 1 those of torchxrayvision.
      dtype: What layers compute in; parameters are float32.
      remat: Whether the backward pass computes each layer again to save memory.

    C2 to C4 are what the first three blocks put out, before normalisation; C5 is after
    the last normalisation and ReLU. They cannot be dilated: neither torchvision's
    network nor timm's can, so there is nothing to compare with.

    Source: Huang et al. 2017, "Densely connected convolutional networks"; layers as
    torchvision's, levels as timm's.
    """

    depths: tuple[int, ...] = DENSENET121
    width: int = 64
    in_channels: int = 3
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the stem and of C2 to C5; see `types.Backbone`."""
        widths, width = [self.width], self.width
        for depth in self.depths:
            width += depth * (self.width // 2)
            widths.append(width)
            width //= 2
        return tuple(widths)

    @property
    def output_strides(self) -> tuple[int, ...]:
        """Of the last level; see `types.Backbone`."""
        return (32,)

    @property
    def sides(self) -> tuple[int, int]:
        """Any from 32 pixels on; see `types.Backbone`."""
        return (_SMALLEST, 1)

    @property
    def branches(self) -> tuple[int, int]:
        """None is left out; see `types.Backbone`."""
        return (0, 0)

    @property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """The stem and each dense layer, as timm groups them; see `types.Backbone`."""
        found: list[tuple[str, ...]] = [("conv0", "norm0")]
        for number, depth in enumerate(self.depths, start=1):
            names = [f"denseblock{number}_denselayer{n}" for n in range(1, depth + 1)]
            found += [*((name,) for name in names[:-1])]
            found += [(names[-1], f"transition{number}")]
        return tuple(found)

    @property
    def averages_cells(self) -> bool:
        """They are averaged as they are; see `types.Backbone`."""
        return True

    def _module(self, rows: int) -> DenseNet:
        norm = functools.partial(normalisation.BatchNorm, rows=rows, dtype=self.dtype)
        return DenseNet(
            depths=self.depths,
            width=self.width,
            growth=self.width // 2,
            in_channels=self.in_channels,
            dtype=self.dtype,
            remat=self.remat,
            norm=norm,
        )

    def init(self, key: jax.Array, image: jax.Array) -> types.Variables:
        """Draws parameters; see `types.Backbone`."""
        variables = self._module(0).init(key, image, False)
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
        del output_stride, paths
        if min(image.shape[1:3]) < _SMALLEST:
            raise ValueError(
                f"A DenseNet needs images of at least {_SMALLEST} pixels a side, got "
                f"{image.shape[1:3]}."
            )
        trees = {"params": variables.params, "batch_stats": variables.model_state}
        module = self._module(batch_norm_rows)
        if not train:
            features: Any = module.apply(trees, image, False)
            return features, variables.model_state
        result: Any = module.apply(trees, image, True, mutable=["batch_stats"])
        features, updated = result
        return features, updated["batch_stats"]


def build(config: schema.BackboneConfig) -> DenseNetBackbone:
    """DenseNet-121; a width in the config narrows it."""
    return DenseNetBackbone(
        width=config.width,
        in_channels=config.in_channels,
        dtype=jnp.dtype(config.dtype),
        remat=config.remat,
    )
