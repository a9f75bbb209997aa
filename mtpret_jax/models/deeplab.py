"""DeepLabV3: an atrous spatial pyramid on the last level, and a classifier of pixels.

Parameters carry torchvision's names (`classifier.0.convs.1.0.weight` is
`convs_1_0/kernel`, `classifier.1` is `conv_0`, `classifier.2` is `conv_1`,
`classifier.4` is `classifier`, `aux_classifier.0` is `aux_classifier_0`).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtpret_jax import types
from mtpret_jax.models import normalisation


class DeepLabV3(nn.Module):
    """Features to logits of every pixel; with an auxiliary head, twice.

    Attributes:
      classes: Number of classes of the mask, background included.
      channels: Width of the pyramid and the last hidden layer.
      rates: Dilation rates of the atrous branches, in cells of the last level.
      dropout: Fraction of the pyramid's result dropped in training, and of the
        auxiliary head's.
      auxiliary_weight: Weight of the loss of a head on C4, beside 1.0; 0: no head.
      image_size: Side of the square result, pixels.
      dtype: What layers compute in; logits are float32.
      batch_norm_rows: Examples that have statistics of their own; 0: the batch.

    Source: Chen et al. 2017, "Rethinking atrous convolution"; layers as torchvision's,
    the auxiliary head as its `FCNHead`. Differs: one dropout for both (torchvision: 0.5
    in the pyramid, 0.1 in the auxiliary head).
    """

    classes: int
    channels: int
    rates: tuple[int, ...]
    dropout: float
    auxiliary_weight: float
    image_size: int
    dtype: jax.typing.DTypeLike = jnp.float32
    batch_norm_rows: int = 0

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """Of the loss of each result, the main one first."""
        return (1.0, self.auxiliary_weight) if self.auxiliary_weight else (1.0,)

    @property
    def prediction_weights(self) -> tuple[float, ...]:
        """Of each result's probabilities; the auxiliary head helps only to train."""
        return (1.0, 0.0) if self.auxiliary_weight else (1.0,)

    def _conv_norm(
        self,
        inputs: jax.Array,
        size: int,
        rate: int,
        name: str,
        train: bool,
        *,
        channels: int | None = None,
    ) -> jax.Array:
        pad = rate * (size // 2)
        hidden = nn.Conv(
            channels or self.channels,
            (size, size),
            kernel_dilation=rate,
            padding=((pad, pad), (pad, pad)),
            use_bias=False,
            dtype=self.dtype,
            name=f"{name}_0",
        )(inputs)
        norm = normalisation.BatchNorm(
            rows=self.batch_norm_rows, dtype=self.dtype, name=f"{name}_1"
        )
        return nn.relu(norm(hidden, train=train))

    def _logits(self, hidden: jax.Array, name: str) -> jax.Array:
        """The last layer, enlarged: [B, h, w, C] to [B, image_size, image_size, S]."""
        logits = nn.Conv(self.classes, (1, 1), name=name)(hidden.astype(jnp.float32))
        size = (hidden.shape[0], self.image_size, self.image_size, self.classes)
        return jax.image.resize(logits, size, "bilinear")

    @nn.compact
    def __call__(
        self, features: types.Features, *, train: bool
    ) -> tuple[jax.Array, ...]:
        """Logits, each float32 [B, image_size, image_size, S]: main, then auxiliary."""
        level = features.levels[-1]
        branches = [self._conv_norm(level, 1, 1, "convs_0", train)]
        for index, rate in enumerate(self.rates):
            name = f"convs_{index + 1}"
            branches.append(self._conv_norm(level, 3, rate, name, train))
        pooled = level.mean((1, 2), keepdims=True)
        pooled = self._conv_norm(pooled, 1, 1, f"convs_{len(self.rates) + 1}", train)
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        hidden = self._conv_norm(jnp.concatenate(branches, -1), 1, 1, "project", train)
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        hidden = self._conv_norm(hidden, 3, 1, "conv", train)
        results = [self._logits(hidden, "classifier")]
        if self.auxiliary_weight:
            level = features.levels[-2]
            hidden = self._conv_norm(
                level, 3, 1, "aux_classifier", train, channels=level.shape[-1] // 4
            )
            hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
            results.append(self._logits(hidden, "aux_classifier_4"))
        return tuple(results)
