"""Answers drawn on the X-ray, in the file's own pixels.

Orange stands out from grey for every kind of colour vision (Okabe and Ito 2008); a dark
rim keeps it legible on bright bone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mtpret_jax.inference import preprocessing

# Red, green, blue: orange, sky blue, bluish green, yellow, vermilion, reddish purple.
COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
)
SCORE_SHOWN = 0.3  # boxes below this are not drawn
_BLACK = (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def boxes(
    pixels: np.ndarray, rows: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> np.ndarray:
    """Boxes with class and score, the surest on top: uint8 [H, W, 3], RGB.

    Args:
      pixels: The file's, uint8 [H, W].
      rows: Boxes, best first, as `answers.Detection` gives them.
      classes: Names.
    """
    drawn, line = _canvas(pixels)
    for row in reversed(rows):
        if row["score"] < SCORE_SHOWN:
            continue
        colour = COLOURS[classes.index(row["class"]) % len(COLOURS)]
        x0, y0, x1, y1 = (round(value) for value in row["box"])
        for paint, width in ((_BLACK, 3 * line), (colour, line)):
            cv2.rectangle(drawn, (x0, y0), (x1, y1), paint, width, cv2.LINE_AA)
        _write(drawn, f"{row['class']} {row['score']:.2f}", (x0, y0), colour)
    return drawn


def outlines(
    pixels: np.ndarray, mask: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Outlines of every region but the background: uint8 [H, W, 3], RGB.

    Args:
      pixels: The file's, uint8 [H, W].
      mask: Class of each pixel, uint8 [H, W].
      classes: Names, background first.
    """
    drawn, line = _canvas(pixels)
    for c, name in enumerate(classes[1:], 1):
        region = (mask == c).astype(np.uint8)
        rims, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        colour = COLOURS[(c - 1) % len(COLOURS)]
        for paint, width in ((_BLACK, 3 * line), (colour, line)):
            cv2.drawContours(drawn, rims, -1, paint, width, cv2.LINE_AA)
        if rims:
            x, y, _, _ = cv2.boundingRect(max(rims, key=cv2.contourArea))
            _write(drawn, name, (x, y), colour)
    return drawn


def points(pixels: np.ndarray, found: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """Landmarks with their names: uint8 [H, W, 3], RGB.

    Args:
      pixels: The file's, uint8 [H, W].
      found: `x` and `y` of each by name, pixels, as `answers.Landmarks` gives them;
        those that are no numbers are not drawn.
    """
    drawn, line = _canvas(pixels)
    for name, point in found.items():
        if not np.isfinite([point["x"], point["y"]]).all():
            continue
        centre = round(point["x"]), round(point["y"])
        for paint, radius in ((_BLACK, 4 * line), (COLOURS[0], 3 * line)):
            cv2.circle(drawn, centre, radius, paint, -1, cv2.LINE_AA)
        corner = centre[0] + 5 * line, centre[1]
        _write(drawn, name, corner, COLOURS[0])
    return drawn


def attention(
    pixels: np.ndarray,
    radiograph: preprocessing.Radiograph,
    cells: np.ndarray,
    title: str,
) -> np.ndarray:
    """Where the evidence for a class lies (Grad-CAM): uint8 [H, W, 3], RGB.

    Args:
      pixels: The file's, uint8 [H, W].
      radiograph: The same image, prepared.
      cells: At least 0, float [h, w].
      title: Written at the top.
    """
    drawn, _ = _canvas(pixels)
    heat = np.asarray(cells, np.float32)
    heat = heat / max(float(heat.max(initial=0.0)), 1e-12)
    size = len(radiograph.image)
    heat = cv2.resize(heat, (size, size), interpolation=cv2.INTER_LINEAR)
    heat = radiograph.to_file(heat, interpolation=cv2.INTER_LINEAR)
    shades = np.rint(heat * 255).astype(np.uint8)
    painted = cv2.applyColorMap(shades, cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = (0.6 * heat)[..., np.newaxis]
    drawn = np.rint(drawn * (1 - weight) + painted * weight).astype(np.uint8)
    _write(drawn, title, (0, 0), (255, 255, 255))
    return drawn


def caption(drawn: np.ndarray, text: str) -> None:
    """Writes a line into the lower left corner of a drawing, uint8 [H, W, 3]."""
    _write(drawn, text, (0, len(drawn)), (255, 255, 255))


def encode(drawn: np.ndarray) -> bytes:
    """uint8 [H, W] or RGB [H, W, 3] as a PNG."""
    if drawn.ndim == 3:
        drawn = drawn[..., ::-1]
    done, encoded = cv2.imencode(".png", drawn)
    if not done:
        raise ValueError(f"No PNG could be made of {list(drawn.shape)}.")
    return encoded.tobytes()


def _canvas(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """The image in colour, and the width of a line that suits its size, pixels."""
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), max(1, max(pixels.shape) // 500)


def _write(
    drawn: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, ...]
) -> None:
    """Writes on a dark ground, above a corner where there is room, else below."""
    height, width = drawn.shape[:2]
    text = text.encode("ascii", "replace").decode()  # All that OpenCV can draw.
    scale = max(0.35, max(height, width) / 1200)
    thick = max(1, round(1.5 * scale))
    (across, up), down = cv2.getTextSize(text, _FONT, scale, thick)
    x = int(np.clip(corner[0], 0, max(0, width - across)))
    y = corner[1] - down if corner[1] - down - up >= 0 else corner[1] + up + down
    cv2.rectangle(drawn, (x, y - up - down), (x + across, y + down), _BLACK, -1)
    cv2.putText(drawn, text, (x, y), _FONT, scale, colour, thick, cv2.LINE_AA)
