"""Feature pyramid network: backbone levels to levels of one width.

Parameters map one to one to torchvision's `backbone.fpn`: `inner_blocks_0` is
`inner_blocks.0.0`, `layer_blocks_0` is `layer_blocks.0.0`, finest level first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax.ops import regions

# Pixels between two positions of P2 to P5.
STRIDES = (4, 8, 16, 32)
FINEST = 2  # number of the first of them


class FeaturePyramid(nn.Module):
    """C2 to C5 in, P2 to P6 out; or from C3, or to P7.

    A 1x1 convolution of each level, the level above enlarged to it (nearest) and
    added, a 3x3 convolution. P6 is every second position of P5; or P6 and P7 are
    convolutions of stride 2 of C5 (of P5, where it is as wide) and of P6.

    Attributes:
      channels: Width of every output level.
      convolved: Whether P6 and P7 are convolutions.
      dtype: What layers compute in.

    Source: Lin et al. 2017, "Feature Pyramid Networks"; no normalisation, and P6 by
    subsampling, as in torchvision; and its LastLevelP6P7.
    """

    channels: int
    convolved: bool = False
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        """Maps levels [B, H/s, W/s, C], finest first, to more of `channels`."""
        inner = [
            self._conv(1, f"inner_blocks_{i}")(level) for i, level in enumerate(levels)
        ]
        for i in reversed(range(len(inner) - 1)):
            inner[i] += enlarge(inner[i + 1], like=inner[i])
        outputs = [
            self._conv(3, f"layer_blocks_{i}")(level) for i, level in enumerate(inner)
        ]
        if not self.convolved:
            return (*outputs, outputs[-1][:, ::2, ::2])
        above = outputs[-1] if levels[-1].shape[-1] == self.channels else levels[-1]
        p6 = self._conv(3, "extra_blocks_p6", stride=2)(above)
        p7 = self._conv(3, "extra_blocks_p7", stride=2)(nn.relu(p6))
        return (*outputs, p6, p7)

    def _conv(self, size: int, name: str, *, stride: int = 1) -> nn.Conv:
        return nn.Conv(
            self.channels,
            (size, size),
            stride,
            padding=size // 2,
            kernel_init=nn.initializers.lecun_uniform(),
            dtype=self.dtype,
            name=name,
        )


def strides_of(levels: Sequence[jax.Array], image_size: int) -> tuple[float, ...]:
    """Pixels between two positions of P2 to P5, of a ViT's one map parts of a patch.

    Args:
      levels: A backbone's, each [B, h, w, C]: C2 to C5, or one.
      image_size: Side of the square input, pixels.
    """
    if len(levels) > 1:
        return STRIDES
    patch = image_size / levels[0].shape[1]
    return (patch / 4, patch / 2, patch, 2 * patch)


def anchor_strides(
    image_size: int, *, strides: Sequence[float] = STRIDES, coarser: int = 1
) -> tuple[float, ...]:
    """Pixels between two anchors of each level, for the side of a square input.

    For a level that a pyramid adds torchvision divides the input by the number of
    positions, which gives less than 64 pixels for P6 where that number was rounded
    up: 56 for 224 pixels.

    Args:
      image_size: Side of the square input, pixels.
      strides: Those of the levels that come from a backbone, finest first.
      coarser: How many levels are added.

    Source: torchvision's AnchorGenerator; equal to it where 32 divides `image_size`,
    and torchvision pads other pictures until it does.
    """
    last = positions = math.ceil(image_size / strides[-1])
    added = []
    for _ in range(coarser):
        positions = math.ceil(positions / 2)
        added.append(strides[-1] * last // positions)
    return (*strides, *added)


def anchors(
    levels: Sequence[jax.Array],
    *,
    image_size: int,
    strides: Sequence[float],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> tuple[np.ndarray, ...]:
    """Anchors of every level of a pyramid; see `regions.anchors`.

    Args:
      levels: The pyramid, [B, h, w, C]: its sizes alone count.
      image_size: Side of the square input, pixels.
      strides: Those of the levels that come from a backbone, pixels.
      sizes: As `regions.anchors` takes them.
      ratios: Height divided by width.
    """
    return regions.anchors(
        [(level.shape[1], level.shape[2]) for level in levels],
        strides=anchor_strides(
            image_size, strides=strides, coarser=len(levels) - len(strides)
        ),
        sizes=sizes,
        ratios=ratios,
    )


def enlarge(level: jax.Array, *, like: jax.Array) -> jax.Array:
    """Doubles a level by nearest neighbour, cut to the size of the level below.

    A level of odd size has one position less than twice the level above, so the last
    row or column is cut off.

    Args:
      level: [B, h, w, C].
      like: [B, H, W, C] with H in (2 h - 1, 2 h), and W in the same way.

    Returns:
      [B, H, W, C].
    """
    height, width = like.shape[1:3]
    for fine, coarse in ((height, level.shape[1]), (width, level.shape[2])):
        if (fine + 1) // 2 != coarse:
            raise ValueError(
                "A pyramid needs levels that halve in size, rounding up; got "
                f"{level.shape[1:3]} above {like.shape[1:3]}. Use a backbone with "
                "strides 4, 8, 16, 32 (output_stride=32)."
            )
    double = jnp.repeat(jnp.repeat(level, 2, axis=1), 2, axis=2)
    return double[:, :height, :width]
