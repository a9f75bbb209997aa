"""Greedy non-maximum suppression, in the two orders that detection asks for.

Boxes are x0, y0, x1, y1 in pixels of the input. Every output has a fixed size, with a
flag where a slot may be empty.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mtpret_jax.ops import boxes

Array = jax.Array

# Boxes that are settled together. An accelerator's vector register is as wide.
TILE = 128


@jax.named_scope("NMS")
def suppress_sorted(box: Array, valid: Array, *, threshold: float) -> Array:
    """Marks what greedy non-maximum suppression keeps, best for many outputs.

    Tile after tile: the boxes of a tile are settled among themselves, and what they
    keep takes out what overlaps it behind the tile.

    Args:
      box: Pixels [G, N, 4], best score first in each of the groups, which do not
        suppress each other.
      valid: False for slots that are empty, bool [G, N].
      threshold: A box goes when it overlaps a kept, better one by more, in [0, 1].

    Returns:
      Whether each box is kept, bool [G, N]: what a loop over the boxes would keep.
    """
    count = box.shape[1]
    spare = -count % TILE
    box = jnp.pad(box, ((0, 0), (0, spare), (0, 0)))
    position = jnp.arange(count + spare)

    def settle_tile(index: Array, kept: Array) -> Array:
        start = index * TILE
        tile = jax.lax.dynamic_slice_in_dim(box, start, TILE, axis=1)
        alive = jax.lax.dynamic_slice_in_dim(kept, start, TILE, axis=1)
        settled = _settle(_overlapping(tile, tile, threshold), alive)
        overlapping = _overlapping(tile, box, threshold) & settled[:, :, None]
        kept &= ~(jnp.any(overlapping, axis=1) & (position >= start + TILE)[None, :])
        return jax.lax.dynamic_update_slice_in_dim(kept, settled, start, axis=1)

    kept = jnp.pad(valid, ((0, 0), (0, spare)))
    tiles = (count + spare) // TILE
    return jax.lax.fori_loop(0, tiles, settle_tile, kept)[:, :count]


def _settle(overlapping: Array, alive: Array) -> Array:
    """What stays of a tile: the fixed point of "alive, and overlapped by none kept".

    After n rounds the first n boxes have their last value, so that the fixed point is
    the greedy choice, reached after one round more than the longest chain of boxes
    that take each other out.

    Args:
      overlapping: Each with each, bool [G, T, T].
      alive: bool [G, T].

    Returns:
      bool [G, T].
    """
    better = jnp.triu(jnp.ones(overlapping.shape[1:], bool), 1)
    # Worked out once: without the barrier compilers do it again in every round.
    takes_out = jax.lax.optimization_barrier(
        (overlapping & better[None]).astype(jnp.float32)
    )

    def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
        kept, _ = state
        # A sum of at most `TILE` ones is exact in any precision.
        takers = jnp.einsum("gt,gtn->gn", kept.astype(jnp.float32), takes_out)
        after = alive & (takers == 0)
        return after, jnp.any(after != kept)

    return jax.lax.while_loop(lambda state: state[1], again, (alive, jnp.bool_(True)))[
        0
    ]


def _overlapping(box: Array, other: Array, threshold: float) -> Array:
    """[G, T, 4] and [G, N, 4] to bool [G, T, N]."""
    return jax.vmap(boxes.iou)(box, other) > threshold


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
