"""Hollow bones and breaks across them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfds_builders.phantom_xray import canvas as canvas_lib


@dataclasses.dataclass(frozen=True)
class Bone:
    """A hollow bone; lengths in units of the image's longest side.

    Attributes:
      start: One end, (x, y).
      end: The other end, (x, y).
      half_width: At equal steps from start to end, [K].
      bend: Bow of the middle, fraction of the length.
      cortex: Thickness of the dense wall, fraction of the half width.
      long: Whether it may break.
    """

    start: np.ndarray
    end: np.ndarray
    half_width: np.ndarray
    bend: float
    cortex: float
    long: bool

    @property
    def length(self) -> float:
        """Distance between the ends, units."""
        return float(np.hypot(*(self.end - self.start)))

    def at(self, t: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Points [N, 2] at `t` along the axis and `s` units beside it, [N] each."""
        length = self.length
        along = (self.end - self.start) / length
        s = s + 4 * self.bend * length * t * (1 - t)
        across = np.array([-along[1], along[0]])
        return self.start + np.outer(t * length, along) + np.outer(s, across)

    def width_at(self, t: float) -> float:
        """Half width at `t`, units."""
        stops = np.linspace(0, 1, len(self.half_width))
        return float(np.interp(t, stops, self.half_width))


@dataclasses.dataclass(frozen=True)
class Fracture:
    """A break across a bone.

    Attributes:
      bone: Index of the bone.
      t: Place along the bone.
      slope: Run along the bone for a step across it.
      jag: Height of the broken edge's teeth, units.
      gap: Half width of the lucent line, units.
      shift: Sideways step of the far part, units.
      angle: Kink of the far part, tangent.
    """

    bone: int
    t: float
    slope: float
    jag: float
    gap: float
    shift: float
    angle: float

    def line(self, s: np.ndarray, bone: Bone) -> np.ndarray:
        """Distance from the bone's start to the broken edge at `s`, units."""
        teeth = np.abs((s / bone.width_at(self.t) * 1.3) % 2 - 1) - 0.5
        return self.t * bone.length + s * self.slope + self.jag * teeth


def add(
    total: np.ndarray,
    canvas: canvas_lib.Canvas,
    bone: Bone,
    grain: np.ndarray,
    fracture: Fracture | None,
) -> None:
    """Adds a bone to an attenuation map, in place.

    Args:
      total: The map, float32 [H, W].
      canvas: Pixels and pose.
      bone: The bone.
      grain: Texture of the marrow around 1, float32 [H, W].
      fracture: Where this bone is broken, if it is.
    """
    widened = bone.half_width * (1.5 if fracture else 1.0)
    tube = canvas.tube(bone.start, bone.end, widened, bend=bone.bend)
    if not tube.t.size:
        return
    s, width = tube.s, tube.width / np.float32(1.5 if fracture else 1.0)
    keep: np.ndarray | float = 1.0
    if fracture:
        past = tube.t * np.float32(bone.length) - fracture.line(s, bone)
        far = np.maximum(past, 0) * np.float32(fracture.angle)
        s = np.where(past > 0, s - np.float32(fracture.shift) - far, s)
        upright = past / np.float32(math.hypot(1, fracture.slope))
        keep = 1 - 0.92 * np.exp(-((upright / np.float32(fracture.gap)) ** 2))
    # The wall is thick in the middle of the shaft and thin at the ends.
    wall = bone.cortex * np.clip(1.25 - 3.2 * (tube.t - 0.5) ** 2 * 1.4, 0.3, 1)
    outer = canvas_lib.chord(width, s)
    inner = canvas_lib.chord(width * (1 - wall).astype(np.float32), s)
    reference = 2 * float(np.median(bone.half_width))
    texture = grain[tube.rows, tube.cols]
    value = 2.3 * (outer - inner) + 0.3 * inner * texture
    total[tube.rows, tube.cols] += (keep * value / reference).astype(np.float32)
