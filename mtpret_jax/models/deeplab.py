"""DeepLabV3: an atrous spatial pyramid on the last level, and a classifier of pixels.

Parameters carry torchvision's names (`classifier.0.convs.1.0.weight` is
`convs_1_0/kernel`, `classifier.1` is `conv`, `classifier.4` is `classifier`).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtpret_jax.models import normalisation


class DeepLabV3(nn.Module):
    """Features of the last level to logits of every pixel.

    Attributes:
      classes: Of the mask, background included.
      channels: Of the pyramid and the last hidden layer.
      rates: Dilation rates of the three atrous branches, in cells of the level.
      dropout: Fraction of the pyramid's result dropped in training.
      image_size: Side of the square result, pixels.
      dtype: Of the computation; logits are float32.

    Source: Chen et al. 2017, "Rethinking atrous convolution"; layers as torchvision's.
    """

    classes: int
    channels: int
    rates: tuple[int, ...]
    dropout: float
    image_size: int
    dtype: jnp.dtype = jnp.float32

    def _conv_norm(
        self, inputs: jax.Array, size: int, rate: int, name: str, train: bool
    ) -> jax.Array:
        pad = rate * (size // 2)
        hidden = nn.Conv(
            self.channels,
            (size, size),
            kernel_dilation=rate,
            padding=((pad, pad), (pad, pad)),
            use_bias=False,
            dtype=self.dtype,
            name=f"{name}_0",
        )(inputs)
        norm = normalisation.BatchNorm(dtype=self.dtype, name=f"{name}_1")
        return nn.relu(norm(hidden, train=train))

    @nn.compact
    def __call__(self, level: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, H/s, W/s, C] to logits, float32 [B, image_size, image_size, S]."""
        shape = level.shape
        branches = [self._conv_norm(level, 1, 1, "convs_0", train)]
        for index, rate in enumerate(self.rates):
            name = f"convs_{index + 1}"
            branches.append(self._conv_norm(level, 3, rate, name, train))
        pooled = level.mean((1, 2), keepdims=True)
        pooled = self._conv_norm(pooled, 1, 1, f"convs_{len(self.rates) + 1}", train)
        branches.append(jnp.broadcast_to(pooled, (*shape[:3], self.channels)))
        hidden = self._conv_norm(jnp.concatenate(branches, -1), 1, 1, "project", train)
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        hidden = self._conv_norm(hidden, 3, 1, "conv", train)
        logits = nn.Conv(self.classes, (1, 1), name="classifier")(
            hidden.astype(jnp.float32)
        )
        size = (shape[0], self.image_size, self.image_size, self.classes)
        return jax.image.resize(logits, size, "bilinear")
