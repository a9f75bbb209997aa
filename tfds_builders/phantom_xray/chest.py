"""A chest seen from behind (PA): lungs, heart, ribs, and opacities in the lungs."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from tfds_builders.phantom_xray import canvas as canvas_lib
from tfds_builders.phantom_xray import vessels

_SOFT = 2.9  # attenuation of the trunk's full depth of soft tissue
_AIR = 0.86  # part of the depth that a full lung takes away
_BONE = 0.75  # attenuation of the densest bone


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """Shape of one chest; lengths in units of the image's longest side."""

    half_width: float  # of the thorax inside the ribs
    apex: float  # y of the top of the lungs
    dome: tuple[float, float]  # y of the two halves of the diaphragm
    heart: float  # size
    tilt: float  # of the heart
    ribs: int
    rib_slope: float
    fat: float  # soft tissue outside the ribs
    breast: float  # 0 is none
    gas: float  # size of the bubble in the stomach
    vessels: tuple[list[np.ndarray], list[float]]
    texture: int  # seed of the tissue's texture

    @staticmethod
    def draw(rng: np.random.Generator) -> Anatomy:
        """Draws a chest."""
        half_width = rng.uniform(0.315, 0.375)
        apex = rng.uniform(-0.38, -0.33)
        right = rng.uniform(0.13, 0.22)
        left = right + rng.uniform(-0.005, 0.035)
        return Anatomy(
            half_width=half_width,
            apex=apex,
            dome=(right, left),
            heart=rng.uniform(0.85, 1.25),
            tilt=rng.uniform(-0.02, 0.02),
            ribs=int(rng.integers(9, 11)),
            rib_slope=rng.uniform(0.10, 0.17),
            fat=rng.uniform(0.03, 0.075),
            breast=float(rng.random() < 0.45) * rng.uniform(0.3, 1.0),
            gas=float(rng.random() < 0.6) * rng.uniform(0.025, 0.05),
            vessels=vessels.draw(rng),
            texture=int(rng.integers(2**31)),
        )

    def lung(self, side: int) -> np.ndarray:
        """Outline [N, 2] of a lung; side -1 is the viewer's left."""
        a, top = self.half_width, self.apex
        low = self.dome[0] if side < 0 else self.dome[1]
        points = [
            (0.44 * a, top),
            (0.66 * a, top + 0.055),
            (0.85 * a, top + 0.16),
            (0.96 * a, top + 0.30),
            (1.00 * a, low - 0.06),
            (0.985 * a, low + 0.085),
            (0.95 * a, low + 0.075),
            (0.80 * a, low + 0.022),
            (0.56 * a, low),
            (0.32 * a, low + 0.025),
            (0.17 * a, low + 0.055),
            (0.12 * a, low - 0.1),
            (0.14 * a, top + 0.2),
            (0.22 * a, top + 0.04),
        ]
        return canvas_lib.smooth(np.array(points) * (side, 1))

    def heart_outline(self) -> np.ndarray:
        """Outline [N, 2] of the heart and the great vessels' roots."""
        low, size = (self.dome[0] + self.dome[1]) / 2 + 0.05, self.heart
        points = [
            (-0.045, -0.36),
            (-0.055, -0.25),
            (-0.085, -0.17),
            (-0.09, -0.08),
            (-0.05, 0.0),
            (0.08, 0.015),
            (0.165, -0.005),
            (0.185, -0.05),
            (0.145, -0.14),
            (0.085, -0.22),
            (0.055, -0.27),
            (0.045, -0.36),
        ]
        shape = np.array(points) * (size, 1.0)
        return canvas_lib.smooth(shape + (self.tilt, low))


def attenuation(
    anatomy: Anatomy, canvas: canvas_lib.Canvas, opacity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Attenuation map of a chest and the mask of its lungs.

    Args:
      anatomy: The chest.
      canvas: Pixels and pose.
      opacity: Part of the lung's air replaced by fluid, float32 [H, W] in [0, 1].

    Returns:
      float32 [H, W], and bool [H, W].
    """
    px = canvas.scale
    outlines = [anatomy.lung(-1), anatomy.lung(1)]
    trunk = canvas_lib.dome(canvas.fill(_trunk(anatomy)), 0.24 * px)
    # The chest gets thinner towards the shoulders.
    trunk *= canvas.ramp(0, anatomy.apex - 0.05, anatomy.dome[0] + 0.15, 0.62)
    arms = canvas_lib.dome(canvas.fill(_arm(anatomy, -1), _arm(anatomy, 1)), 0.1 * px)
    heart = canvas.fill(anatomy.heart_outline())
    middle = canvas.fill(_mediastinum(anatomy))
    dense = np.maximum(
        canvas_lib.soften(heart, 0.007 * px), canvas_lib.soften(middle, 0.009 * px)
    )
    domes = [canvas_lib.dome(canvas.fill(o), 0.13 * px) for o in outlines]
    lungs = domes[0] + domes[1]
    air = canvas_lib.soften(lungs, 0.006 * px) * (1 - 0.93 * dense)
    air = air * (1 - opacity)
    texture = np.random.default_rng(anatomy.texture)
    total = trunk * (1 - _AIR * air) * np.float32(_SOFT)
    total *= 1 + 0.03 * canvas_lib.cloud(texture, canvas.shape, 7)
    total += 0.05 * air * canvas_lib.cloud(texture, canvas.shape, 28)
    total += 1.2 * arms
    lines, widths = anatomy.vessels
    total += 0.36 * air * canvas_lib.soften(canvas.strokes(lines, widths), 0.004 * px)
    total += (
        0.25
        * canvas.blobs(
            np.array([[-0.105, -0.03], [0.11, -0.05], [-0.11, 0.0]]),
            [0.024, 0.02, 0.02],
        )
        * (0.3 + 0.7 * air)
    )
    total += _breasts(anatomy, canvas)
    total += _BONE * _bones(anatomy, canvas)
    total -= _gases(anatomy, canvas)
    mask = canvas.mask(*outlines) & (heart < 0.5) & (middle < 0.5)
    # Slivers of lung behind the heart are not counted as seen.
    side = max(2, round(0.025 * px))
    slivers = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, slivers)
    return total, mask > 0


def opacities(
    anatomy: Anatomy, canvas: canvas_lib.Canvas, rng: np.random.Generator
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draws one or two consolidations.

    Returns:
      Part of the air that is replaced, float32 [H, W] in [0, 1], and for each
      consolidation the pixels where it is clearly seen, bool [H, W].
    """
    sides = [int(rng.choice([-1, 1]))]
    if rng.random() < 0.3:
        sides.append(-sides[0])
    total, supports = canvas.zeros(), []
    for side in sides:
        radius = rng.uniform(0.06, 0.125)
        low = anatomy.dome[0 if side < 0 else 1]
        x = side * anatomy.half_width * rng.uniform(0.5, 0.78)
        if side > 0:
            x += 0.02
        y = rng.uniform(anatomy.apex + 0.13, low - 0.04)
        count = int(rng.integers(5, 9))
        around = rng.normal(0, 0.42 * radius, (count, 2)) * (0.8, 1.0)
        sigmas = radius * rng.uniform(0.28, 0.5, count)
        strength = rng.uniform(0.3, 0.85)
        grain = canvas_lib.cloud(rng, canvas.shape, 24)
        shape = canvas.blobs(np.array([x, y]) + around, list(sigmas))
        shape = 1 - np.exp(-1.3 * shape * (1 + 0.25 * grain).clip(0.3))
        supports.append(shape > 0.4)
        total = np.maximum(total, np.float32(strength) * shape)
    inside = canvas.mask(anatomy.lung(-1), anatomy.lung(1))
    inside &= canvas.fill(anatomy.heart_outline(), _mediastinum(anatomy)) < 0.5
    return total, [support & inside for support in supports]


def _trunk(anatomy: Anatomy) -> np.ndarray:
    a, fat, top = anatomy.half_width, anatomy.fat, anatomy.apex
    side = [
        (0.095, -0.75),
        (0.10, top - 0.10),
        (0.16, top - 0.045),
        (0.34, top + 0.0),
        (0.45, top + 0.06),
        (a + fat + 0.07, top + 0.22),
        (a + fat + 0.02, top + 0.33),
        (a + fat, 0.1),
        (a + fat, 0.75),
    ]
    points = np.array(side)
    return np.concatenate([points, (points * (-1, 1))[::-1]])


def _arm(anatomy: Anatomy, side: int) -> np.ndarray:
    a, top = anatomy.half_width + anatomy.fat, anatomy.apex
    points = [
        (0.36, top + 0.01),
        (0.47, top + 0.05),
        (0.60, top + 0.25),
        (0.62, 0.75),
        (a + 0.13, 0.75),
        (a + 0.09, top + 0.40),
        (a + 0.02, top + 0.24),
    ]
    return np.array(points) * (side, 1)


def _mediastinum(anatomy: Anatomy) -> np.ndarray:
    top, low = anatomy.apex, anatomy.dome[1]
    points = [
        (-0.05, top - 0.1),
        (-0.058, top + 0.08),
        (-0.062, top + 0.2),
        (-0.06, low + 0.1),
        (0.06, low + 0.1),
        (0.06, top + 0.26),
        (0.082, top + 0.19),
        (0.078, top + 0.15),
        (0.056, top + 0.1),
        (0.05, top - 0.1),
    ]
    return canvas_lib.smooth(np.array(points) * (anatomy.heart**0.5, 1))


def _bones(anatomy: Anatomy, canvas: canvas_lib.Canvas) -> np.ndarray:
    """Ribs, clavicles, shoulder blades, arms and spine; 1 is the densest."""
    back, front = _ribs(anatomy)
    px = canvas.scale
    total = 0.6 * _hollow(canvas, *back) + 0.4 * _hollow(canvas, *front)
    top, a = anatomy.apex, anatomy.half_width
    line = [(0.045, top + 0.075), (0.14, top + 0.045), (0.26, top + 0.03)]
    line += [(0.37, top - 0.005), (0.42, top + 0.0)]
    right = canvas_lib.smooth(np.array(line), closed=False)
    u = np.linspace(0, 1, len(right))
    width = np.interp(u, [0, 0.4, 1], [0.018, 0.012, 0.015])
    both = np.stack([right, right * (-1, 1)])
    total += 0.6 * _hollow(canvas, both, np.stack([width, width]))
    blade = [(0.40, top + 0.03), (a - 0.01, top + 0.12), (a - 0.03, top + 0.33)]
    blade += [(a + 0.02, top + 0.27), (0.41, top + 0.13), (0.445, top + 0.07)]
    right = canvas_lib.smooth(np.array(blade))
    blades = canvas.fill(right, right * (-1, 1))
    total += 0.22 * canvas_lib.soften(blades, 0.005 * px)
    for side in (-1, 1):
        tube = canvas.tube(
            np.array([side * 0.445, top + 0.035]),
            np.array([side * 0.53, 0.5]),
            np.array([0.02, 0.045, 0.048, 0.035, 0.027, 0.026, 0.026, 0.026]),
        )
        hollow = canvas_lib.chord(tube.width * 0.75, tube.s)
        solid = canvas_lib.chord(tube.width, tube.s)
        total[tube.rows, tube.cols] += 9 * (solid - 0.7 * hollow)
    y = np.arange(top - 0.12, 0.6, 0.062)[:, None, None]
    block = np.array([(-0.034, 0), (0.034, 0), (0.037, 0.05), (-0.037, 0.05)])
    spine = canvas.fill(*(block + y * (0, 1)))
    return total + 0.28 * canvas_lib.soften(spine, 0.005 * px)


def _ribs(
    anatomy: Anatomy,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Centre lines [N, P, 2] and half widths [N, P] of the ribs' back and front."""
    a, top = anatomy.half_width, anatomy.apex
    step = (max(anatomy.dome) + 0.14 - top) / anatomy.ribs
    index = np.arange(anatomy.ribs)[:, None]
    u = np.linspace(0, 1, 12)[None]
    y = top - 0.005 + index * step
    reach = a * np.minimum(1.03, 0.62 + 0.16 * index) + 0.004
    drop = anatomy.rib_slope * (0.35 + 0.65 * reach / a)
    sine, cosine = np.sin(u * np.pi / 2), np.cos(u * np.pi / 2)
    x = 0.035 + (reach - 0.035) * sine
    back = np.stack([x, y - 0.03 * np.sin(np.pi * u) + drop * u**2], 2)
    x = reach - (reach - 0.45 * a) * (1 - cosine)
    front = np.stack([x, y + drop + (0.13 + 0.006 * index) * sine], 2)[:6]
    back_width = np.broadcast_to(0.0115 - 0.001 * u, back.shape[:2])
    front_width = np.broadcast_to(0.0105 + 0.004 * u, front.shape[:2])
    return (
        (np.concatenate([back, back * (-1, 1)]), np.tile(back_width, (2, 1))),
        (np.concatenate([front, front * (-1, 1)]), np.tile(front_width, (2, 1))),
    )


def _hollow(
    canvas: canvas_lib.Canvas, lines: np.ndarray, widths: np.ndarray
) -> np.ndarray:
    """Bands with a bright rim, as a flat hollow bone shows; float32 [H, W].

    Args:
      canvas: Pixels and pose.
      lines: Middle lines, [N, P, 2], units.
      widths: Half widths, [N, P], units.
    """
    outer = canvas.fill(*canvas_lib.ribbon(lines, widths))
    inner = canvas.fill(*canvas_lib.ribbon(lines, 0.6 * widths))
    return canvas_lib.soften(outer - 0.45 * inner, 0.0025 * canvas.scale)


def _breasts(anatomy: Anatomy, canvas: canvas_lib.Canvas) -> np.ndarray:
    if not anatomy.breast:
        return canvas.zeros()
    u = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    low = anatomy.dome[0] + 0.02
    discs = [
        np.stack([side * 0.21 + 0.16 * np.cos(u), low + 0.13 * np.sin(u) - 0.03], 1)
        for side in (-1, 1)
    ]
    shape = canvas_lib.soften(canvas.fill(*discs), 0.012 * canvas.scale)
    return np.float32(0.35 * anatomy.breast) * shape


def _gases(anatomy: Anatomy, canvas: canvas_lib.Canvas) -> np.ndarray:
    """What the windpipe and the stomach bubble take away."""
    top = anatomy.apex
    line = np.array([(0.0, top - 0.2), (0.006, top + 0.05), (-0.008, top + 0.2)])
    pipe = canvas.fill(canvas_lib.ribbon(line, np.array([0.02, 0.018, 0.015])))
    total = 0.36 * canvas_lib.soften(pipe, 0.007 * canvas.scale)
    if anatomy.gas:
        u = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        size, low = anatomy.gas, anatomy.dome[1]
        bubble = np.stack(
            [0.17 + 1.5 * size * np.cos(u), low + 0.075 + size * np.sin(u)], 1
        )
        total += 0.9 * canvas_lib.soften(canvas.fill(bubble), 0.01 * canvas.scale)
    return total
