"""Heat maps: for each landmark a map of where it may be, on a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtpret_jax.models import normalisation, pyramid, vit_pyramid


class HeatMaps(nn.Module):
    """Levels of a backbone to logits of every cell of the finest.

    P2 to P5 of a feature pyramid are enlarged to P2 and added; two convolutions and
    one of size 1 follow.

    Attributes:
      points: P, how many landmarks.
      channels: Width of the pyramid and of the convolutions.
      dtype: What layers compute in; logits are float32.
      batch_norm_rows: Examples that have statistics of their own; 0: the batch.

    Source: Kirillov et al. 2019, "Panoptic feature pyramid networks", whose branch for
    masks adds levels. Differs: levels have one convolution each, that of the pyramid.
    """

    points: int
    channels: int
    dtype: jax.typing.DTypeLike = jnp.float32
    batch_norm_rows: int = 0

    @nn.compact
    def __call__(self, levels: Sequence[jax.Array], *, train: bool) -> jax.Array:
        """Maps C2 to C5, or the one map of a ViT, to float32 [B, H/4, W/4, P]."""
        if len(levels) == 1:
            make = vit_pyramid.ViTPyramid(dtype=self.dtype, name="vit_pyramid")
            levels = make(levels[0])
        fpn = pyramid.FeaturePyramid(self.channels, dtype=self.dtype, name="fpn")
        finest, *coarser, _ = fpn(levels)
        hidden = finest
        for level in coarser:
            hidden += jax.image.resize(level, finest.shape, "bilinear")
        for number in (1, 2):
            hidden = nn.Conv(
                self.channels,
                (3, 3),
                padding=1,
                use_bias=False,
                dtype=self.dtype,
                name=f"conv{number}",
            )(hidden)
            norm = normalisation.BatchNorm(
                rows=self.batch_norm_rows, dtype=self.dtype, name=f"bn{number}"
            )
            hidden = nn.relu(norm(hidden, train=train))
        return nn.Conv(self.points, (1, 1), name="final")(hidden.astype(jnp.float32))
