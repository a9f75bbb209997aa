"""ResNet-50 and DeepLabV3 as one writes them in Flax Linen, with its own layers alone.

What ours is compared with: `nn.Conv`, `nn.BatchNorm` and `nn.max_pool`, without a care
for any one device. Nothing of the package is imported.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the 3x3 one strides."""

    features: int
    stride: int
    dilation: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Maps [B, H, W, C] to [B, H/stride, W/stride, 4 * features]."""
        hidden = nn.relu(self.norm()(self.conv(self.features, (1, 1))(inputs)))
        hidden = self.conv(
            self.features,
            (3, 3),
            strides=self.stride,
            kernel_dilation=self.dilation,
            padding=self.dilation,
        )(hidden)
        hidden = nn.relu(self.norm()(hidden))
        hidden = self.norm()(self.conv(4 * self.features, (1, 1))(hidden))
        if hidden.shape != inputs.shape:
            conv = self.conv(4 * self.features, (1, 1), strides=self.stride)
            inputs = self.norm()(conv(inputs))
        return nn.relu(hidden + inputs)


class ResNet50(nn.Module):
    """Grey images, float [B, H, W, 1], to the last level.

    Attributes:
      dtype: Of the computation.
      output_stride: 32, or 16 or 8 with dilation in place of strides.
      depths: Blocks of each level.
    """

    dtype: Any
    output_stride: int = 32
    depths: tuple[int, ...] = (3, 4, 6, 3)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """The last level, [B, H / output_stride, W / output_stride, 2048]."""
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype
        )
        hidden = jnp.repeat(image.astype(self.dtype), 3, -1)
        hidden = conv(64, (7, 7), strides=2, padding=3)(hidden)
        hidden = nn.relu(norm()(hidden))
        hidden = nn.max_pool(hidden, (3, 3), (2, 2), ((1, 1), (1, 1)))
        stride, dilation = 4, 1
        for level, depth in enumerate(self.depths):
            first_stride, first_dilation = 1, dilation
            if level and stride < self.output_stride:
                first_stride, stride = 2, 2 * stride
            elif level:
                dilation *= 2
            for index in range(depth):
                hidden = Bottleneck(
                    64 * 2**level,
                    stride=1 if index else first_stride,
                    dilation=dilation if index else first_dilation,
                    conv=conv,
                    norm=norm,
                )(hidden)
        return hidden


class Classifier(nn.Module):
    """ResNet-50 and a dense layer."""

    outputs: int
    dtype: Any

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, H, W, 1] to logits, float32 [B, outputs]."""
        level = ResNet50(self.dtype)(image, train=train)
        return nn.Dense(self.outputs)(level.astype(jnp.float32).mean((1, 2)))


class Embedding(nn.Module):
    """ResNet-50 and the projection of MoCo v2."""

    outputs: int
    dtype: Any

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, H, W, 1] to unit length, float32 [B, outputs]."""
        level = ResNet50(self.dtype)(image, train=train)
        pooled = level.astype(jnp.float32).mean((1, 2))
        hidden = nn.Dense(self.outputs)(nn.relu(nn.Dense(2048)(pooled)))
        return hidden / jnp.linalg.norm(hidden, axis=-1, keepdims=True)


class DeepLabV3(nn.Module):
    """ResNet-50, an atrous spatial pyramid, and a classifier of pixels."""

    classes: int
    rates: tuple[int, ...]
    output_stride: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, S, S, 1] to logits, float32 [B, S, S, classes]."""

        def block(inputs: jax.Array, size: int, rate: int) -> jax.Array:
            conv = nn.Conv(
                256,
                (size, size),
                kernel_dilation=rate,
                padding=rate * (size // 2),
                use_bias=False,
                dtype=self.dtype,
            )
            norm = nn.BatchNorm(not train, momentum=0.9, dtype=self.dtype)
            return nn.relu(norm(conv(inputs)))

        level = ResNet50(self.dtype, self.output_stride)(image, train=train)
        branches = [block(level, 1, 1)]
        branches += [block(level, 3, rate) for rate in self.rates]
        pooled = block(level.mean((1, 2), keepdims=True), 1, 1)
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        hidden = block(jnp.concatenate(branches, -1), 1, 1)
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        hidden = block(hidden, 3, 1)
        logits = nn.Conv(self.classes, (1, 1))(hidden.astype(jnp.float32))
        shape = (*image.shape[:3], self.classes)
        return jax.image.resize(logits, shape, "bilinear")
