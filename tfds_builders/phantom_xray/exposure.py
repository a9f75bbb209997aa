"""From attenuation to an image: Beer-Lambert, scatter, noise, window, marker."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from tfds_builders.phantom_xray import canvas as canvas_lib

_LEAD = 4.0  # attenuation of a side marker, dimensionless
# Strokes of the markers on a field of 32 by 32 pixels, (x, y).
_LETTERS = {
    "L": [(10, 5), (10, 26), (22, 26)],
    "R": [(9, 27), (9, 5), (19, 5), (22, 8), (22, 13), (19, 16), (10, 16), (23, 27)],
}


@dataclasses.dataclass(frozen=True)
class Exposure:
    """How an image was taken and shown.

    Attributes:
      photons: Mean count of an unattenuated pixel of a 128-pixel image.
      scatter: Scattered light as a fraction of the mean primary signal.
      blur: Unsharpness of focus and detector, fraction of the longest side.
      low: Shift of the window's dark end, fraction of the range.
      high: Shift of the window's bright end, fraction of the range.
      gamma: Exponent of the display curve.
      detail: Strength of the local contrast enhancement.
    """

    photons: float
    scatter: float
    blur: float
    low: float
    high: float
    gamma: float
    detail: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Exposure:
        """Draws plausible settings."""
        return Exposure(
            photons=float(np.exp(rng.uniform(np.log(3e3), np.log(3e4)))),
            scatter=float(rng.uniform(0.03, 0.25)),
            blur=float(rng.uniform(0.002, 0.005)),
            low=float(rng.uniform(-0.04, 0.08)),
            high=float(rng.uniform(-0.08, 0.06)),
            gamma=float(rng.uniform(0.8, 1.35)),
            detail=float(rng.uniform(0.1, 0.6)),
        )


def expose(
    attenuation: np.ndarray, exposure: Exposure, rng: np.random.Generator
) -> np.ndarray:
    """Takes the image of an attenuation map.

    Args:
      attenuation: Sum of mu * t along each ray, float32 [H, W].
      exposure: Settings of tube, detector and display.
      rng: Source of the noise.

    Returns:
      The image in display polarity (bone white), float32 [H, W] in [0, 1].
    """
    longest = max(attenuation.shape)
    # Beer-Lambert: I = I0 exp(-sum mu t), with I0 = 1.
    primary = np.exp(-np.maximum(attenuation, 0))
    primary = canvas_lib.soften(primary, exposure.blur * longest)
    scattered = canvas_lib.soften(primary, 0.12 * longest)
    signal = primary + np.float32(exposure.scatter) * scattered
    # Poisson noise by its normal limit: variance signal / photons. The dose of an
    # image, not of a pixel, is what is given, so small pixels count fewer photons.
    photons = exposure.photons * (128 / longest)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    signal = signal + noise * np.sqrt(signal / np.float32(photons))
    shown = -np.log(np.maximum(signal, np.float32(0.3 / photons)))
    if exposure.detail:
        low = canvas_lib.soften(shown, 0.04 * longest)
        shown = shown + np.float32(exposure.detail) * (shown - low)
    dark, bright = np.percentile(shown[::3, ::3], [2.0, 99.5])
    spread = max(float(bright - dark), 1e-3)
    dark, bright = dark + exposure.low * spread, bright + exposure.high * spread
    value = np.clip((shown - np.float32(dark)) / np.float32(bright - dark), 0, 1)
    return value ** np.float32(exposure.gamma)


def add_marker(
    attenuation: np.ndarray, text: str, at: tuple[float, float], angle: float
) -> None:
    """Lays a lead letter on the film, in place.

    Args:
      attenuation: Map to add to, float32 [H, W].
      text: The letter, L or R.
      at: Middle of the letter as fractions (y, x) of the image.
      angle: Rotation, radians.
    """
    height, width = attenuation.shape
    side = max(7, round(0.075 * max(height, width)))
    glyph = np.zeros((32, 32), np.uint8)
    cv2.polylines(glyph, [np.array(_LETTERS[text])], False, 255, 4, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((15.5, 15.5), math.degrees(angle), 1.0)
    glyph = cv2.warpAffine(glyph, turn, (32, 32))
    glyph = cv2.resize(glyph, (side, side), interpolation=cv2.INTER_AREA)
    top = int(np.clip(at[0] * height - side / 2, 0, height - side))
    left = int(np.clip(at[1] * width - side / 2, 0, width - side))
    window = attenuation[top : top + side, left : left + side]
    window += glyph * np.float32(_LEAD / 255)


def field(
    rng: np.random.Generator, shape: tuple[int, int], *, most: float
) -> np.ndarray:
    """The collimated field, bool [H, W].

    Half of the images are open to the border; the others lose up to `most` of each
    side, and the field may be tilted by up to three degrees.
    """
    height, width = shape
    cut = rng.uniform(0, most, 4)
    tilt = math.radians(rng.uniform(-3, 3))
    if rng.random() < 0.5:
        return np.ones(shape, bool)
    x0, x1 = cut[0] * width, (1 - cut[1]) * width
    y0, y1 = cut[2] * height, (1 - cut[3]) * height
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    middle = np.array([width / 2, height / 2])
    turn = np.array(
        [[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]]
    )
    corners = (corners - middle) @ turn + middle - 0.5
    open_field = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(open_field, np.rint(corners).astype(np.int32), 1)
    return open_field > 0


def shown(points: np.ndarray, open_field: np.ndarray) -> np.ndarray:
    """Where points of the film are, if rays reached it there.

    Args:
      points: x, y in pixels, whose centres are whole numbers, [P, 2].
      open_field: As `field` gives it, [H, W].

    Returns:
      y, x as fractions of height and width, float32 [P, 2]; else not a number.
    """
    shape = np.array(open_field.shape)
    place = np.rint(points[:, ::-1]).astype(int)
    inside = ((place >= 0) & (place < shape)).all(axis=1)
    y, x = np.clip(place, 0, shape - 1).T
    fractions = (points[:, ::-1] + 0.5) / shape
    seen = inside & (open_field[y, x] > 0)
    return np.where(seen[:, None], fractions, np.nan).astype(np.float32)
