"""What chance does to a training picture: one warp, then its intensities.

Each function takes a NumPy generator that the stream seeds by the element's position,
so a stream opened in its middle draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np

from mtpret_jax import config
from mtpret_jax.data import boxes, transforms

_LOG_ASPECT = 0.1  # ours: a crop's sides differ by at most this log ratio, about 10 %
_SMALLEST_SIGMA = 0.1  # pixels: a blur that changes nothing
_PLACES = 512  # along each axis, where a window of the noise can begin
_DARKEST = 1e-8  # OpenCV takes four times as long for powers of 0
_TO_INTEGERS = {np.dtype(np.uint8): cv2.CV_8U, np.dtype(np.uint16): cv2.CV_16U}
_LEVELS = np.linspace(0, 1, 256, dtype=np.float32)  # intensities of 8 bits


def draw_warp(
    rng: np.random.Generator,
    settings: config.AugmentConfig,
    *,
    content: tuple[float, float, float, float],
    size: int,
    box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Draws a crop, a rotation and a flip as one warp of the square onto itself.

    The crop lies over the picture rather than its padding: inside the content where
    it is the smaller of the two, around it where it is the larger. It lies in the same
    way around a box or, if that is larger, in it.

    Args:
      rng: Source of chance.
      settings: Sizes of the changes.
      content: x0, y0, x1, y1 of the picture in the square, pixels; beyond it where
        the crop may be there, too.
      size: Side of the square, pixels.
      box: The corners of a box, x0, y0, x1, y1 in the square, pixels.

    Returns:
      float64 [3, 3], to be multiplied before the matrix of `transforms.fit`; the
      identity when all three are switched off.
    """
    area, aspect, across, down, turn, flip = rng.random(6).tolist()
    least, most = settings.crop_min_area, settings.crop_max_area
    share = least + (most - least) * area
    if most > 1:
        share = least * (most / least) ** area
    scale = math.sqrt(share)
    stretch = 0.0
    if least < 1 or most > 1:
        # No side may leave the square, so a large crop is nearly square itself.
        limit = min(_LOG_ASPECT, abs(2 * math.log(scale)))
        stretch = limit * (2 * aspect - 1)
    crop_width = size * scale * math.exp(stretch / 2)
    crop_height = size * scale * math.exp(-stretch / 2)
    x0, y0, x1, y1 = box or (-math.inf, -math.inf, math.inf, math.inf)
    left = _place(across, crop_width, content[0], content[2], size, (x0, x1))
    top = _place(down, crop_height, content[1], content[3], size, (y0, y1))
    angle = math.radians(settings.rotation_degrees) * (2 * turn - 1)
    mirror = -1.0 if flip < settings.flip_probability else 1.0
    # The crop's centre goes to the origin; zoom, turn and mirror; back to the square.
    zoom_x, zoom_y = size / crop_width, size / crop_height
    cosine, sine = math.cos(angle), math.sin(angle)
    a, b = mirror * cosine * zoom_x, -mirror * sine * zoom_y
    c, d = sine * zoom_x, cosine * zoom_y
    x, y = left + crop_width / 2, top + crop_height / 2
    return np.array(
        [
            [a, b, size / 2 - a * x - b * y],
            [c, d, size / 2 - c * x - d * y],
            [0.0, 0.0, 1.0],
        ]
    )


def _place(
    fraction: float,
    side: float,
    low: float,
    high: float,
    size: int,
    box: tuple[float, float],
) -> float:
    """Start of a crop of length `side` along one axis, pixels of the square."""
    first, last = sorted((low, high - side))
    first, last = max(first, min(0.0, low)), min(last, max(size, high) - side)
    nearest, farthest = sorted((box[0], box[1] - side))
    first, last = (min(max(end, nearest), farthest) for end in (first, last))
    return first + fraction * (last - first)


def change_intensity(
    rng: np.random.Generator,
    settings: config.AugmentConfig,
    image: np.ndarray,
    valid: np.ndarray,
) -> np.ndarray:
    """Draws brightness, contrast, gamma, blur and noise, in this order.

    Contrast works about the mean of the valid pixels. Intensities are clipped to their
    range after contrast and after noise. The result is rounded once.

    Args:
      rng: Source of chance.
      settings: Sizes of the changes.
      image: uint8 or uint16 [H, W]; or intensities in [0, 1], float32 [H, W], of which
        nothing is rounded.
      valid: Where the image is not padding, bool [H, W].

    Returns:
      The same type, [H, W]; the same values when all changes are switched off.
    """
    # Always as many draws, so that switching one change off leaves the others alone.
    draws = rng.random(8).tolist()
    shift, factor, exponent, is_blurred, width, strength, across, down = draws
    depth, top = image.dtype, transforms.RANGE[image.dtype]
    changes_tone = settings.brightness or settings.contrast or settings.gamma
    if changes_tone:
        offset = settings.brightness * (2 * shift - 1)
        slope = 1 + settings.contrast * (2 * factor - 1)
        if settings.contrast:
            mean, _ = transforms.valid_mean(image, valid)
            offset += mean / top * (1 - slope)
        power = (1 + settings.gamma) ** (2 * exponent - 1)
        # Few grey levels: each is worked out once, and looked up.
        is_table = depth == np.uint8
        tone = _LEVELS.copy() if is_table else transforms.to_intensity(image)
        tone *= np.float32(slope)
        tone += np.float32(offset)
        tone = np.clip(tone, _DARKEST, 1.0, out=tone)
        tone = cv2.pow(tone, power) if settings.gamma else tone
        tone *= np.float32(top)
        image = cv2.LUT(image, tone) if is_table else tone
    if settings.blur_probability and is_blurred < settings.blur_probability:
        sigma = _SMALLEST_SIGMA + width * max(
            0.0, settings.blur_sigma - _SMALLEST_SIGMA
        )
        # OpenCV is twice as fast with floats, and rounds nothing.
        image = np.asarray(image, np.float32)
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    if not settings.noise:
        return _to_type(image, depth)
    grain = _grain(image.shape, across, down)
    # In one go: scales, adds, clips to the range of integers, rounds.
    integers = _TO_INTEGERS.get(depth, cv2.CV_32F)
    image = np.asarray(image, np.float32)
    image = cv2.addWeighted(
        image, 1.0, grain, strength * settings.noise * top, 0.0, dtype=integers
    )
    return _to_type(image, depth)


def _to_type(image: np.ndarray, depth: np.dtype) -> np.ndarray:
    """Clips [H, W] to the range of a type and rounds it to that."""
    if depth == np.float32:
        return np.clip(image, 0.0, 1.0)
    return image if image.dtype == depth else np.rint(image).astype(depth)


def _grain(shape: tuple[int, ...], across: float, down: float) -> np.ndarray:
    """Unit Gaussian noise: a window, float32 [H, W], of a field drawn only once.

    There are `_PLACES` squared windows, the noise within one is independent, and taking
    one costs nothing, where drawing each anew cost more than all else done to a view.
    """
    height, width = shape
    left, top = int(across * _PLACES), int(down * _PLACES)
    field = _noise_field(_PLACES + height, _PLACES + width)
    return field[top : top + height, left : left + width]


@functools.lru_cache(maxsize=4)
def _noise_field(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((height, width), np.float32)


def draw_view(
    rng: np.random.Generator,
    settings: config.AugmentConfig,
    image: np.ndarray,
    *,
    size: int,
    mode: str,
    resample: str = "area",
    contrastive: bool = False,
    box: np.ndarray | None = None,
    box_probability: float = 0.0,
) -> transforms.View:
    """Draws a warp and new intensities for a stored picture.

    Args:
      rng: Source of chance.
      settings: Sizes of the changes.
      image: As for `transforms.warp_image`.
      size: Side of the square, pixels.
      mode: As for `transforms.fit`.
      resample: As for `transforms.fit`.
      contrastive: Whether it is one of two views of an image, which must not be told
        by what is easy. Its crop lies in the picture, anywhere along its longer side,
        and nothing is padding: what a rotation lays bare repeats the edge. And it is
        normalised by what was measured before its intensities were changed, or a
        z-score of each view would undo brightness and contrast. Labels are learnt
        faster where it does.
      box: Boxes of the stored picture around one of which a crop may be put, float32
        [N, 4]; see `boxes`.
      box_probability: How likely one is put there.
    """
    height, width = image.shape
    mode = "crop" if contrastive and mode == "pad" else mode
    fitted = transforms.fit(height, width, size=size, mode=mode, resample=resample)
    content = fitted.content
    if contrastive:
        content = (fitted.matrix @ [[0, width], [0, height], [1, 1]])[:2].T.ravel()
    around = None
    if box is not None and box_probability:
        chance, which = rng.random(2).tolist()
        if len(box) and chance < box_probability:
            one = box[[int(which * len(box))]]
            one = boxes.warp(one, fitted.matrix, height=height, width=width, size=size)
            y0, x0, y1, x1 = (size * one[0]).tolist()
            around = (x0, y0, x1, y1)
    warp = draw_warp(rng, settings, content=tuple(content), size=size, box=around)
    matrix = warp @ fitted.matrix
    warped, valid = transforms.warp_image(
        image, matrix, size=size, is_filled=contrastive, resample=resample
    )
    statistics = transforms.measure(warped, valid) if contrastive else None
    warped = change_intensity(rng, settings, warped, valid)
    return transforms.View(warped, valid, matrix, statistics)
