"""Levels of several strides from the one map of a vision transformer.

Its parameters belong to the head that wants levels, not to the backbone: published
files do not have them, and heads of other tasks need not share them.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class ViTPyramid(nn.Module):
    """One map of stride p to levels of p/8, p/4, p/2, p and 2p, or the last of them.

    Enlarging halves the channels: D become D/2, D/4 and D/8.

    Attributes:
      count: How many of them, 3 to 5; the fifth is in place of a backbone's stem.
      dtype: What layers compute in.

    Source: Li et al. 2022, "Exploring plain vision transformer backbones for object
    detection". Differs: no convolutions to a common width, which `pyramid` and
    `unetplusplus` have themselves; a map of odd size is halved rounding up, as theirs.
    """

    count: int = 4
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, level: jax.Array) -> tuple[jax.Array, ...]:
        """Maps [B, h, w, D] to `count` levels, finest first."""
        level = level.astype(self.dtype)
        half = self._enlarged(level, "up_2")
        double = nn.max_pool(level, (2, 2), (2, 2), padding="SAME")
        if self.count < 4:
            return half, level, double
        hidden = self._enlarged(level, "up_4_0")
        quarter = self._enlarged(self._activated(hidden, "up_4_norm"), "up_4_1")
        if self.count < 5:
            return quarter, half, level, double
        stem = self._enlarged(self._activated(quarter, "up_8_norm"), "up_8")
        return stem, quarter, half, level, double

    def _enlarged(self, level: jax.Array, name: str) -> jax.Array:
        """Twice the size and half the channels, by a transposed convolution.

        Its kernel is as wide as its stride, so it is a dense layer whose outputs are
        laid side by side; XLA would convolve a map full of zeros.
        """
        batch, height, width, channels = level.shape
        outputs = channels // 2
        dense = nn.DenseGeneral((2, 2, outputs), dtype=self.dtype, name=name)
        wide = dense(level).transpose(0, 1, 3, 2, 4, 5)
        return wide.reshape(batch, 2 * height, 2 * width, outputs)

    def _activated(self, level: jax.Array, name: str) -> jax.Array:
        norm = nn.LayerNorm(1e-6, dtype=self.dtype, use_fast_variance=False, name=name)
        return nn.gelu(norm(level), approximate=False)
