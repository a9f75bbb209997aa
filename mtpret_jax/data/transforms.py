"""What is done to every picture the same way: decode, warp to a square, take stock.

Pictures stay the integers that are stored, a quarter of the bytes of floats on their
way to a device; `ops.views` normalises them there.

Geometry is a 3x3 matrix from continuous pixel coordinates (x, y, 1) of the stored
picture, where the first pixel spans [0, 1], to those of the square input. `fit` gives
the deterministic matrix, `augment.draw_warp` a random one to put before it; image,
`masks` and `boxes` all follow the product, so they cannot come apart.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import cv2
import numpy as np

from mtpret_jax.data import resampling

RANGE = {
    np.dtype(np.uint8): 255.0,
    np.dtype(np.uint16): 65_535.0,
    np.dtype(np.float32): 1.0,  # what the integers would be if nothing were rounded
}
_HALF = 0.5 + 1e-6  # of a scale, where two pixels fall on one
EPSILON = 1e-6  # added to a measured deviation, of intensities in [0, 1]
# Mean and deviation: two numbers, or for each channel.
Statistics = tuple[float | tuple[float, ...], float | tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a picture lies in the square input.

    Attributes:
      matrix: Stored picture to square, float64 [3, 3].
      content: x0, y0, x1, y1 of the picture's part in the square, pixels; the rest
        is padding.
    """

    matrix: np.ndarray
    content: tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class View:
    """A picture warped to the square input.

    Attributes:
      image: Pixels of the stored type, [size, size].
      valid: Where it is not padding, bool [size, size].
      matrix: Stored picture to square, float64 [3, 3]; its inverse leads back.
      statistics: Mean and deviation in grey levels, by which it is normalised unless
        those of the set are; None: those of its own pixels.
    """

    image: np.ndarray
    valid: np.ndarray
    matrix: np.ndarray
    statistics: tuple[float, float] | None = None


def decode(encoded: np.ndarray) -> np.ndarray:
    """Decodes a picture file (uint8 [bytes]) to its stored integers [H, W].

    Raises:
      ValueError: If it is no picture, or not a grey one of 8 or 16 bits.
    """
    picture = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError(f"Cannot decode a picture of {len(encoded)} bytes.")
    if picture.ndim != 2 or picture.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            "Expected a grey picture of 8 or 16 bits in a prepared set, got "
            f"{picture.dtype} {picture.shape}. Prepare the set again with --rebuild."
        )
    return picture


def to_intensity(picture: np.ndarray) -> np.ndarray:
    """Integers, uint8 or uint16 [H, W], as float32 [H, W] in [0, 1]."""
    return np.multiply(picture, 1.0 / RANGE[picture.dtype], dtype=np.float32)


@functools.lru_cache(maxsize=1024)  # A set has few sizes; its views are many.
def fit(
    height: int, width: int, *, size: int, mode: str, resample: str = "area"
) -> Fit:
    """Lays a picture of `height` by `width` pixels into a square of `size` pixels.

    The matrix is shared by all who ask for the same, and not to be written to.

    Args:
      height: Height of the stored image, pixels.
      width: Width of the stored image, pixels.
      size: Side of the square, pixels.
      mode: "pad" keeps all of it and centres it; "crop" fills the square and loses
        the ends of the longer side; "stretch" scales each side on its own.
      resample: See `config.InputConfig`; crops are those of its library.
    """
    if mode == "crop" and resample in resampling.CROP:
        return Fit(resampling.CROP[resample](height, width, size), (0, 0, size, size))
    if mode == "stretch":
        new_height = new_width = size
    elif mode == "pad":
        scale = size / max(height, width)
        new_height = max(1, round(height * scale))
        new_width = max(1, round(width * scale))
    elif mode == "crop":
        scale = size / min(height, width)
        new_height = max(size, round(height * scale))
        new_width = max(size, round(width * scale))
    else:
        raise ValueError(
            f"config.input.fit is {mode!r}; expected 'pad', 'crop' or 'stretch'."
        )
    top, left = (size - new_height) // 2, (size - new_width) // 2
    matrix = resampling.upright(new_width / width, new_height / height, left, top)
    content = (
        max(left, 0),
        max(top, 0),
        min(left + new_width, size),
        min(top + new_height, size),
    )
    return Fit(matrix, content)


def warp(
    picture: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    *,
    flags: int,
    border_mode: int = cv2.BORDER_CONSTANT,
    border: int = 0,
) -> np.ndarray:
    """Warps a picture, [H, W], by a matrix of continuous coordinates.

    Args:
      picture: Pixels of any type, [H, W].
      matrix: Its coordinates to those of the result, [3, 3].
      size: Width and height of the result, pixels.
      flags: How OpenCV interpolates.
      border_mode: What OpenCV does beyond the picture.
      border: The value there, where the mode is a constant.
    """
    # OpenCV's coordinates are those of pixel centres.
    centred = matrix[:2].copy()
    centred[:, 2] += 0.5 * (matrix[:2, 0] + matrix[:2, 1]) - 0.5
    return cv2.warpAffine(
        picture,
        centred,
        size,
        flags=flags,
        borderMode=border_mode,
        borderValue=border,
    )


def warp_image(
    image: np.ndarray,
    matrix: np.ndarray,
    *,
    size: int,
    is_filled: bool = False,
    resample: str = "area",
) -> tuple[np.ndarray, np.ndarray]:
    """Warps a picture to the square, shrinking it first so that no pixel is skipped.

    Args:
      image: Stored integers, uint8 or uint16 [H, W], or intensities, float32 [H, W].
      matrix: Stored picture to square, [3, 3].
      size: Side of the square, pixels.
      is_filled: Whether what repeats the picture's edge counts as the picture's.
      resample: How an upright picture is resized; see `config.InputConfig`.

    Returns:
      The same type, [size, size], in which padding repeats the picture's edge (so that
      a later blur meets no step), and where it is not padding, bool [size, size].
    """
    height, width = image.shape
    if is_filled or _covers(matrix, height, width, size):
        valid = _ones(size, size).view(np.bool_)
    else:
        shown = warp(
            _ones(height, width), matrix, (size, size), flags=cv2.INTER_NEAREST
        )
        valid = shown.view(np.bool_)
    is_upright = not (matrix[0, 1] or matrix[1, 0])
    if is_upright and resample in resampling.RESIZE:
        image, matrix = resampling.RESIZE[resample](image, matrix, size)
    else:
        image, matrix = (_shrink if is_upright else _halve)(image, matrix)
    warped = warp(
        image,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR,
        border_mode=cv2.BORDER_REPLICATE,
    )
    return warped, valid


@functools.lru_cache(maxsize=64)
def _ones(height: int, width: int) -> np.ndarray:
    """A picture without padding, uint8 [H, W]; not to be written to."""
    return np.ones((height, width), np.uint8)


def _covers(matrix: np.ndarray, height: int, width: int, size: int) -> bool:
    """Whether a picture reaches beyond all four corners of the square."""
    (a, b, x), (c, d, y) = matrix[:2].tolist()
    determinant = a * d - b * c
    for corner_x in (-x, size - x):
        for corner_y in (-y, size - y):
            along = (d * corner_x - b * corner_y) / determinant
            down = (a * corner_y - c * corner_x) / determinant
            if not (0 <= along <= width and 0 <= down <= height):
                return False
    return True


def _scales(matrix: np.ndarray) -> tuple[float, float]:
    """Pixels of the square for one of the picture, along its x and its y."""
    (a, b), (c, d) = matrix[:2, :2].tolist()
    return math.hypot(a, c), math.hypot(b, d)


def _shrink(image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages the area of each pixel of the square, and the matrix that is left."""
    height, width = image.shape
    scale_x, scale_y = _scales(matrix)
    new_width = min(width, max(1, round(width * scale_x)))
    new_height = min(height, max(1, round(height * scale_y)))
    if (new_height, new_width) == (height, width):
        return image, matrix
    image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA)
    return image, matrix @ np.diag([width / new_width, height / new_height, 1.0])


def _halve(image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages pairs of pixels until fewer than two fall on one of the square.

    Linear interpolation then reaches all of them. A turned picture is interpolated
    anyway: this costs a tenth of averaging areas before, and blurs less.
    """
    scale_x, scale_y = _scales(matrix)
    while min(scale_x, scale_y) <= _HALF:
        x, y = 1 + (scale_x <= _HALF), 1 + (scale_y <= _HALF)
        height, width = image.shape[0] // y, image.shape[1] // x
        if not height or not width:
            break
        # An odd row or column at the end is left out, or every pixel would be a mix.
        # Halfway between two pixels is their mean, in a third of INTER_AREA's time.
        image = cv2.resize(
            image[: height * y, : width * x],
            (width, height),
            interpolation=cv2.INTER_LINEAR,
        )
        matrix = matrix @ np.diag([x, y, 1.0])
        scale_x, scale_y = scale_x * x, scale_y * y
    return image, matrix


def to_input(
    view: View, *, statistics: Statistics | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What crosses to the device: a view, and by what to normalise it.

    Padding becomes 0, which no pixel of the picture is: a black one becomes 1.

    Args:
      view: A view of stored integers.
      statistics: Mean and standard deviation, above 0, of intensities in [0, 1] to
        use; those of the view when None.

    Returns:
      The view's type, [H, W, 1]; and mean and deviation in its grey levels, float32
      [2] or, where statistics are for each channel, [2, C]; the deviation never 0.
    """
    top = RANGE[view.image.dtype]
    image = _pad_with_zeros(view.image, view.valid)
    if statistics is not None:
        found = top * np.array(statistics)
    else:
        mean, deviation = view.statistics or _measure(image)
        found = np.array([mean, deviation + top * EPSILON])
    return image[..., np.newaxis], found.astype(np.float32)


def measure(image: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """Mean and deviation, in grey levels, of the pixels that are not padding.

    Args:
      image: uint8 or uint16 [H, W].
      valid: Where it is not padding, bool [H, W].
    """
    return _measure(_pad_with_zeros(image, valid))


def _pad_with_zeros(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """[H, W] with padding of 0 and black of 1."""
    image = cv2.max(image, 1.0)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return image if valid.all() else cv2.copyTo(image, valid.view(np.uint8))


def _measure(image: np.ndarray) -> tuple[float, float]:
    count = max(1, cv2.countNonZero(image))  # 0 adds nothing to either sum.
    mean = cv2.sumElems(image)[0] / count
    square = cv2.norm(image, cv2.NORM_L2SQR) / count
    return mean, math.sqrt(max(0.0, square - mean * mean))


def valid_mean(image: np.ndarray, valid: np.ndarray) -> tuple[float, int]:
    """Mean of the pixels that are not padding, 0 if all are, and their number.

    Args:
      image: Pixels of any type, [H, W].
      valid: Where the image is not padding, bool [H, W].
    """
    count = int(np.count_nonzero(valid))
    if count < valid.size:
        image = cv2.copyTo(image, valid.view(np.uint8))
    return cv2.sumElems(image)[0] / max(1, count), count


def plain_view(
    image: np.ndarray, *, size: int, mode: str, resample: str = "area"
) -> View:
    """Fits a picture to the square without chance, as evaluation and prediction do.

    Args:
      image: As for `warp_image`.
      size: Side of the square, pixels.
      mode: As for `fit`.
      resample: As for `fit`.
    """
    height, width = image.shape
    matrix = fit(height, width, size=size, mode=mode, resample=resample).matrix
    warped, valid = warp_image(image, matrix, size=size, resample=resample)
    return View(warped, valid, matrix)
