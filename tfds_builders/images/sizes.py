"""Other sizes of images and masks."""

from __future__ import annotations

import cv2
import numpy as np

from tfds_builders.images import limits

_ASPECT_TOLERANCE = 0.02  # relative; rounding of a small image's side


def shrink(array: np.ndarray, longest_side: int, *, is_mask: bool) -> np.ndarray:
    """Makes an array smaller, never larger, keeping its aspect.

    Args:
      array: uint8 or uint16 [H, W].
      longest_side: Longest side of the result, pixels; 0 keeps the array as it is.
      is_mask: Takes the pixel at the centre (masks) rather than the mean over the area.

    Returns:
      The same type, [h, w] with max(h, w) at most `longest_side` and at least 1.
    """
    height, width = array.shape
    longest = max(height, width)
    if longest_side <= 0 or longest <= longest_side:
        return array
    size = (
        max(1, round(width * longest_side / longest)),
        max(1, round(height * longest_side / longest)),
    )
    how = cv2.INTER_NEAREST_EXACT if is_mask else cv2.INTER_AREA
    return np.asarray(cv2.resize(array, size, interpolation=how))


def fit_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Brings a mask to the size of its image, pixel by nearest pixel.

    Args:
      mask: bool or uint8 [h, w].
      height: Height of the image, pixels.
      width: Width of the image, pixels.

    Returns:
      The same type, [height, width].

    Raises:
      UnreadableImage: If the aspects differ by more than a fiftieth.
    """
    if mask.shape == (height, width):
        return mask
    aspect = (mask.shape[1] / mask.shape[0]) / (width / height)
    if abs(aspect - 1) > _ASPECT_TOLERANCE:
        raise limits.UnreadableImage(
            f"it has {mask.shape[1]} x {mask.shape[0]} pixels, its image {width} x "
            f"{height}"
        )
    values = mask.astype(np.uint8)
    how = cv2.INTER_NEAREST_EXACT
    fitted = cv2.resize(values, (width, height), interpolation=how)
    return np.asarray(fitted).astype(mask.dtype)
