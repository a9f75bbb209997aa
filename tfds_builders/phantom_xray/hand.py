"""A hand or a forearm: soft tissue, hollow bones, and fractures across them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfds_builders.phantom_xray import bone as bone_lib
from tfds_builders.phantom_xray import canvas as canvas_lib

# Half width of a long bone from end to end, relative to its middle.
_FINGER = np.array([0.8, 1.35, 1.4, 1.2, 1.05, 1.0, 1.0, 1.05, 1.2, 1.35, 1.25, 0.7])
_TIP = np.array([0.9, 1.5, 1.35, 1.1, 0.9, 0.8, 0.75, 0.8, 0.95, 1.05, 0.95, 0.5])
_RADIUS = np.array(
    [0.75, 0.95, 0.8, 0.7, 0.95, 1.0, 1.0, 0.98, 0.95, 0.95, 0.95, 0.98, 1.1, 1.45]
    + [1.9, 1.95, 1.5]
)
_ULNA = np.array(
    [1.4, 1.7, 1.6, 1.35, 1.1, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.7, 0.75]
    + [0.85, 0.9, 0.6]
)
_BLOCK = np.array([0.55, 0.85, 0.97, 1.0, 0.97, 0.85, 0.55])  # a wrist bone
# Finger: angle from the axis (degrees), foot (x, y), lengths from wrist to tip.
_FINGERS = (
    (-33, (-0.085, 0.17), (0.16, 0.115, 0.08)),
    (-11, (-0.062, 0.135), (0.245, 0.145, 0.09, 0.062)),
    (-2, (-0.02, 0.13), (0.24, 0.16, 0.105, 0.066)),
    (7, (0.022, 0.135), (0.215, 0.15, 0.1, 0.066)),
    (17, (0.06, 0.15), (0.19, 0.12, 0.07, 0.06)),
)
_MARGIN = 0.035  # of a fracture's box around the broken edges, units
_WIDTHS = (0.0185, 0.0165, 0.0145, 0.011)  # half widths, wrist to tip


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """One limb.

    Attributes:
      bones: All bones.
      lines: Middle lines of the soft tissue, each [N, 2], units.
      widths: Half widths of the soft tissue at those points, each [N], units.
      depth: Distance from the skin at which the tissue has its full depth, units.
      soft: Attenuation of the full depth of soft tissue.
      middle: Point shown in the middle of the image, (x, y), units.
      texture: Seed of the tissue's texture.
    """

    bones: tuple[bone_lib.Bone, ...]
    lines: tuple[np.ndarray, ...]
    widths: tuple[np.ndarray, ...]
    depth: float
    soft: float
    middle: tuple[float, float]
    texture: int

    @staticmethod
    def draw(rng: np.random.Generator) -> Anatomy:
        """Draws a forearm (seven in ten) or a hand, left or right."""
        side = int(rng.choice([-1, 1]))
        if rng.random() < 0.7:
            return _forearm(rng, side)
        return _hand(rng, side)


def attenuation(
    anatomy: Anatomy, canvas: canvas_lib.Canvas, fracture: bone_lib.Fracture | None
) -> np.ndarray:
    """Attenuation map of a limb, float32 [H, W]."""
    px = canvas.scale
    outlines = [
        canvas_lib.ribbon(line, width)
        for line, width in zip(anatomy.lines, anatomy.widths, strict=True)
    ]
    tissue = canvas_lib.dome(canvas.fill(*outlines), anatomy.depth * px)
    total = canvas_lib.soften(tissue, 0.004 * px) * np.float32(anatomy.soft)
    texture = np.random.default_rng(anatomy.texture)
    total *= 1 + 0.05 * canvas_lib.cloud(texture, canvas.shape, 9)
    grain = 1 + 0.12 * canvas_lib.cloud(texture, canvas.shape, 48)
    for index, bone in enumerate(anatomy.bones):
        broken = fracture if fracture and fracture.bone == index else None
        bone_lib.add(total, canvas, bone, grain, broken)
    return total


def break_bone(
    anatomy: Anatomy, canvas: canvas_lib.Canvas, rng: np.random.Generator
) -> tuple[bone_lib.Fracture, tuple[float, float, float, float]]:
    """Draws a fracture inside the image and its box.

    Returns:
      The fracture, and ymin, xmin, ymax, xmax as fractions of height and width,
      clipped to the image.
    """
    size = np.array([canvas.width, canvas.height], np.float64)
    stops = np.linspace(0.2, 0.84, 17)
    places = []
    for index, bone in enumerate(anatomy.bones):
        if bone.long:
            at = (canvas.pixels(bone.at(stops, 0 * stops)) + 0.5) / size
            away = np.abs(at - 0.5).max(axis=1)
            places.extend(
                (float(far), index, float(t))
                for far, t in zip(away, stops, strict=True)
            )
    seen = [place for place in places if place[0] < 0.36] or [min(places)]
    _, index, t = seen[int(rng.integers(len(seen)))]
    bone = anatomy.bones[index]
    width = bone.width_at(t)
    displaced = rng.random() < 0.8
    fracture = bone_lib.Fracture(
        bone=index,
        t=t,
        slope=rng.choice([-1, 1]) * rng.uniform(0.05, 0.9),
        jag=width * rng.uniform(0.0, 0.35),
        gap=rng.uniform(0.012, 0.02),
        shift=displaced * rng.choice([-1, 1]) * width * rng.uniform(0.2, 0.7),
        angle=displaced * rng.choice([-1, 1]) * rng.uniform(0.0, 0.16),
    )
    s = np.linspace(-1.1, 1.1, 15) * width
    along = fracture.line(s, bone) / bone.length
    edge = np.concatenate([bone.at(along, s), bone.at(along, s + fracture.shift)])
    edge = canvas.pixels(edge) + 0.5
    margin = _MARGIN * canvas.scale
    low = np.clip((edge.min(axis=0) - margin) / size, 0, 1)
    high = np.clip((edge.max(axis=0) + margin) / size, 0, 1)
    return fracture, (float(low[1]), float(low[0]), float(high[1]), float(high[0]))


def _bone(
    start: np.ndarray,
    end: np.ndarray,
    half_width: np.ndarray,
    *,
    bend: float = 0.0,
    cortex: float = 0.36,
    long: bool = False,
) -> bone_lib.Bone:
    return bone_lib.Bone(
        start=np.asarray(start, np.float64),
        end=np.asarray(end, np.float64),
        half_width=np.asarray(half_width, np.float64),
        bend=bend,
        cortex=cortex,
        long=long,
    )


def _forearm(rng: np.random.Generator, side: int) -> Anatomy:
    """Radius and ulna from elbow to wrist, and the wrist's bones above."""
    width = rng.uniform(0.058, 0.072)
    apart = rng.uniform(1.35, 1.7) * width
    wrist = -0.38
    flip = np.array([side, 1.0])
    cortex = rng.uniform(0.32, 0.46)
    bones = [
        _bone(
            np.array([-apart * 0.85, 0.82]) * flip,
            np.array([-apart * 1.0, wrist]) * flip,
            width * _RADIUS,
            bend=side * rng.uniform(0.0, 0.03),
            cortex=cortex,
            long=True,
        ),
        _bone(
            np.array([apart * 0.9, 0.88]) * flip,
            np.array([apart * 1.25, wrist + 0.01]) * flip,
            width * _ULNA,
            bend=-side * rng.uniform(0.0, 0.015),
            cortex=cortex,
            long=True,
        ),
    ]
    for row, y in enumerate((wrist - 0.075, wrist - 0.175)):
        for column in range(4):
            x = (column - 1.5) * 0.088 + rng.normal(0, 0.006)
            height = rng.uniform(0.085, 0.105)
            y_here = y + 0.012 * (column - 1.5) ** 2 + rng.normal(0, 0.006)
            bones.append(
                _bone(
                    np.array([x - 0.02 * row, y_here + height / 2]) * flip,
                    np.array([x + 0.01, y_here - height / 2]) * flip,
                    rng.uniform(0.042, 0.05) * _BLOCK,
                    cortex=0.14,
                )
            )
    for column in range(4):
        x = (column - 1.5) * 0.09
        bones.append(
            _bone(
                np.array([x, wrist - 0.235]) * flip,
                np.array([x * 1.4, wrist - 0.8]) * flip,
                0.036 * _FINGER,
                cortex=0.34,
            )
        )
    fat = rng.uniform(0.06, 0.12)
    line = np.array([(0, 1.1), (0, 0.6), (0, 0.1), (0, -0.3), (0, -0.5), (0, -0.9)])
    reach = apart + 1.3 * width + np.array([fat * 1.7, fat * 1.6, fat, 0.04, 0.08, 0.1])
    return Anatomy(
        bones=tuple(bones),
        lines=(canvas_lib.smooth(line, closed=False),),
        widths=(np.interp(np.linspace(0, 5, 31), np.arange(6), reach),),
        depth=0.2,
        soft=rng.uniform(0.9, 1.4),
        middle=(0.0, float(rng.uniform(-0.16, 0.28))),
        texture=int(rng.integers(2**31)),
    )


def _hand(rng: np.random.Generator, side: int) -> Anatomy:
    """Part of a hand, enlarged: five rays, wrist, ends of radius and ulna."""
    zoom = rng.uniform(2.4, 3.0)
    flip = np.array([side, 1.0]) * zoom
    stout = rng.uniform(0.92, 1.15)
    spread = rng.uniform(0.8, 1.3)
    cortex = rng.uniform(0.32, 0.46)
    bones: list[bone_lib.Bone] = []
    lines: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    for ray, (degrees, foot, lengths) in enumerate(_FINGERS):
        angle = math.radians(degrees * spread + rng.normal(0, 1.5))
        here = np.array(foot)
        points = [here]
        for joint, length in enumerate(lengths):
            way = np.array([math.sin(angle), -math.cos(angle)])
            there = here + way * length
            thick = stout * _WIDTHS[joint + (ray == 0 and joint > 0)]
            shape = _TIP if joint == len(lengths) - 1 else _FINGER
            bones.append(
                _bone(
                    (here + way * 0.005) * flip,
                    (there - way * 0.005) * flip,
                    thick * shape * zoom * (1.12 if ray == 0 else 1.0),
                    bend=rng.normal(0, 0.01),
                    cortex=cortex,
                    long=joint < 2,
                )
            )
            here = there
            points.append(here)
            angle += rng.normal(0, 0.05) - 0.04 * math.radians(degrees)
        line = np.array([*points, here + way * 0.025])
        lines.append(canvas_lib.smooth(line * flip, closed=False))
        fat = np.interp(np.linspace(0, 1, len(lines[-1])), [0, 0.6, 1], [48, 40, 24])
        widths.append(fat * stout * zoom / 1000)
    bones.extend(_wrist(rng, flip, zoom))
    palm = np.array([(0, 0.55), (0, 0.3), (0, 0.2), (0.0, 0.08), (0, -0.07)])
    lines.append(canvas_lib.smooth(palm * flip, closed=False))
    reach = np.interp(np.arange(25), [0, 6, 12, 18, 24], [0.12, 0.1, 0.115, 0.13, 0.12])
    widths.append(reach * stout * zoom)
    return Anatomy(
        bones=tuple(bones),
        lines=tuple(lines),
        widths=tuple(widths),
        depth=0.055 * zoom,
        soft=rng.uniform(0.6, 1.0),
        middle=(float(rng.uniform(-0.04, 0.06)) * side * zoom, -0.04 * zoom),
        texture=int(rng.integers(2**31)),
    )


def _wrist(
    rng: np.random.Generator, flip: np.ndarray, zoom: float
) -> list[bone_lib.Bone]:
    """Eight wrist bones and the ends of radius and ulna."""
    bones = []
    for y in (0.175, 0.222):
        for column in range(4):
            x = (column - 1.5) * 0.04 + rng.normal(0, 0.003)
            height = rng.uniform(0.042, 0.05)
            middle = np.array([x, y + 0.005 * (column - 1.5) ** 2])
            half = np.array([rng.normal(0, 0.005), height / 2])
            bones.append(
                _bone(
                    (middle + half) * flip,
                    (middle - half) * flip,
                    rng.uniform(0.02, 0.024) * _BLOCK * zoom,
                    cortex=0.14,
                )
            )
    for x, shape, width in ((-0.04, _RADIUS, 0.026), (0.05, _ULNA, 0.026)):
        start, end = np.array([x, 0.85]), np.array([x, 0.255])
        bones.append(_bone(start * flip, end * flip, width * shape * zoom))
    return bones
