"""Boxes of a picture: they move with it, are clipped and padded.

All are y0, x0, y1, x1 as fractions of a picture or of the square input.
"""

from __future__ import annotations

import numpy as np

MIN_LEFT = 0.3  # fraction of a box's area; a box with less left is dropped


def warp(
    box: np.ndarray, matrix: np.ndarray, *, height: int, width: int, size: int
) -> np.ndarray:
    """Moves boxes with the picture, also beyond the square's border.

    What is turned is the ellipse in a box, around which the new box is upright. Around
    the turned box itself it would be larger than most objects: by 24 % in area for a
    square one turned by 7 degrees.

    Args:
      box: Boxes of the stored image, float32 [N, 4].
      matrix: Stored picture to square, [3, 3]; see `transforms`.
      height: Height of the stored image, pixels.
      width: Width of the stored image, pixels.
      size: Side of the square, pixels.

    Returns:
      Of the square, float32 [N, 4].
    """
    turn, shift = matrix[:2, :2].T, matrix[:2, 2]
    corner = box.astype(np.float64).reshape(-1, 2, 2)[..., ::-1] * (width, height)
    centre = corner.mean(axis=1) @ turn + shift
    half = np.sqrt(((corner[:, 1] - corner[:, 0]) / 2) ** 2 @ turn**2)
    moved = np.stack([centre - half, centre + half], axis=1)[..., ::-1] / size
    return moved.reshape(-1, 4).astype(np.float32)


def clip(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clips boxes of the square, float32 [N, 4], to it.

    Returns:
      The same, clipped; and which of them to keep, bool [N]: those with at least
      `MIN_LEFT` of their area inside.
    """
    clipped = np.clip(box, 0.0, 1.0)
    return clipped, (area(clipped) > 0) & (area(clipped) >= MIN_LEFT * area(box))


def area(box: np.ndarray) -> np.ndarray:
    """Areas of boxes [N, 4] as fractions, [N]."""
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


def pad(
    box: np.ndarray, box_class: np.ndarray, *, max_boxes: int
) -> dict[str, np.ndarray]:
    """Pads boxes to M = `max_boxes`.

    Args:
      box: Fractions of the square, float32 [N, 4].
      box_class: int32 [N].
      max_boxes: M.

    Returns:
      `box` float32 [M, 4], `box_class` int32 [M], `box_valid` bool [M].

    Raises:
      ValueError: If there are more boxes than M: one left out would be learnt as
        background, and not be counted as missed.
    """
    if len(box) > max_boxes:
        raise ValueError(
            f"detection.max_boxes: expected at least {len(box)}, the boxes of one "
            f"picture; got {max_boxes}. Raise it in the task's config."
        )
    missing = max_boxes - len(box)
    return {
        "box": np.pad(box, ((0, missing), (0, 0))).astype(np.float32),
        "box_class": np.pad(box_class, (0, missing)).astype(np.int32),
        "box_valid": np.arange(max_boxes) < len(box),
    }
