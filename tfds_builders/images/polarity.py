"""Tells images that look inverted, dark where rays were stopped.

A guess from brightness alone, made to be reported and never to be acted upon: headers
lie, and some truthful images look odd. Whoever looked at an image names it in the
option `invert` of a builder's configuration, and it is turned around after reading.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import numpy as np

from tfds_builders.images import sizes

_SIZE = 64  # longest side at which brightness is compared, pixels
_SMALLEST = 8  # shortest side below which there is nothing to compare, pixels
_BLANK = 0.08  # of the range of values: what still counts as one value
# Weights of `measures` by logistic regression without a constant, on half of 3,168
# radiographs of chests, limbs and jaws, each with its inverted copy, every collection
# counting the same.
_WEIGHTS = (9.2, 6.7, 4.4, 8.2)
# Scores nearer to 0 are left alone: of the other half 2.7 % are flagged, a seventh of
# which are inverted indeed, and 95.0 % of their inverted copies.
MARGIN = 0.5
# Of a set's images: where more look inverted, it shows what the weights never saw.
_USUAL = 0.1
# Words for parts of the body that the weights never saw.
_OTHER_PARTS = ("skull", "head", "ceph", "spine", "vertebra", "lumbar", "cervical")


def looks_inverted(image: np.ndarray) -> bool:
    """Whether a radiograph seems to be dark where rays were stopped.

    Args:
      image: uint8 or uint16 [H, W].
    """
    return score(image) < -MARGIN


def is_made_for(body_part: str) -> bool:
    """Whether the guess is made for a part of the body; where it is not told, yes."""
    return not any(word in body_part.lower() for word in _OTHER_PARTS)


def is_trusted(flagged: int, images: int) -> bool:
    """Whether so few images of a set look inverted that these may well be."""
    return flagged <= _USUAL * images


def score(image: np.ndarray) -> float:
    """How much a radiograph looks as it should; about its negative for an inverted one.

    Args:
      image: uint8 or uint16 [H, W].

    Returns:
      Log odds; above 0 as it should, below 0 inverted, 0 where there is nothing to
      compare: one value, or few pixels.
    """
    return float(np.dot(_WEIGHTS, measures(image)))


def measures(image: np.ndarray) -> np.ndarray:
    """What the score weighs: differences in brightness, each bright minus dark.

    In a radiograph the body, in the centre, stops more rays than the air at the
    border and in the lower corners; of a chest, the spine more than the lungs beside
    it, and the belly, below, more than these. What frames the image with one value
    (shutters, padding) is cut off first, and contrast is evened out.

    Args:
      image: uint8 or uint16 [H, W].

    Returns:
      float64 [4], each from -2 to 2: centre minus border, centre minus lower corners,
      middle minus flanks, bottom minus the rest. Inverting the image flips the signs.
    """
    small = sizes.shrink(image, _SIZE, is_mask=False).astype(np.float64)
    if min(small.shape) < _SMALLEST:
        return np.zeros(4)
    small = _without_frame(small)
    low, high = np.percentile(small, [1, 99])
    if high <= low or min(small.shape) < _SMALLEST:
        return np.zeros(4)
    small = ((small - low) / (high - low)).clip(0, 1) * 2 - 1
    height, width = small.shape
    margin = max(1, round(0.06 * min(height, width)))
    corner = max(1, round(0.12 * min(height, width)))
    is_border = np.ones(small.shape, bool)
    is_border[margin : height - margin, margin : width - margin] = False
    centre = small[height // 4 : height - height // 4, width // 4 : width - width // 4]
    corners = np.stack([small[-corner:, :corner], small[-corner:, -corner:]])
    rows = small[height // 8 : height - height // 8]
    sixteenths = np.arange(17) * width // 16
    middle = rows[:, sixteenths[7] : sixteenths[9] + 1]
    left = rows[:, sixteenths[3] : sixteenths[6] + 1]
    right = rows[:, sixteenths[10] : sixteenths[13] + 1]
    above = height * 3 // 4
    return np.array(
        [
            centre.mean() - small[is_border].mean(),
            -corners.mean(),
            middle.mean() - (left.mean() + right.mean()) / 2,
            small[above:].mean() - small[:above].mean(),
        ]
    )


def invert(image: np.ndarray) -> np.ndarray:
    """Turns dark into bright: uint8 or uint16 [H, W], of the same type."""
    return np.iinfo(image.dtype).max - image


def is_named(image_id: str, patterns: Sequence[str]) -> bool:
    """Whether an image is among those to turn around.

    Args:
      image_id: As the builder stores it.
      patterns: Identifiers; `*`, `?` and `[...]` as in names of files.
    """
    return any(fnmatch.fnmatchcase(image_id, pattern) for pattern in patterns)


def _without_frame(image: np.ndarray) -> np.ndarray:
    """Cuts off the outer rows and columns that hold one value, float [H, W]."""
    tolerance = _BLANK * (image.max() - image.min())
    for _ in range(2):  # Rows, then columns.
        first = _blank(image, tolerance)
        last = len(image) - _blank(image[::-1], tolerance)
        image = image[first:last].T
    return image


def _blank(image: np.ndarray, tolerance: float) -> int:
    """How many rows, from the first on, hold the value that the first holds."""
    is_same = np.abs(image - np.median(image[0])) <= tolerance
    most = int(0.4 * len(image))
    is_blank = is_same[:most].mean(axis=1) > 0.98
    count = int(np.argmin(np.append(is_blank, False)))
    # The edge of what was cut off is blurred.
    return min(count + 2, most) if count else 0
