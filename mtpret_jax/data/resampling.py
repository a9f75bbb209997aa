"""How the processors of published encoders bring a picture to another size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image

_NEAR = 1e-6  # pixels: what arithmetic leaves of a whole number
_TRUNCATE = 4.0  # deviations, where SciPy ends a Gaussian
_Resized = tuple[np.ndarray, np.ndarray]


def upright(across: float, down: float, left: float, top: float) -> np.ndarray:
    """Scales and shifts, as a matrix [3, 3] that is not to be written to."""
    matrix = np.array([[across, 0.0, left], [0.0, down, top], [0.0, 0.0, 1.0]])
    matrix.setflags(write=False)
    return matrix


def _bicubic(picture: np.ndarray, matrix: np.ndarray, _: int) -> _Resized:
    """By cubic curves that widen where it shrinks, as Pillow's.

    What overshoots is cut after each axis; 8 bits are rounded after each, too.
    """
    height, width = picture.shape
    new_width = max(1, round(width * abs(matrix[0, 0])))
    new_height = max(1, round(height * abs(matrix[1, 1])))
    dtype = picture.dtype
    most = np.iinfo(dtype).max if dtype != np.float32 else 1.0
    image = picture if dtype == np.uint8 else picture.astype(np.float32)
    for size in ((new_width, height), (new_width, new_height)):
        made = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        image = np.asarray(made).clip(0, most)
    image = np.rint(image).astype(dtype) if dtype == np.uint16 else image
    return image, matrix @ np.diag([width / new_width, height / new_height, 1.0])


def _gaussian(picture: np.ndarray, matrix: np.ndarray, size: int) -> _Resized:
    """Cut to what is seen, blurred, interpolated linearly, as scikit-image's.

    Beyond the cut lies the middle grey, torchxrayvision's zero.
    """
    height, width = picture.shape
    left, right = _seen(matrix[0, 0], matrix[0, 2], width, size)
    top, bottom = _seen(matrix[1, 1], matrix[1, 2], height, size)
    picture = picture[top:bottom, left:right]
    height, width = picture.shape
    new_width = max(1, round(width * abs(matrix[0, 0])))
    new_height = max(1, round(height * abs(matrix[1, 1])))
    limits = np.iinfo(picture.dtype) if picture.dtype != np.float32 else None
    middle = np.float32(limits.max / 2 if limits else 0.5)
    image = picture.astype(np.float32) - middle
    for axis, factor in enumerate((width / new_width, height / new_height)):
        if factor > 1:
            sigma = (factor - 1) / 2
            kernel = cv2.getGaussianKernel(2 * int(_TRUNCATE * sigma + 0.5) + 1, sigma)
            one = np.ones((1, 1))
            x, y = (one, kernel) if axis else (kernel, one)
            image = cv2.sepFilter2D(image, -1, x, y, borderType=cv2.BORDER_CONSTANT)
    image = _linear(_linear(image, new_height).T, new_width).T + middle
    if limits:
        image = np.rint(image).clip(0, limits.max).astype(picture.dtype)
    factors = np.diag([width / new_width, height / new_height, 1.0])
    return image, matrix @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]]) @ factors


def _linear(rows: np.ndarray, count: int) -> np.ndarray:
    """As many rows, between those that are given; zero lies beyond them."""
    old = len(rows)
    place = (np.arange(count) + 0.5) * (old / count) - 0.5
    first = np.floor(place).astype(int)
    share = (place - first).astype(np.float32)
    found = np.zeros((count, rows.shape[1]), np.float32)
    for row, weight in ((first, 1 - share), (first + 1, share)):
        weight = np.where((row >= 0) & (row < old), weight, 0).astype(np.float32)
        found += rows[row.clip(0, old - 1)] * weight[:, None]
    return found


def _seen(scale: float, shift: float, side: int, size: int) -> tuple[int, int]:
    """Where the square begins and ends along an axis of the picture, whole pixels."""
    ends = sorted((-shift / scale, (size - shift) / scale))
    first = min(max(0, math.floor(ends[0] + _NEAR)), side - 1)
    return first, max(min(side, math.ceil(ends[1] - _NEAR)), first + 1)


def _crop_bicubic(height: int, width: int, size: int) -> np.ndarray:
    """The shorter side fills the square, the longer is rounded down and cut after."""
    short = min(height, width)
    new_height, new_width = size * height // short, size * width // short
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return upright(new_width / width, new_height / height, -left, -top)


def _crop_gaussian(height: int, width: int, size: int) -> np.ndarray:
    """The square in the middle, cut at whole pixels of the picture."""
    side = min(height, width)
    scale = size / side
    left, top = width // 2 - side // 2, height // 2 - side // 2
    return upright(scale, scale, -left * scale, -top * scale)


# Height and width of a picture and a square's side to the matrix of `transforms.fit`.
CROP: Mapping[str, Callable[[int, int, int], np.ndarray]] = {
    "bicubic": _crop_bicubic,
    "gaussian": _crop_gaussian,
}
# A picture [H, W], an upright matrix to a square of so many pixels: the picture in its
# own type at the square's scale, and the matrix that is left.
RESIZE: Mapping[str, Callable[[np.ndarray, np.ndarray, int], _Resized]] = {
    "bicubic": _bicubic,
    "gaussian": _gaussian,
}
