"""Drawing of attenuation maps: polygons, tapered tubes, domes and clouds.

All lengths are in units of the longest side of the image; x points right, y down,
and (0, 0) is the middle of the anatomy. Pixel (0, 0) has its centre at (0, 0) in
pixel coordinates, as OpenCV has it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import cv2
import numpy as np

_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A grid of pixels and the pose of the anatomy on it.

    Attributes:
      height: Rows, pixels.
      width: Columns, pixels.
      scale: Pixels for one unit.
      angle: Rotation of the anatomy, radians, clockwise as seen.
      offset: Pixel coordinates (x, y) of the anatomy's (0, 0).
    """

    height: int
    width: int
    scale: float
    angle: float
    offset: tuple[float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Maps points [N, 2] (x, y, units) to pixel coordinates [N, 2]."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        rotation = np.array([[cos, sin], [-sin, cos]])
        points = np.asarray(points, np.float64)
        return points @ rotation * self.scale + self.offset

    def zeros(self) -> np.ndarray:
        """An empty map, float32 [H, W]."""
        return np.zeros(self.shape, np.float32)

    def fill(self, *polygons: np.ndarray) -> np.ndarray:
        """Coverage of polygons ([N, 2] in units each), float32 [H, W] in [0, 1]."""
        layer = np.zeros(self.shape, np.uint8)
        for polygon in self._fixed(polygons):
            cv2.fillPoly(layer, [polygon], 255, cv2.LINE_AA, _SHIFT)
        return layer * np.float32(1 / 255)

    def mask(self, *polygons: np.ndarray) -> np.ndarray:
        """Pixels inside any of the polygons, bool [H, W]."""
        layer = np.zeros(self.shape, np.uint8)
        for polygon in self._fixed(polygons):
            cv2.fillPoly(layer, [polygon], 1, cv2.LINE_8, _SHIFT)
        return layer > 0

    def strokes(
        self, lines: Sequence[np.ndarray], widths: Sequence[float]
    ) -> np.ndarray:
        """Coverage of open polylines of a width in units, float32 [H, W].

        A stroke thinner than a pixel is drawn a pixel wide and fainter.
        """
        layer = np.zeros(self.shape, np.uint8)
        for line, width in zip(self._fixed(lines), widths, strict=True):
            size = width * self.scale
            cv2.polylines(
                layer,
                [line],
                False,
                min(255, max(1, round(255 * size))),
                max(1, round(size)),
                cv2.LINE_AA,
                _SHIFT,
            )
        return layer * np.float32(1 / 255)

    def blobs(self, centres: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
        """Sum of round Gaussians of height 1, float32 [H, W].

        Args:
          centres: [N, 2], units.
          sigmas: N standard deviations, units.
        """
        total = self.zeros()
        for (x, y), sigma in zip(self.pixels(centres), sigmas, strict=True):
            spread = sigma * self.scale
            rows = _span(y, 3 * spread, self.height)
            cols = _span(x, 3 * spread, self.width)
            down = np.arange(rows.start, rows.stop, dtype=np.float32) - y
            right = np.arange(cols.start, cols.stop, dtype=np.float32) - x
            factor = -0.5 / max(spread, 1e-6) ** 2
            total[rows, cols] += np.outer(
                np.exp(factor * down**2), np.exp(factor * right**2)
            ).astype(np.float32)
        return total

    def ramp(self, axis: int, start: float, end: float, low: float) -> np.ndarray:
        """A factor that rises from `low` at `start` to 1 at `end`.

        Args:
          axis: 0 for the anatomy's y, 1 for its x.
          start: Where it begins to rise, units.
          end: Where it is 1, units.
          low: Its value before `start`.

        Returns:
          float32 [H, W].
        """
        down = (np.arange(self.height, dtype=np.float32) - self.offset[1])[:, None]
        right = (np.arange(self.width, dtype=np.float32) - self.offset[0])[None, :]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        place = down * cos - right * sin if axis == 0 else right * cos + down * sin
        rise = np.clip((place / self.scale - start) / (end - start), 0, 1)
        rise = rise * rise * (3 - 2 * rise)
        return (low + (1 - low) * rise).astype(np.float32)

    def tube(
        self,
        start: np.ndarray,
        end: np.ndarray,
        half_width: np.ndarray,
        *,
        bend: float = 0.0,
    ) -> Tube:
        """Coordinates around a tapered, slightly bent tube.

        Args:
          start: (x, y) of one end, units.
          end: (x, y) of the other end, units.
          half_width: Half width at equal steps from start to end, [K], units.
          bend: Sideways bow of the middle, as a fraction of the length.
        """
        ends = self.pixels(np.stack([start, end]))
        length = float(np.hypot(*(ends[1] - ends[0]))) or 1e-6
        along = (ends[1] - ends[0]) / length
        margin = (float(np.max(half_width)) + abs(bend) * length / self.scale) * 1.3
        margin = margin * self.scale + 2.0
        low, high = ends.min(axis=0) - margin, ends.max(axis=0) + margin
        middle, reach = (low + high) / 2, (high - low) / 2
        rows = _span(middle[1], reach[1], self.height)
        cols = _span(middle[0], reach[0], self.width)
        down = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        right = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :]
        down, right = down - np.float32(ends[0, 1]), right - np.float32(ends[0, 0])
        ax, ay = np.float32(along[0]), np.float32(along[1])
        t = (right * ax + down * ay) / np.float32(length)
        s = (down * ax - right * ay) / np.float32(self.scale)
        if bend:
            bow = 4 * bend * length / self.scale
            s = s - np.float32(bow) * t * (1 - t)
        table = np.asarray(half_width, np.float32)
        # Beyond both ends the width is zero, so that the tube is closed.
        table = np.concatenate([[0.0], table, [0.0]])
        width = np.interp(t, _stops(len(table)), table).astype(np.float32)
        return Tube(rows=rows, cols=cols, t=t, s=s, width=width)

    def _fixed(self, lines: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Pixel coordinates of lines [N, 2] in OpenCV's fixed point, int32 [N, 2]."""
        points = self.pixels(np.concatenate(lines)) * (1 << _SHIFT)
        points = np.rint(points).astype(np.int32)
        stops = list(itertools.accumulate(len(line) for line in lines))
        return [
            points[start:stop] for start, stop in zip([0, *stops], stops, strict=False)
        ]


@functools.cache
def _stops(count: int) -> np.ndarray:
    """Places along a tube of `count` widths, the zeros at both ends among them."""
    return np.concatenate([[-0.01], np.linspace(0, 1, count - 2), [1.01]])


@dataclasses.dataclass(frozen=True)
class Tube:
    """The part of a canvas around a tube, in the tube's own coordinates.

    Attributes:
      rows: Rows of the canvas.
      cols: Columns of the canvas.
      t: Place along the axis, 0 at the start and 1 at the end, float32 [h, w].
      s: Signed distance from the axis, units, float32 [h, w].
      width: Half width at `t`, units, zero beyond the ends, float32 [h, w].
    """

    rows: slice
    cols: slice
    t: np.ndarray
    s: np.ndarray
    width: np.ndarray


def chord(half_width: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Length of a ray through a round tube at distance s from its axis, units."""
    return 2 * np.sqrt(np.maximum(half_width**2 - s**2, 0))


def bounds(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """Tight box of a bool mask [H, W]: ymin, xmin, ymax, xmax as fractions."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = mask.shape
    return (
        float(rows[0] / height),
        float(cols[0] / width),
        float((rows[-1] + 1) / height),
        float((cols[-1] + 1) / width),
    )


def smooth(points: np.ndarray, steps: int = 6, *, closed: bool = True) -> np.ndarray:
    """A Catmull-Rom curve through points [N, 2]; returns [M, 2].

    Source: E. Catmull and R. Rom, "A class of local interpolating splines", 1974.
    """
    points = np.asarray(points, np.float64)
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
    before, here, there, after = (padded[i : len(padded) - 3 + i] for i in range(4))
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (part[:, None, :] for part in (before, here, there, after))
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - 3 * p2 + p3 - p0) * t**3
    ).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def ribbon(centre: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Outline [..., 2N, 2] of bands around centre lines [..., N, 2].

    Args:
      centre: Points of the middle lines, units.
      half_width: Half widths at those points, [..., N], units.
    """
    tangent = np.empty_like(centre)
    tangent[..., 1:-1, :] = centre[..., 2:, :] - centre[..., :-2, :]
    tangent[..., 0, :] = centre[..., 1, :] - centre[..., 0, :]
    tangent[..., -1, :] = centre[..., -1, :] - centre[..., -2, :]
    tangent /= np.hypot(tangent[..., 0], tangent[..., 1])[..., None] + 1e-9
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    side = normal * half_width[..., None]
    return np.concatenate([centre + side, (centre - side)[..., ::-1, :]], axis=-2)


def soften(layer: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur by `sigma` pixels; wide blurs are done at low resolution."""
    if sigma <= 0:
        return layer
    height, width = layer.shape
    factor = max(1, int(sigma / 2))
    if factor == 1:
        return cv2.GaussianBlur(layer, (0, 0), sigma)
    small = (max(4, width // factor), max(4, height // factor))
    low = cv2.resize(layer, small, interpolation=cv2.INTER_AREA)
    low = cv2.GaussianBlur(low, (0, 0), sigma * small[0] / width)
    return cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR)


def dome(coverage: np.ndarray, radius: float) -> np.ndarray:
    """Thickness of a body that rounds off within `radius` pixels of its outline.

    Zero outside, rising as a circle's edge does to 1 in the inside, float32 [H, W].
    """
    solid = np.pad((coverage > 0.5).astype(np.uint8), 1, mode="edge")
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1]
    rest = 1 - np.minimum(depth / np.float32(radius), 1)
    return np.sqrt(np.maximum(1 - rest * rest, 0)) * coverage


def cloud(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """A smooth random field of unit deviation before smoothing, float32 [H, W]."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _span(centre: float, reach: float, size: int) -> slice:
    """Indices within `reach` of `centre`, cut to [0, size)."""
    low = min(max(math.floor(centre - reach), 0), size)
    high = min(max(math.ceil(centre + reach) + 1, low), size)
    return slice(low, high)
