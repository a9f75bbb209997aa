"""Box geometry: forms, codes, overlap, matching, sampling.

Boxes are x0, y0, x1, y1 in pixels of the square input (the order of torchvision, so
that its weights fit), except where a name says fractions. Arithmetic is float32.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

Array = jax.Array

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
MAX_LOG_SCALE = math.log(1000.0 / 16.0)


def from_fractions(box: Array, *, image_size: int) -> Array:
    """Turns y0, x0, y1, x1 in fractions into x0, y0, x1, y1 in pixels.

    Args:
      box: float [..., 4].
      image_size: Side of the square input, pixels.

    Returns:
      float32 [..., 4].
    """
    y0, x0, y1, x1 = _parts(box)
    return jnp.stack([x0, y0, x1, y1], axis=-1) * image_size


def to_fractions(box: Array, *, image_size: int) -> Array:
    """Turns x0, y0, x1, y1 in pixels into y0, x0, y1, x1 in fractions.

    Args:
      box: float [..., 4].
      image_size: Side of the square input, pixels.

    Returns:
      float32 [..., 4].
    """
    x0, y0, x1, y1 = _parts(box)
    return jnp.stack([y0, x0, y1, x1], axis=-1) / image_size


def clip(box: Array, *, image_size: int) -> Array:
    """Cuts boxes, pixels [..., 4], at the border of the square input."""
    return jnp.clip(box, 0.0, float(image_size))


def area(box: Array) -> Array:
    """Area in square pixels, [...], of boxes [..., 4]; 0 where a side is negative."""
    x0, y0, x1, y1 = _parts(box)
    return jnp.maximum(x1 - x0, 0.0) * jnp.maximum(y1 - y0, 0.0)


def encode(
    reference: Array, box: Array, *, weights: tuple[float, float, float, float]
) -> Array:
    """Writes a box as an offset from a reference: the target of a regression.

    Args:
      reference: Anchors or proposals, pixels [..., 4], sides above 0.
      box: Pixels, the same shape, sides above 0 wherever the result is used. A box
        or reference without area gives finite numbers that mean nothing.
      weights: Factors of dx, dy, dw, dh.

    Returns:
      dx, dy, dw, dh, float32 [..., 4].

    Source:
      Girshick et al. 2014, "Rich feature hierarchies", appendix C.
    """
    from_x, from_y, from_width, from_height = _centre_and_size(reference)
    to_x, to_y, to_width, to_height = _centre_and_size(box)
    from_width = jnp.where(from_width > 0, from_width, 1.0)
    from_height = jnp.where(from_height > 0, from_height, 1.0)
    to_width = jnp.where(to_width > 0, to_width, 1.0)
    to_height = jnp.where(to_height > 0, to_height, 1.0)
    offset = (
        (to_x - from_x) / from_width,
        (to_y - from_y) / from_height,
        jnp.log(to_width / from_width),
        jnp.log(to_height / from_height),
    )
    return jnp.stack(
        [w * part for w, part in zip(weights, offset, strict=True)], axis=-1
    )


def decode(
    reference: Array, offset: Array, *, weights: tuple[float, float, float, float]
) -> Array:
    """Applies an offset to a reference; the inverse of `encode`.

    Args:
      reference: Anchors or proposals, pixels [..., 4].
      offset: dx, dy, dw, dh, [..., 4]. The last two are cut at log(1000 / 16) after
        division by their weights, so that no box grows out of proportion.
      weights: The factors given to `encode`.

    Returns:
      Pixels, float32 [..., 4]; not clipped to the input.
    """
    from_x, from_y, width, height = _centre_and_size(reference)
    dx, dy, dw, dh = (part / w for w, part in zip(weights, _parts(offset), strict=True))
    centre_x = from_x + dx * width
    centre_y = from_y + dy * height
    half_width = 0.5 * width * jnp.exp(jnp.minimum(dw, MAX_LOG_SCALE))
    half_height = 0.5 * height * jnp.exp(jnp.minimum(dh, MAX_LOG_SCALE))
    return jnp.stack(
        [
            centre_x - half_width,
            centre_y - half_height,
            centre_x + half_width,
            centre_y + half_height,
        ],
        axis=-1,
    )


def iou(box: Array, other: Array) -> Array:
    """Intersection over union of each box with each other.

    Args:
      box: Pixels [N, 4].
      other: Pixels [M, 4].

    Returns:
      float32 [N, M] in [0, 1]; 0 where both boxes have no area.
    """
    x0, y0, x1, y1 = (part[:, None] for part in _parts(box))
    other_x0, other_y0, other_x1, other_y1 = (part[None, :] for part in _parts(other))
    width = jnp.minimum(x1, other_x1) - jnp.maximum(x0, other_x0)
    height = jnp.minimum(y1, other_y1) - jnp.maximum(y0, other_y0)
    shared = jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0)
    union = area(box)[:, None] + area(other)[None, :] - shared
    return jnp.where(union > 0, shared / jnp.where(union > 0, union, 1.0), 0.0)


def generalised_iou(box: Array, other: Array) -> Array:
    """Intersection over union of pairs, less what is empty in the box around both.

    Args:
      box: Pixels [..., 4], sides at least 0.
      other: The same.

    Returns:
      float32 [...], in [-1, 1]: 1 for equal boxes, below 0 for boxes far apart.

    Source:
      Rezatofighi et al. 2019, "Generalized intersection over union"; the small number
      that keeps divisions from 0 is torchvision's.
    """
    small = 1e-7
    low, high = box[..., :2], box[..., 2:]
    other_low, other_high = other[..., :2], other[..., 2:]
    shared = jnp.minimum(high, other_high) - jnp.maximum(low, other_low)
    shared = jnp.maximum(shared, 0.0)
    shared = shared[..., 0] * shared[..., 1]
    union = area(box) + area(other) - shared
    around = jnp.maximum(high, other_high) - jnp.minimum(low, other_low)
    around = around[..., 0] * around[..., 1]
    return shared / (union + small) - (around - union) / (around + small)


def match(
    candidate: Array,
    box: Array,
    box_valid: Array,
    *,
    positive_from: float,
    negative_below: float,
    low_quality: bool,
) -> tuple[Array, Array]:
    """Gives each candidate the ground-truth box it overlaps most, and a verdict.

    Padding has an overlap of -1 with everything, so nothing is ever matched to it.

    Args:
      candidate: Anchors or proposals, pixels [N, 4].
      box: Ground truth, pixels [M, 4].
      box_valid: False for padding, bool [M].
      positive_from: Smallest overlap of a positive, in [0, 1].
      negative_below: Overlap under which a candidate is negative, in [0, 1].
      low_quality: Also call positive, for each box, the candidates that overlap it
        most, however little; each still goes to the box that *it* overlaps most.

    Returns:
      Index of the matched box, int32 [N], and POSITIVE, NEGATIVE or IGNORED, int32
      [N]. The index means nothing unless positive.

    Source:
      Ren et al. 2015, "Faster R-CNN", section 3.1.2, with ties as in torchvision.
      Differs: a box that no candidate touches makes no positive, where torchvision's
      rule would make one of every candidate without overlap.
    """
    overlap = jnp.where(box_valid[None, :], iou(candidate, box), -1.0)
    index = jnp.argmax(overlap, axis=1).astype(jnp.int32)
    best = jnp.max(overlap, axis=1)
    positive = best >= positive_from
    if low_quality:
        # A tolerance: a compiler may round the same overlap in two ways.
        most = jnp.max(overlap, axis=0, keepdims=True)
        positive |= jnp.any((overlap >= most - 1e-6) & (most > 0), axis=1)
    verdict = jnp.where(best < negative_below, NEGATIVE, IGNORED)
    return index, jnp.where(positive, POSITIVE, verdict).astype(jnp.int32)


def sample(
    key: Array, verdict: Array, *, count: int, positive_fraction: float
) -> tuple[Array, Array]:
    """Draws candidates at random: positives up to a share, then negatives.

    Args:
      key: Random key.
      verdict: POSITIVE, NEGATIVE or IGNORED, int32 [N].
      count: Candidates to draw; capped at N.
      positive_fraction: Largest share of positives in `count`, in [0, 1].

    Returns:
      Indices, int32 [min(count, N)], positives first, and whether each was really
      drawn, bool of the same shape: false where too few were to be had.
    """
    some = min(math.floor(count * positive_fraction), verdict.shape[0])
    count = min(count, verdict.shape[0])
    noise = jax.random.uniform(key, verdict.shape)
    positive_noise, positive = jax.lax.top_k(
        jnp.where(verdict == POSITIVE, noise, -1.0), some
    )
    negative_noise, negative = jax.lax.top_k(
        jnp.where(verdict == NEGATIVE, noise, -1.0), count
    )
    index = jnp.concatenate([positive, negative])
    drawn = jnp.concatenate([positive_noise, negative_noise]) >= 0
    # Ties keep their order, so this moves what was drawn to the front.
    drawn, order = jax.lax.top_k(drawn.astype(jnp.int32), count)
    return index[order].astype(jnp.int32), drawn == 1


def _parts(box: Array) -> tuple[Array, Array, Array, Array]:
    box = jnp.asarray(box, jnp.float32)
    return box[..., 0], box[..., 1], box[..., 2], box[..., 3]


def _centre_and_size(box: Array) -> tuple[Array, Array, Array, Array]:
    x0, y0, x1, y1 = _parts(box)
    return 0.5 * (x0 + x1), 0.5 * (y0 + y1), x1 - x0, y1 - y0
