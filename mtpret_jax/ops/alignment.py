"""Regions cut out of a feature pyramid and resampled to a square grid (RoIAlign).

Two ways to the same numbers, by the platform that a program is compiled for. CPUs and
GPUs gather the positions that a bin is made of. TPUs, which gather slowly, multiply:
rows and columns of a region are two small matrices of weights on all positions.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax.ops import regions

Array = jax.Array
# Positions on one axis of a level, int32, and their weights, float32: both [B, N, size,
# 2 * sampling]. Weights of a bin add up to 1, less where samples are outside the level.
Taps = tuple[Array, Array]

# Whose half-way products, 29 MB of bfloat16 at 512 pixels, stay in a TPU's fast memory.
REGIONS_TOGETHER = 64


@jax.named_scope("RoIAlign")
def align(
    levels: Sequence[Array],
    box: Array,
    *,
    strides: Sequence[float],
    finest_anchor: float,
    size: int = 7,
    sampling: int = 2,
) -> Array:
    """Cuts regions out of a pyramid.

    Each bin is the mean of `sampling` squared bilinear samples, of one level. The
    box is not moved by half a pixel ("aligned=False"), and counts as one position
    wide at least.

    Args:
      levels: P2 and above, each float [B, height, width, C].
      box: Pixels [B, N, 4]. No gradient flows to it.
      strides: Pixels between two positions of each level.
      finest_anchor: Anchor size of P2, pixels; see `regions.assign_levels`.
      size: Bins on a side.
      sampling: Samples on a side of a bin.

    Returns:
      [B, N, size, size, C] in the type of the levels.

    Source:
      He et al. 2017, "Mask R-CNN", section 3, with the border rules of
      torchvision's compiled operator.
    """
    box = jax.lax.stop_gradient(box).astype(jnp.float32)
    level = regions.assign_levels(
        box, level_count=len(levels), finest_anchor=finest_anchor
    )
    scale = jnp.asarray(1.0 / np.array(strides), jnp.float32)[level]
    scaled = box * scale[..., None]
    rows, columns = (
        _taps(
            scaled[..., near],
            scaled[..., near + 2],
            _of_level([one.shape[side] for one in levels], level),
            size=size,
            sampling=sampling,
        )
        for near, side in ((1, 1), (0, 2))
    )
    return jax.lax.platform_dependent(
        tuple(levels), level, rows, columns, tpu=by_products, default=by_gathers
    )


def by_gathers(
    levels: tuple[Array, ...], level: Array, rows: Taps, columns: Taps
) -> Array:
    """Gathers each bin's positions from all levels joined into one table.

    Args:
      levels: Each float [B, height, width, C].
      level: Each region's level, int32 [B, N].
      rows: Positions and weights.
      columns: The same.

    Returns:
      [B, N, size, size, C] in the type of the levels.
    """
    batch, channels = levels[0].shape[0], levels[0].shape[-1]
    starts = np.cumsum([0, *(one.shape[1] * one.shape[2] for one in levels[:-1])])
    joined = jnp.concatenate(
        [one.reshape(batch, -1, channels) for one in levels], axis=1
    ).astype(jnp.float32)
    # Axes: row tap, column tap, B, N, row bin, column bin.
    start = _of_level(starts, level)[None, None, :, :, None, None]
    widths = _of_level([one.shape[2] for one in levels], level)
    row, row_weight = (jnp.moveaxis(value, -1, 0)[:, None, ..., None] for value in rows)
    column, column_weight = (
        jnp.moveaxis(value, -1, 0)[None, :, :, :, None, :] for value in columns
    )
    index = start + row * widths[None, None, :, :, None, None] + column
    weight = row_weight * column_weight
    shape = index.shape[2:]
    index = index.reshape(-1, batch, weight[0, 0, 0].size)
    weight = weight.reshape(*index.shape, 1)

    @jax.vmap
    def take(image: Array, place: Array) -> Array:
        return jnp.take(image, place, axis=0, mode="clip")

    # One tap after the other: all at once would need 16 times the memory.
    def add_tap(pooled: Array, tap: tuple[Array, Array]) -> tuple[Array, None]:
        return pooled + take(joined, tap[0]) * tap[1], None

    nothing = jnp.zeros((*index.shape[1:], channels), jnp.float32)
    pooled, _ = jax.lax.scan(add_tap, nothing, (index, weight))
    return pooled.astype(levels[0].dtype).reshape(*shape, channels)


def by_products(
    levels: tuple[Array, ...], level: Array, rows: Taps, columns: Taps
) -> Array:
    """Multiplies all levels, side by side on one sheet, by weights of rows and columns.

    In bfloat16 the weights and the half-way products are rounded to it, sums are not;
    in float32 the products are of its full precision. Arguments are those of
    `by_gathers`, and so is the result, [B, N, size, size, C].
    """
    dtype, (batch, count) = levels[0].dtype, level.shape
    corners, (height, width) = _places_on_sheet(levels)
    together = min(REGIONS_TOGETHER, count)
    spare = -count % together
    product = functools.partial(
        jnp.einsum,
        precision=None if dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST,
        preferred_element_type=dtype,
    )

    def matrices(taps: Taps, axis: int, extent: int) -> Array:
        """Weights [B, N / together, together, size, extent]."""
        corner = _of_level([place[axis] for place in corners], level)
        position = (taps[0] + corner[..., None, None])[..., None]
        at = position == jnp.arange(extent, dtype=jnp.int32)[None, None, None, None]
        matrix = jnp.where(at, taps[1][..., None], 0.0).sum(-2).astype(dtype)
        matrix = jnp.pad(matrix, ((0, 0), (0, spare), (0, 0), (0, 0)))
        return matrix.reshape(batch, -1, together, *matrix.shape[2:])

    def cut_image(image: tuple[tuple[Array, ...], Array, Array]) -> Array:
        levels, rows, columns = image
        # In float32 so that the gradients of its parts are added up in it.
        sheet = _sheet(levels, corners, (height, width)).astype(jnp.float32)

        def cut_some(some: tuple[Array, Array]) -> Array:
            half = product("niy,yxc->nixc", some[0], sheet.astype(dtype))
            return product("njx,nixc->nijc", some[1], half)

        return jax.lax.map(cut_some, (rows, columns))

    pooled = jax.lax.map(
        cut_image, (levels, matrices(rows, 0, height), matrices(columns, 1, width))
    )
    return pooled.reshape(batch, -1, *pooled.shape[3:])[:, :count]


def _places_on_sheet(
    levels: Sequence[Array],
) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Row and column of each level's corner, and height and width of the sheet.

    The finest level is on top, the others are below it, from left to right.
    """
    (top, width), *others = [one.shape[1:3] for one in levels]
    ends = np.cumsum([0, *(side for _, side in others)]).tolist()
    corners = [(0, 0), *((top, end) for end in ends[:-1])]
    below = max((side for side, _ in others), default=0)
    return corners, (top + below, max(width, ends[-1]))


def _sheet(
    levels: Sequence[Array],
    corners: Sequence[tuple[int, int]],
    extent: tuple[int, int],
) -> Array:
    """Levels [height, width, C] of one image on one sheet, zeros between them."""
    sheet = jnp.zeros((*extent, levels[0].shape[-1]), levels[0].dtype)
    for one, (row, column) in zip(levels, corners, strict=True):
        sheet = jax.lax.dynamic_update_slice(sheet, one, (row, column, 0))
    return sheet


def _of_level(numbers: Sequence[int] | np.ndarray, level: Array) -> Array:
    """The number, one a level, of each region's level: int32 [B, N]."""
    return jnp.asarray(np.asarray(numbers), jnp.int32)[level]


def _taps(low: Array, high: Array, extent: Array, *, size: int, sampling: int) -> Taps:
    """Positions and weights along one axis.

    Args:
      low: Near end of the box, in positions of its level, float32 [B, N].
      high: Far end, the same.
      extent: Positions of the level along the axis, int32 [B, N].
      size: Bins.
      sampling: Samples of a bin.
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
