"""Tells images without content: one grey level, or almost.

A window that misses the image, a wrong depth or an export that failed makes a file
that decodes well and shows nothing. As with polarity, it is reported, never acted upon;
only where most images of a set are so, something is wrong with them all.
"""

from __future__ import annotations

import numpy as np

_LEVELS = 256  # into which the range of values is divided
_WIDTH = 5  # neighbouring ones that count as one grey: noise, and what JPEG leaves
# Of the pixels in the fullest _WIDTH levels; the rest may be burnt-in words. Of 13,428
# radiographs of eight parts of the body none has more than 0.83.
_SHARE = 0.99


def is_blank(image: np.ndarray) -> bool:
    """Whether 99 % of the pixels lie within 2 % of the range of values.

    Args:
      image: uint8 or uint16 [H, W].
    """
    levels = (image >> 8 * (image.itemsize - 1)).ravel()
    counts = np.cumsum(np.bincount(levels, minlength=_LEVELS))
    fullest = counts[_WIDTH - 1 :] - np.append(0, counts[:-_WIDTH])
    return bool(fullest.max() >= _SHARE * image.size)


def problem(blank: int, images: int, example: str) -> str:
    """What is wrong with a set whose images mostly have no content; "" if they have.

    Args:
      blank: How many have none.
      images: Number of images in the dataset.
      example: One of the former.
    """
    if 2 * blank <= images:
        return ""
    return (
        f"{blank} of {images} images have no content, one grey level or almost, for "
        f"example {example}. Open some in a viewer: if they are blank there, too, "
        "export them again or take them out; if not, see what their headers say of "
        "window and bit depth."
    )
