"""Stochastic depth: residual branches that training leaves out at random.

Draws are made outside a network and handed to it, so that it stays a pure function of
arrays, whether or not activations are computed again, and a test can hand in its own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def rates(rate: float, blocks: int) -> np.ndarray:
    """Probabilities that each block's branches are left out, float32 [blocks].

    They rise evenly from 0 at the first block to `rate`, [0, 1), at the last.

    Source: Huang et al. 2016, "Deep networks with stochastic depth"; spaced as in timm
    and torchvision.
    """
    return np.linspace(0.0, rate, blocks, dtype=np.float32)


def draw(
    key: jax.Array, rate: float, branches: tuple[int, int], examples: int
) -> jax.Array:
    """Draws for each residual branch and example how often it counts.

    Args:
      key: Random key.
      rate: Probability that a branch of the last block is left out, [0, 1).
      branches: Blocks of the network and branches of each; see `types.Backbone`.
      examples: Images of the global batch, so that any number of devices draws alike.

    Returns:
      float32 [blocks, branches, examples]: 0 where the branch is left out, otherwise
      1 / (1 - its probability), so that the mean stays.
    """
    keep = 1 - rates(rate, branches[0])[:, None, None]
    return jax.random.bernoulli(key, keep, (*branches, examples)) / jnp.asarray(keep)


def scaled(branch: jax.Array, factor: jax.Array | None) -> jax.Array:
    """A branch [B, ...] times its examples' factors [B]; None leaves it as it is."""
    if factor is None:
        return branch
    shape = (-1,) + (1,) * (branch.ndim - 1)
    return branch * factor.astype(branch.dtype).reshape(shape)
