"""From scored boxes to detections: the best of a level, and what suppression leaves.

Boxes are x0, y0, x1, y1 in pixels of the input. Every output has a fixed size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax.ops import boxes, suppression

Array = jax.Array


def best_of_level(
    score: Array,
    offset: Array,
    anchor: np.ndarray,
    *,
    count: int,
    weights: tuple[float, float, float, float],
    image_size: int,
) -> tuple[Array, Array, Array]:
    """Decodes what scores best on a level, and cuts it at the border.

    Args:
      score: That of each anchor and class, higher is better, float32 [B, N, K].
      offset: Encoded boxes, float32 [B, N, 4].
      anchor: Pixels, float32 [N, 4].
      count: Candidates of each image; capped at N * K.
      weights: Those of the box code.
      image_size: Side of the square input, pixels.

    Returns:
      Pixels float32 [B, C, 4], scores float32 [B, C], falling, and classes int32
      [B, C], with C the capped count.
    """
    batch, places, classes = score.shape
    some = min(count, places * classes)
    best, index = jax.lax.top_k(score.reshape(batch, -1), some)
    place = index // classes
    offset = jnp.take_along_axis(offset, place[:, :, None], axis=1)
    box = boxes.decode(jnp.asarray(anchor)[place], offset, weights=weights)
    return boxes.clip(box, image_size=image_size), best, index % classes


def detect(
    box: Array,
    score: Array,
    label: Array,
    valid: Array,
    *,
    image_size: int,
    threshold: float,
    count: int,
) -> dict[str, Array]:
    """What non-maximum suppression leaves, each class on its own.

    Args:
      box: Pixels inside the input, float32 [B, N, 4].
      score: float32 [B, N].
      label: Classes, int32 [B, N].
      valid: False for what is no candidate, bool [B, N].
      image_size: Side of the square input, pixels.
      threshold: A box goes when it overlaps a better one by more, in [0, 1].
      count: Detections of each image.

    Returns:
      `box` pixels float32 [B, count, 4], `score` float32 [B, count] falling, `class`
      int32 [B, count], `valid` bool [B, count]. Slots that are not valid hold zeros.
    """

    def pick(box: Array, score: Array, label: Array, valid: Array) -> dict[str, Array]:
        index, filled = suppression.suppress_best(
            suppression.separate(box, label, image_size=image_size),
            score,
            valid,
            count=count,
            threshold=threshold,
        )
        return {
            "box": jnp.where(filled[:, None], box[index], 0.0),
            "score": jnp.where(filled, score[index], 0.0),
            "class": jnp.where(filled, label[index], 0),
            "valid": filled,
        }

    return jax.vmap(pick)(box, score, label, valid)
