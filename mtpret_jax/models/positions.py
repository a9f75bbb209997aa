"""Where a patch is: learned positions resampled to another grid, and rotary angles.

Everything that depends on sizes alone is computed with NumPy while a program is traced,
so a compiled step holds it as constants.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

Grid = tuple[int, int]
_EVA_BASE = 10_000.0
_DINOV3_BASE = 100.0


def resample(table: jax.Array, grid: Grid, *, antialias: bool) -> jax.Array:
    """Learned positions of a square grid for another grid, by cubic interpolation.

    Args:
      table: float [n * n, D], row by row.
      grid: Rows and columns wanted.
      antialias: Whether the kernel widens where the grid shrinks; see `cubic_weights`.

    Returns:
      float [rows * columns, D]; the table itself where the grid is the same.

    Raises:
      ValueError: If the table does not belong to a square grid.
    """
    side = math.isqrt(len(table))
    if side * side != len(table):
        raise ValueError(
            f"positions: {len(table)} learned positions are not a square grid."
        )
    if grid == (side, side):
        return table
    rows, columns = (cubic_weights(side, n, antialias=antialias) for n in grid)
    square = table.astype(jnp.float32).reshape(side, side, -1)
    # Precision: on a TPU the products would be rounded to bfloat16 by default.
    wide = jnp.einsum(
        "yi,xj,ijd->yxd", rows, columns, square, precision=jax.lax.Precision.HIGHEST
    )
    return wide.reshape(grid[0] * grid[1], -1).astype(table.dtype)


def cubic_weights(old: int, new: int, *, antialias: bool) -> np.ndarray:
    """Weights of `old` samples in each of `new`, float32 [new, old].

    Pixel centres are at 0.5. Without `antialias` the kernel has the parameter -0.75 and
    samples beyond the border repeat the last one. With it, the parameter is -0.5, the
    kernel is as wide as the step where that is above 1, and weights beyond the border
    are dropped and the others scaled to a sum of 1, in both directions.

    Source: Keys 1981; both as PyTorch's `interpolate(mode="bicubic")` has them.
    """
    step = old / new
    centre = (np.arange(new)[:, None] + 0.5) * step
    if antialias:
        width = max(step, 1.0)
        # The border of the kernel's window, rounded as PyTorch rounds it.
        first = np.maximum(np.floor(centre - 2 * width + 0.5), 0)
        last = np.minimum(np.floor(centre + 2 * width + 0.5), old)
        place = np.arange(old)[None]
        weights = _keys((place + 0.5 - centre) / width, -0.5)
        weights = np.where((place >= first) & (place < last), weights, 0.0)
        return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    start = np.floor(centre - 0.5).astype(int)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        place = start + offset
        share = _keys(place + 0.5 - centre, -0.75)
        np.add.at(weights, (np.arange(new)[:, None], np.clip(place, 0, old - 1)), share)
    return weights.astype(np.float32)


def _keys(distance: np.ndarray, a: float) -> np.ndarray:
    """The cubic kernel at a distance in samples, with parameter `a`."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def eva_angles(grid: Grid, head_size: int, reference: int) -> np.ndarray:
    """Angles by which EVA-02 turns queries and keys, float32 [patches, head_size].

    A patch's row and column are given on the grid of pre-training, so another input
    size means finer steps and not new places. Neighbouring channels are a pair.

    Args:
      grid: Rows and columns of patches.
      head_size: Channels of a head, a multiple of 4.
      reference: Rows (and columns) of the grid of pre-training.

    Source: Fang et al. 2023, "EVA-02"; Su et al. 2021, "RoFormer".
    """
    quarter = head_size // 4
    bands = _EVA_BASE ** -(np.arange(quarter) / quarter)
    places = [np.arange(side) / side * reference for side in grid]
    return np.repeat(_both_axes(places, bands), 2, axis=1)


def dinov3_angles(grid: Grid, head_size: int) -> np.ndarray:
    """Angles by which DINOv3 turns queries and keys, float32 [patches, head_size].

    Centres of patches lie in [-1, 1] of the image on both axes, whatever the grid. The
    channels of a pair are half a head apart.

    Args:
      grid: Rows and columns of patches.
      head_size: Channels of a head, a multiple of 4.

    Source: Siméoni et al. 2025, "DINOv3". Differs: no random shift or scale of the
    coordinates in training, which was part of that paper's pre-training.
    """
    quarter = head_size // 4
    bands = 2 * math.pi * _DINOV3_BASE ** -(np.arange(quarter) / quarter)
    places = [2 * (np.arange(side) + 0.5) / side - 1 for side in grid]
    return np.tile(_both_axes(places, bands), 2)


def _both_axes(places: list[np.ndarray], bands: np.ndarray) -> np.ndarray:
    """Rows' and columns' coordinates times bands, float32 [patches, 2 * bands]."""
    coordinates = np.stack(np.meshgrid(*places, indexing="ij"), -1)
    angles = coordinates[..., None] * bands
    return angles.reshape(-1, 2 * len(bands)).astype(np.float32)


def rotate(heads: jax.Array, angles: np.ndarray, *, paired: bool) -> jax.Array:
    """Turns the last tokens of each head by their patches' angles.

    Args:
      heads: Queries or keys, float [B, tokens, heads, head_size]; tokens that are not
        patches come first and stay as they are.
      angles: float32 [patches, head_size].
      paired: Whether neighbouring channels are a pair (EVA-02), and not those half a
        head apart (DINOv3).

    Returns:
      The same shape and type.
    """
    first = heads.shape[1] - len(angles)
    still, turning = heads[:, :first], heads[:, first:].astype(jnp.float32)
    if paired:
        pairs = turning.reshape(*turning.shape[:-1], -1, 2)
        across = jnp.stack([-pairs[..., 1], pairs[..., 0]], -1).reshape(turning.shape)
    else:
        near, far = jnp.split(turning, 2, axis=-1)
        across = jnp.concatenate([-far, near], -1)
    cos, sin = np.cos(angles)[None, :, None], np.sin(angles)[None, :, None]
    turned = turning * cos + across * sin
    return jnp.concatenate([still, turned.astype(heads.dtype)], 1)
