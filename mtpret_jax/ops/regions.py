"""Regions of a feature pyramid: anchors, alignment, non-maximum suppression.

Boxes are x0, y0, x1, y1 in pixels of the input. Every output has a fixed size, with a
flag where a slot may be empty. Functions of one image; `jax.vmap` them over a batch,
except `align`, which takes a batch.
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
    strides: Sequence[int],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> tuple[np.ndarray, ...]:
    """Lays anchor boxes on every position of every level.

    Corners of the cell anchors are rounded to whole pixels and centred on the
    position's index times the stride, without half a stride added.

    Args:
      grids: Height and width of each level, positions.
      strides: Pixels between two positions of each level.
      sizes: Side of the square anchor of each level, pixels.
      ratios: Height divided by width.

    Returns:
      For each level float32 [height * width * len(ratios), 4], pixels; rows first,
      then columns, then ratios. NumPy, so constants of a compiled step.

    Source:
      torchvision's AnchorGenerator.
    """
    if not len(grids) == len(strides) == len(sizes):
        raise ValueError(
            "Anchors need one stride and one size for each level; got "
            f"{len(grids)} levels, {len(strides)} strides and {len(sizes)} sizes."
        )
    root = np.sqrt(np.asarray(ratios, np.float32))
    levels = []
    for (height, width), stride, size in zip(grids, strides, sizes, strict=True):
        half_width, half_height = size / root / 2, size * root / 2
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


def align(
    levels: Sequence[Array],
    box: Array,
    *,
    strides: Sequence[int],
    finest_anchor: float,
    size: int = 7,
    sampling: int = 2,
) -> Array:
    """Cuts regions out of a pyramid, resampled to a square grid (RoIAlign).

    Each bin is the mean of `sampling` squared bilinear samples, of one level. The
    box is not moved by half a pixel ("aligned=False"), and counts as one position
    wide at least. Samples are gathered from all levels joined into one array.

    Args:
      levels: P2 and above, each float [B, height, width, C].
      box: Pixels [B, N, 4]. No gradient flows to it from floor and cut; the caller
        stops the rest.
      strides: Pixels between two positions of each level.
      finest_anchor: Anchor size of P2, pixels; see `assign_levels`.
      size: Bins on a side.
      sampling: Samples on a side of a bin.

    Returns:
      [B, N, size, size, C] in the type of the levels.

    Source:
      He et al. 2017, "Mask R-CNN", section 3, with the border rules of
      torchvision's compiled operator.
    """
    batch, channels = levels[0].shape[0], levels[0].shape[-1]
    grids = np.array([level.shape[1:3] for level in levels])
    starts = np.concatenate([[0], np.cumsum(grids.prod(axis=1))])
    joined = jnp.concatenate(
        [level.reshape(batch, -1, channels) for level in levels], axis=1
    )
    joined = joined.astype(jnp.float32)

    chosen = assign_levels(box, level_count=len(levels), finest_anchor=finest_anchor)
    scale = jnp.asarray(1.0 / np.array(strides), jnp.float32)[chosen]
    height = jnp.asarray(grids[:, 0], jnp.int32)[chosen]
    width = jnp.asarray(grids[:, 1], jnp.int32)[chosen]
    start = jnp.asarray(starts[:-1], jnp.int32)[chosen]

    scaled = box.astype(jnp.float32) * scale[..., None]
    row, row_weight = (
        jnp.moveaxis(value, -1, 0)[:, None, ..., None]
        for value in _samples(
            scaled[..., 1], scaled[..., 3], height, size=size, sampling=sampling
        )
    )
    column, column_weight = (
        jnp.moveaxis(value, -1, 0)[None, :, :, :, None, :]
        for value in _samples(
            scaled[..., 0], scaled[..., 2], width, size=size, sampling=sampling
        )
    )
    # Axes: row tap, column tap, B, N, row bin, column bin.
    index = (
        start[None, None, :, :, None, None]
        + row * width[None, None, :, :, None, None]
        + column
    )
    taps = (2 * sampling) ** 2
    index = index.reshape(taps, batch, -1)
    weight = (row_weight * column_weight).reshape(taps, batch, -1, 1)

    # Of each image on its own: a table of all images would have to be on every device.
    @jax.vmap
    def take(image: Array, place: Array) -> Array:
        return jnp.take(image, place, axis=0, mode="clip")

    # One tap after the other: all at once would need 16 times the memory.
    def add_tap(pooled: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
        return pooled + take(joined, tap[0]) * tap[1], None

    nothing = jnp.zeros((*index.shape[1:], channels), jnp.float32)
    pooled, _ = jax.lax.scan(add_tap, nothing, (index, weight))
    shape = (batch, box.shape[1], size, size, channels)
    return pooled.astype(levels[0].dtype).reshape(shape)


def _samples(
    low: Array, high: Array, extent: Array, *, size: int, sampling: int
) -> tuple[Array, Array]:
    """Positions and weights along one axis.

    Args:
      low: Near end of the box, in positions of its level, float32 [B, N].
      high: Far end, the same.
      extent: Positions of the level along the axis, int32 [B, N].
      size: Bins.
      sampling: Samples of a bin.

    Returns:
      Position int32 and weight float32, both [B, N, size, 2 * sampling]; the weights
      of a bin add up to 1, or less where samples fall outside the level.
    """
    step = jnp.maximum(high - low, 1.0) / size
    place = (np.arange(size * sampling, dtype=np.float32) + 0.5) / sampling
    point = low[..., None] + jnp.asarray(place)[None, None, :] * step[..., None]
    last = extent[..., None] - 1
    inside = (point >= -1.0) & (point <= (last + 1).astype(jnp.float32))
    point = jnp.clip(point, 0.0, last.astype(jnp.float32))
    before = jnp.floor(point).astype(jnp.int32)
    after = jnp.minimum(before + 1, last)
    share = point - before.astype(jnp.float32)
    weight = jnp.where(inside, 1.0 / sampling, 0.0)
    shape = (*low.shape, size, 2 * sampling)
    position = jnp.stack([before, after], axis=-1).reshape(shape)
    weights = jnp.stack([weight * (1.0 - share), weight * share], axis=-1)
    return position, weights.reshape(shape)


def suppress_sorted(box: Array, valid: Array, *, threshold: float) -> Array:
    """Marks what greedy non-maximum suppression keeps, best for many outputs.

    Args:
      box: Pixels [N, 4], best score first.
      valid: False for slots that are empty, bool [N].
      threshold: A box goes when it overlaps a kept, better one by more, in [0, 1].

    Returns:
      Whether each box is kept, bool [N].
    """
    count = box.shape[0]
    position = jnp.arange(count)

    def step(i: Array, kept: Array) -> Array:
        overlap = boxes.iou(jax.lax.dynamic_slice_in_dim(box, i, 1), box)[0]
        return kept & ~((overlap > threshold) & (position > i) & kept[i])

    return jax.lax.fori_loop(0, count, step, valid)


def suppress_best(
    box: Array, score: Array, valid: Array, *, count: int, threshold: float
) -> tuple[Array, Array]:
    """Picks boxes one by one with non-maximum suppression, best for few outputs.

    Args:
      box: Pixels [N, 4], in any order.
      score: Higher is better, finite, float32 [N].
      valid: False for slots that are empty, bool [N].
      count: Boxes to pick.
      threshold: A box goes when it overlaps a picked, better one by more, in [0, 1].

    Returns:
      Indices, best first, int32 [count], and whether each slot is filled, bool
      [count].
    """

    def step(left: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        index = jnp.argmax(left).astype(jnp.int32)
        filled = left[index] > -jnp.inf
        overlap = boxes.iou(jax.lax.dynamic_slice_in_dim(box, index, 1), box)[0]
        gone = (overlap > threshold) | (jnp.arange(box.shape[0]) == index)
        return jnp.where(gone, -jnp.inf, left), (index, filled)

    start = jnp.where(valid, score, -jnp.inf)
    _, (index, filled) = jax.lax.scan(step, start, None, length=count)
    return index, filled


def separate(box: Array, group: Array, *, image_size: int) -> Array:
    """Moves the boxes of each group apart, so that no two groups overlap.

    Args:
      box: Pixels inside the input, [N, 4].
      group: Class or level, int32 [N].
      image_size: Side of the square input, pixels.

    Returns:
      float32 [N, 4]; overlaps inside a group are what they were.
    """
    return box + (group.astype(jnp.float32) * (image_size + 1.0))[:, None]
