"""Masks of a picture, class indices: they move with it by nearest neighbour."""

from __future__ import annotations

import cv2
import numpy as np

from mtpret_jax.data import transforms

UNKNOWN_CLASS = 255  # in a stored mask: not annotated


def warp(mask: np.ndarray, matrix: np.ndarray, *, size: int) -> np.ndarray:
    """Warps class indices, uint8 [H, W], to the square; outside is unknown.

    Args:
      mask: The stored image's mask.
      matrix: Stored picture to square, [3, 3]; see `transforms`.
      size: Side of the square, pixels.

    Returns:
      uint8 [size, size].
    """
    return _warp(mask, matrix, (size, size))


def _warp(mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same to a rectangle of any width and height."""
    return transforms.warp(
        mask, matrix, size, flags=cv2.INTER_NEAREST, border=UNKNOWN_CLASS
    )


def count_outside(mask: np.ndarray, matrix: np.ndarray, *, size: int) -> np.ndarray:
    """Pixels of each class that the square leaves out of a picture that is not turned.

    Args:
      mask: Class indices, uint8 [H, W].
      matrix: Stored picture to square, [3, 3], of `transforms.fit`.
      size: Side of the square, pixels.

    Returns:
      int32 [`UNKNOWN_CLASS`], in pixels as large as those of the square.
    """
    (width, height), (x, y) = np.diag(matrix)[:2] * mask.shape[::-1], matrix[:2, 2]
    if x >= 0 and y >= 0:  # All of it is in the square.
        return np.zeros(UNKNOWN_CLASS, np.int32)
    whole = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]]) @ matrix
    everything = _warp(mask, whole, (round(width), round(height)))
    inside = warp(mask, matrix, size=size)
    found = [np.bincount(each.ravel(), minlength=256) for each in (everything, inside)]
    return (found[0] - found[1])[:UNKNOWN_CLASS].astype(np.int32)
