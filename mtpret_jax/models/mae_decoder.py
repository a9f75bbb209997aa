"""Draws the hidden patches of an image from the features of those that were seen."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax.models import vit, vit_families

_INIT = nn.initializers.truncated_normal(0.02)


class Decoder(nn.Module):
    """Blocks of a ViT over all places, of which some hold what was seen.

    Attributes:
      width: Channels of its tokens; a multiple of 4 and of `heads`.
      depth: Number of blocks.
      heads: Heads of their attention.
      pixels: Pixels of a patch.

    Source: He et al. 2022, "Masked autoencoders are scalable vision learners". Differs:
    what stands for the whole image takes the place of the class token, so that an
    encoder that pools otherwise learns it, too.
    """

    width: int
    depth: int
    heads: int
    pixels: int

    @nn.compact
    def __call__(
        self,
        pooled: jax.Array,
        seen: jax.Array,
        order: jax.Array,
        grid: tuple[int, int],
    ) -> jax.Array:
        """Predicts every patch.

        Args:
          pooled: What stands for the image, float [B, D].
          seen: Features of the patches that were seen, float [B, n, D].
          order: All patches, counted row by row, those that were seen first, int32
            [B, rows * columns].
          grid: Rows and columns of patches.

        Returns:
          float32 [B, rows * columns, pixels].
        """
        embed = nn.Dense(self.width, kernel_init=_INIT, name="embed")
        hidden = self.param("hidden", _INIT, (self.width,))
        shape = (len(order), order.shape[1] - seen.shape[1], self.width)
        cells = jnp.concatenate(
            [embed(seen.astype(jnp.float32)), jnp.broadcast_to(hidden, shape)], 1
        )
        place = jnp.argsort(order, axis=1)[..., None]
        cells = jnp.take_along_axis(cells, place, axis=1)
        cells = cells + jnp.asarray(sine_positions(grid, self.width))[None]
        first = embed(pooled.astype(jnp.float32))[:, None]
        tokens = jnp.concatenate([first, cells], 1)
        family = vit_families.FAMILIES[vit_families.DEFAULT]
        for index in range(self.depth):
            block = vit.Block(
                family, self.heads, None, jnp.float32, name=f"blocks_{index}"
            )
            tokens = block(tokens, None)
        tokens = nn.LayerNorm(name="norm")(tokens[:, 1:])
        return nn.Dense(self.pixels, kernel_init=_INIT, name="pixels")(tokens)


def sine_positions(grid: tuple[int, int], width: int) -> np.ndarray:
    """Sines and cosines of each place, half of them of its row: float32 [N, width].

    Source: Vaswani et al. 2017, for either axis, as He et al. 2022 have it.
    """
    quarter = width // 4
    frequency = 10_000.0 ** (-np.arange(quarter) / quarter)
    row, column = np.indices(grid).reshape(2, -1, 1) * frequency
    parts = [np.sin(row), np.cos(row), np.sin(column), np.cos(column)]
    return np.concatenate(parts, 1).astype(np.float32)
