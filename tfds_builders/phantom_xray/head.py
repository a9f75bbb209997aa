"""A panoramic view of the jaws: mandible, upper jaw, two rows of teeth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfds_builders.phantom_xray import canvas as canvas_lib

# Widths from the midline outwards: incisors, canine, premolars, molars.
_UPPER = np.array([0.040, 0.034, 0.036, 0.035, 0.035, 0.050, 0.046])
_LOWER = np.array([0.030, 0.031, 0.034, 0.036, 0.037, 0.054, 0.050])
_LENGTHS = np.array([0.118, 0.115, 0.13, 0.115, 0.112, 0.108, 0.098])
_STEPS = 6  # points of the smoothed outline for each one before
_BORDER = slice(60, 145)  # points of the mandible's outline along the lower border
# Points of the outline before it is smoothed; the viewer's right is the patient's left.
LANDMARKS: Mapping[str, int] = {
    "menton": 17,
    "left_angle": 14,
    "left_condyle": 9,
    "left_coronoid": 5,
    "right_angle": 20,
    "right_condyle": 25,
    "right_coronoid": 29,
}
_CROWN = 0.36  # part of a tooth's length
# Half width from the biting edge to the root's tip, relative to the widest place.
_FRONT = np.array([0.78, 0.95, 1.0, 0.92, 0.78, 0.7, 0.62, 0.52, 0.4, 0.22])
_MOLAR = np.array([0.86, 0.98, 1.0, 0.95, 0.86, 0.84, 0.8, 0.72, 0.6, 0.4])


@dataclasses.dataclass(frozen=True)
class Tooth:
    """A tooth: biting edge and root tip (x, y), half width, and whether a molar."""

    edge: np.ndarray
    tip: np.ndarray
    half_width: float
    molar: bool


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """One pair of jaws; lengths in units of the image's longest side.

    Attributes:
      teeth: All 28 teeth: upper row, then lower row, from the viewer's left.
      mandible: Outline of the lower jaw, [N, 2].
      bite: y of the biting plane in the middle.
      curve: Rise of the biting plane towards the sides.
      size: Width of the face.
      fillings: For each tooth the attenuation of a filling in its crown.
      texture: Seed of the tissue's texture.
    """

    teeth: tuple[Tooth, ...]
    mandible: np.ndarray
    bite: float
    curve: float
    size: float
    fillings: tuple[float, ...]
    texture: int

    @staticmethod
    def draw(rng: np.random.Generator) -> Anatomy:
        """Draws a pair of jaws."""
        size = rng.uniform(0.94, 1.06)
        bite = rng.uniform(0.0, 0.035)
        curve = rng.uniform(0.35, 0.85)
        opening = rng.uniform(0.005, 0.022)
        teeth: list[Tooth] = []
        for upper in (True, False):
            teeth.extend(_row(rng, upper, bite, curve, opening, size))
        has = rng.random(len(teeth)) < 0.1
        return Anatomy(
            teeth=tuple(teeth),
            mandible=_mandible(rng, bite, curve, size),
            bite=bite,
            curve=curve,
            size=size,
            fillings=tuple((has * rng.uniform(0.8, 2.2, len(teeth))).tolist()),
            texture=int(rng.integers(2**31)),
        )


def missing(anatomy: Anatomy, rng: np.random.Generator) -> frozenset[int]:
    """Draws one tooth to leave out, or two neighbours of the same row."""
    half = len(anatomy.teeth) // 2
    first = int(rng.integers(half)) + half * int(rng.integers(2))
    if rng.random() < 0.5:
        return frozenset({first})
    step = 1 if first % half < half - 1 else -1
    return frozenset({first, first + step})


def landmarks(anatomy: Anatomy) -> np.ndarray:
    """Where the `LANDMARKS` of the mandible are: x, y, float64 [P, 2], units."""
    return anatomy.mandible[[_STEPS * point for point in LANDMARKS.values()]]


def attenuation(
    anatomy: Anatomy, canvas: canvas_lib.Canvas, absent: frozenset[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Attenuation map of the jaws and the mask of the mandible.

    Args:
      anatomy: The jaws.
      canvas: Pixels and pose.
      absent: Indices of the missing teeth.

    Returns:
      float32 [H, W], and bool [H, W].
    """
    px = canvas.scale
    texture = np.random.default_rng(anatomy.texture)
    total = _background(anatomy, canvas)
    total *= 1 + 0.06 * canvas_lib.cloud(texture, canvas.shape, 6)
    total += 0.04 * canvas_lib.cloud(texture, canvas.shape, 24)
    jaw = canvas.fill(anatomy.mandible)
    spongy = 1 + 0.13 * canvas_lib.cloud(texture, canvas.shape, 40)
    total += 0.55 * canvas_lib.soften(jaw, 0.003 * px) * spongy
    closed = np.concatenate([anatomy.mandible, anatomy.mandible[:1]])
    # The wall is thick from one jaw angle along the lower border to the other.
    border = anatomy.mandible[_BORDER]
    wall = 0.3 * canvas.strokes([closed], [0.008]) + canvas.strokes([border], [0.012])
    total += 0.5 * canvas_lib.soften(wall, 0.004 * px) * (0.2 + 0.8 * jaw)
    total += _canals(anatomy, canvas)
    for index, tooth in enumerate(anatomy.teeth):
        if index not in absent:
            _add_tooth(total, canvas, tooth, anatomy.fillings[index])
    return total, canvas.mask(anatomy.mandible)


def _row(
    rng: np.random.Generator,
    upper: bool,
    bite: float,
    curve: float,
    opening: float,
    size: float,
) -> list[Tooth]:
    """Fourteen teeth from the viewer's left."""
    widths = (_UPPER if upper else _LOWER) * size
    sign = -1 if upper else 1
    centres = np.cumsum(widths) - widths / 2
    teeth: list[Tooth] = []
    for side in (-1, 1):
        half: list[Tooth] = []
        for index in range(7):
            x = side * centres[index]
            y = bite - curve * x * x + sign * opening / 2 + rng.normal(0, 0.003)
            length = _LENGTHS[index] * rng.uniform(0.92, 1.08) * size
            # Roots of the lower back teeth lean outwards and back, upper ones less.
            lean = (0.9 if upper else 1.3) * x + rng.normal(0, 0.05)
            way = np.array([lean, sign * 1.0])
            way /= np.hypot(*way)
            edge = np.array([x, y])
            half.append(
                Tooth(
                    edge=edge,
                    tip=edge + way * length,
                    half_width=float(widths[index]) * 0.49,
                    molar=index >= 5,
                )
            )
        teeth.extend(half[::-1] if side < 0 else half)
    return teeth


def _mandible(
    rng: np.random.Generator, bite: float, curve: float, size: float
) -> np.ndarray:
    """Outline [N, 2] of the lower jaw, a horseshoe laid flat."""
    depth = rng.uniform(0.97, 1.1)
    half = [
        (0.0, bite + 0.062),
        (0.14, bite + 0.06 - curve * 0.02),
        (0.245, bite + 0.05 - curve * 0.06),
        (0.30, bite - 0.02 - curve * 0.05),
        (0.315, bite - 0.13),
        (0.325, bite - 0.165),
        (0.345, bite - 0.13),
        (0.375, bite - 0.115),
        (0.39, bite - 0.155),
        (0.405, bite - 0.185),
        (0.428, bite - 0.175),
        (0.425, bite - 0.12),
        (0.405, bite - 0.03),
        (0.395, bite + 0.05),
        (0.355, bite + 0.115),
        (0.24, bite + 0.18),
        (0.11, bite + 0.225),
        (0.0, bite + 0.232),
    ]
    right = np.array(half) * (size, depth)
    left = (right * (-1, 1))[::-1]
    outline = np.concatenate([right, left[1:-1]])
    outline = outline + rng.normal(0, 0.0035, outline.shape)
    return canvas_lib.smooth(outline, _STEPS)


def _background(anatomy: Anatomy, canvas: canvas_lib.Canvas) -> np.ndarray:
    """Soft tissue, spine shadow, air ways, upper jaw, palate and eye sockets."""
    px, bite, size = canvas.scale, anatomy.bite, anatomy.size
    u = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    disc = np.stack([np.cos(u), np.sin(u)], 1)
    face = disc * (0.52 * size, 0.36) + (0, bite + 0.01)
    spine = canvas_lib.ribbon(
        np.array([(0, -0.6), (0, 0.0), (0, 0.6)]), np.array([0.07, 0.05, 0.06])
    )
    total = 0.75 + 0.5 * canvas_lib.soften(canvas.fill(face), 0.05 * px)
    total += 0.35 * canvas_lib.soften(canvas.fill(spine), 0.03 * px)
    sides = [
        _mirrored([(0.47, -0.6), (0.6, -0.6), (0.6, 0.6), (0.455, 0.6)], s)
        for s in (-1, 1)
    ]
    total += 0.45 * canvas_lib.soften(canvas.fill(*sides), 0.015 * px)
    throat = [(0.31, -0.1), (0.36, 0.0), (0.33, 0.22), (0.29, 0.2), (0.27, 0.0)]
    air = [canvas_lib.smooth(_mirrored(throat, s) + (0, bite)) for s in (-1, 1)]
    total -= 0.25 * canvas_lib.soften(canvas.fill(*air), 0.012 * px)
    upper = [(-0.27, -0.04), (-0.3, -0.2), (-0.2, -0.27), (0, -0.26)]
    upper += [(0.2, -0.27), (0.3, -0.2), (0.27, -0.04), (0, -0.045)]
    jaw = canvas_lib.smooth(np.array(upper) * (size, 1) + (0, bite))
    total += 0.45 * canvas_lib.soften(canvas.fill(jaw), 0.008 * px)
    top = bite - 0.2
    sinuses = [disc * (0.085, 0.05) + (s * 0.17 * size, top - 0.01) for s in (-1, 1)]
    nose = [disc * (0.034, 0.075) + (s * 0.042, top - 0.055) for s in (-1, 1)]
    total -= 0.4 * canvas_lib.soften(canvas.fill(*sinuses), 0.008 * px)
    total -= 0.55 * canvas_lib.soften(canvas.fill(*nose), 0.006 * px)
    x = np.linspace(-1, 1, 13)
    palate = np.stack([0.31 * size * x, bite - 0.142 - 0.02 * x**2], 1)
    rims = [palate]
    for s in (-1, 1):
        arc = np.linspace(0.1, np.pi - 0.1, 12)
        rims.append(
            np.stack([s * 0.2 + 0.13 * np.cos(arc), top - 0.14 + 0.09 * np.sin(arc)], 1)
        )
        cheek = [(0.2, -0.175), (0.3, -0.2), (0.38, -0.235), (0.47, -0.25)]
        rims.append(canvas_lib.smooth(_mirrored(cheek, s) + (0, bite), closed=False))
    bright = canvas.strokes(rims, [0.014] * len(rims))
    return total + 0.6 * canvas_lib.soften(bright, 0.004 * px)


def _canals(anatomy: Anatomy, canvas: canvas_lib.Canvas) -> np.ndarray:
    """The nerve's canal on both sides, and the gap between the rows' crowns."""
    bite, size = anatomy.bite, anatomy.size
    course = [(0.355, -0.04), (0.33, 0.05), (0.26, 0.11), (0.18, 0.135), (0.13, 0.13)]
    lines = [
        canvas_lib.smooth(_mirrored(course, s) * (size, 1) + (0, bite), closed=False)
        for s in (-1, 1)
    ]
    canal = canvas_lib.soften(canvas.strokes(lines, [0.01, 0.01]), 0.003 * canvas.scale)
    x = np.linspace(-0.27, 0.27, 15) * size
    mouth = np.stack([x, bite - anatomy.curve * x**2], 1)
    gap = canvas.fill(canvas_lib.ribbon(mouth, np.full(15, 0.028)))
    return -0.22 * canal - 0.4 * canvas_lib.soften(gap, 0.008 * canvas.scale)


def _add_tooth(
    total: np.ndarray, canvas: canvas_lib.Canvas, tooth: Tooth, filling: float
) -> None:
    """Adds dentine, enamel, pulp, the dark line around the root, and a filling."""
    profile = (_MOLAR if tooth.molar else _FRONT) * tooth.half_width
    tube = canvas.tube(tooth.edge, tooth.tip, profile)
    if not tube.t.size:
        return
    t, s, width = tube.t, tube.s, tube.width
    if tooth.molar:
        # Below the neck a molar stands on two roots.
        apart = np.clip((t - 0.5) / 0.15, 0, 1) * 0.5
        s = np.abs(s) - apart * width
        width = width * (1 - 0.48 * np.clip((t - 0.5) / 0.15, 0, 1))
    solid = canvas_lib.chord(width, s) / np.float32(2 * tooth.half_width)
    solid = np.minimum(solid, 0.75)
    crown = np.clip((_CROWN - t) / 0.08, 0, 1)
    enamel = crown * np.clip((np.abs(s) / np.maximum(width, 1e-6) - 0.5) * 2, 0, 1)
    enamel = np.maximum(enamel, crown * np.clip((0.12 - t) / 0.06, 0, 1))
    pulp = np.exp(-((s / (0.2 * tooth.half_width)) ** 2)) * np.clip(
        (t - 0.2) / 0.1, 0, 1
    )
    value = solid * (1.0 + 0.35 * crown + 0.75 * enamel - 0.3 * pulp)
    value += filling * solid * np.clip((0.24 - t) / 0.05, 0, 1)
    total[tube.rows, tube.cols] += value.astype(np.float32)


def _mirrored(points: list[tuple[float, float]], side: int) -> np.ndarray:
    return np.array(points) * (side, 1)
