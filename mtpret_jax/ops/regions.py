"""Regions of a feature pyramid: anchors, and the level that a region is read from.

Boxes are x0, y0, x1, y1 in pixels of the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax.ops import boxes

Array = jax.Array

# An anchor of 32 pixels on the finest level goes with a canonical size of 224 there.
CANONICAL_PER_ANCHOR = 224.0 / 32.0


def anchors(
    grids: Sequence[tuple[int, int]],
    *,
    strides: Sequence[float],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> tuple[np.ndarray, ...]:
    """Lays anchor boxes on every position of every level.

    Corners of the cell anchors are rounded to whole pixels and centred on the
    position's index times the stride, without half a stride added.

    Args:
      grids: Height and width of each level, positions.
      strides: Pixels between two positions of each level.
      sizes: Sides of the square anchors, pixels, finest level first; of each level
        as many.
      ratios: Height divided by width.

    Returns:
      For each level float32 [height * width * ratios * sizes, 4], pixels; rows first,
      then columns, then ratios, then its sizes. NumPy, so constants of a compiled step.

    Source:
      torchvision's AnchorGenerator.
    """
    each = len(sizes) // max(1, len(grids))
    if not (len(grids) == len(strides) and each * len(grids) == len(sizes) > 0):
        raise ValueError(
            "Anchors need one stride and as many sizes for each level; got "
            f"{len(grids)} levels, {len(strides)} strides and {len(sizes)} sizes."
        )
    root = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    rows = np.asarray(sizes, np.float32).reshape(len(grids), each)
    levels = []
    for (height, width), stride, size in zip(grids, strides, rows, strict=True):
        half_width, half_height = (
            side.ravel() for side in (size / root / 2, size * root / 2)
        )
        cell = np.round(
            np.stack([-half_width, -half_height, half_width, half_height], axis=-1)
        )
        y, x = np.meshgrid(
            np.arange(height) * stride, np.arange(width) * stride, indexing="ij"
        )
        centre = np.stack([x, y, x, y], axis=-1)[:, :, None, :]
        anchor = centre + cell[None, None, :, :]
        levels.append(anchor.reshape(-1, 4).astype(np.float32))
    return tuple(levels)


def assign_levels(box: Array, *, level_count: int, finest_anchor: float) -> Array:
    """Chooses the pyramid level from which a region's features are read.

    floor(4 + log2(sqrt(area) / 224)), cut to P2 and above, for anchors that start at
    32 pixels. The 224 shrinks with the anchors, so that a region comes from the same
    level whether an image is given large with large anchors or small with small ones.

    Args:
      box: Pixels [..., 4].
      level_count: Levels to choose from, P2 first.
      finest_anchor: Anchor size of P2, pixels.

    Returns:
      Index of the level, 0 for P2, int32 [...].

    Source:
      Lin et al. 2017, "Feature Pyramid Networks", eq. 1.
    """
    canonical = CANONICAL_PER_ANCHOR * finest_anchor
    side = jnp.sqrt(jnp.maximum(boxes.area(box), 1e-12))
    level = jnp.floor(4.0 + jnp.log2(side / canonical) + 1e-6)
    return jnp.clip(level.astype(jnp.int32) - 2, 0, level_count - 1)
