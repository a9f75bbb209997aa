"""From heat maps to points, and how far maps and points are from the truth.

A map's softmax over its cells is where a landmark may be; its mean is the landmark.

Source: Nibali et al. 2018, "Numerical coordinate regression with convolutional neural
networks": the mean of a softmax as coordinates (DSNT), trained by their distance and by
how far the map is from a small Gaussian. Differs: that is told by the Kullback-Leibler
divergence from the Gaussian to the map, which stays steep where a map is nowhere near
the point; Jensen-Shannon's does not. Distances are in cells and not in half sides.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array
_NEAR = 1e-6  # squared cells; keeps the slope of a distance of zero finite


def read(logits: Array) -> tuple[Array, Array]:
    """Reads points off heat maps.

    Args:
      logits: float32 [B, H, W, P].

    Returns:
      Points as y, x, fractions of height and width, float32 [B, P, 2]; and the standard
      deviation of each map about its point, as a fraction of the side, float32 [B, P].
    """
    height, width = logits.shape[1:3]
    share = jax.nn.softmax(logits, (1, 2))
    y, x = _centres(height), _centres(width)
    down, across = share.sum(2), share.sum(1)  # [B, H, P] and [B, W, P]
    point = jnp.stack([_mean(down, y), _mean(across, x)], -1)
    square = jnp.stack([_mean(down, y**2), _mean(across, x**2)], -1)
    spread = jnp.sqrt(jnp.maximum((square - point**2).sum(-1), 0.0))
    return point, spread


def loss(
    logits: Array,
    point: Array,
    known: Array,
    *,
    deviation: float,
    distance_weight: float,
) -> Array:
    """Divergence of maps from Gaussians about the truth, and distance of their means.

    Args:
      logits: float32 [B, H, W, P].
      point: y, x as fractions, float32 [B, P, 2]; anything where unknown.
      known: bool [B, P].
      deviation: Standard deviation of the Gaussians, cells, above 0.
      distance_weight: Factor of the distance, at least 0.

    Returns:
      Mean over the known points of an example, in nats and cells, float32 [B]; 0
      where none is known.
    """
    height, width = logits.shape[1:3]
    cells = jnp.array([[[height, width]]], jnp.float32)
    point = jnp.where(known[..., None], point, 0.5)
    down = _bump(point[..., 0], height, deviation)  # [B, H, P], logarithms
    across = _bump(point[..., 1], width, deviation)
    wanted = down[:, :, None] + across[:, None]
    found = jax.nn.log_softmax(logits, (1, 2))
    divergence = (jnp.exp(wanted) * (wanted - found)).sum((1, 2))
    away = (read(logits)[0] - point) * cells
    distance = jnp.sqrt(jnp.square(away).sum(-1) + _NEAR)
    each = divergence + distance_weight * distance
    count = known.sum(-1).astype(jnp.float32)
    return jnp.where(known, each, 0.0).sum(-1) / jnp.maximum(count, 1.0)


def _centres(cells: int) -> Array:
    """Centres of the cells along a side, fractions of it, float32 [cells]."""
    return (jnp.arange(cells, dtype=jnp.float32) + 0.5) / cells


def _mean(share: Array, place: Array) -> Array:
    """Mean of places [cells] by their shares [B, cells, P], [B, P]."""
    return (share * place[None, :, None]).sum(1)


def _bump(place: Array, cells: int, deviation: float) -> Array:
    """Logarithm of a Gaussian over cells, whose exponentials add up to 1.

    Args:
      place: Its mean, a fraction of the side, [B, P].
      cells: Along the side.
      deviation: In cells.

    Returns:
      float32 [B, cells, P].
    """
    away = (_centres(cells)[None, :, None] - place[:, None]) * cells / deviation
    return jax.nn.log_softmax(-jnp.square(away) / 2, 1)
