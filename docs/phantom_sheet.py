"""Draws examples of every body into one image.

    python docs/phantom_sheet.py OUT.png

Two rows for each body: as the images are, then with outlines of the masks (green), the
boxes (red) and the finding.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
import PIL.Image

from tfds_builders.phantom_xray import simulator

_GREEN, _RED, _YELLOW = (60, 200, 60), (60, 60, 235), (80, 220, 235)  # BGR


def draw(*, size: int = 160, columns: int = 5, seed: int = 0) -> np.ndarray:
    """Draws the sheet.

    Args:
      size: Longest side of an image, pixels.
      columns: Images in a row.
      seed: Seed of the simulated set.

    Returns:
      uint8 [H, W, 3], BGR.
    """
    rows = []
    for body, rules in simulator.BODIES.items():
        shots = [
            simulator.simulate(body, size=size, seed=seed, split_index=0, index=i)
            for i in range(2 * columns)
        ]
        plain = [cv2.cvtColor(shot.image, cv2.COLOR_GRAY2BGR) for shot in shots]
        labelled = [
            _labelled(image, shot, rules.classes[shot.finding])
            for image, shot in zip(plain, shots, strict=True)
        ]
        # Images of a row must differ in patient more than in pose: take every second.
        for images in (plain[::2], labelled[1::2]):
            height = max(image.shape[0] for image in images)
            cells = [_centred(image, (height, size)) for image in images]
            rows.append(np.hstack(cells))
    return np.vstack(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the sheet to the path on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path, help="PNG file to write")
    parser.add_argument("--size", type=int, default=160, help="longest side, pixels")
    parser.add_argument("--columns", type=int, default=5, help="images in a row")
    parser.add_argument("--seed", type=int, default=0, help="seed of the set")
    flags = parser.parse_args(arguments)
    sheet = draw(size=flags.size, columns=flags.columns, seed=flags.seed)
    # A palette of few greys keeps a noisy image small.
    greys = np.repeat(np.linspace(0, 255, 56).round().astype(np.uint8), 3)
    colours = np.array([_GREEN, _RED, _YELLOW], np.uint8)[:, ::-1]
    palette = PIL.Image.new("P", (1, 1))
    palette.putpalette([*greys.tolist(), *colours.ravel().tolist()])
    picture = PIL.Image.fromarray(sheet[..., ::-1].copy())
    picture = picture.quantize(palette=palette, dither=PIL.Image.Dither.NONE)
    picture.save(flags.out, format="PNG", optimize=True)


def _labelled(
    image: np.ndarray, shot: simulator.Radiograph, finding: str
) -> np.ndarray:
    """A copy of the image [H, W, 3] with its labels drawn in."""
    image = image.copy()
    height, width = image.shape[:2]
    if shot.mask is not None:
        outlines, _ = cv2.findContours(shot.mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, _GREEN, 1)
    for y0, x0, y1, x1 in shot.boxes if shot.boxes is not None else []:
        corners = np.array([[x0 * width, y0 * height], [x1 * width, y1 * height]])
        low, high = np.rint(corners).astype(int).tolist()
        cv2.rectangle(image, low, high, _RED, 1)
    at = (4, height - 5)
    cv2.putText(image, finding, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, _YELLOW, 1)
    return image


def _centred(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The image [h, w, 3] in the middle of a dark cell of the given shape."""
    cell = np.full((*shape, 3), 24, np.uint8)
    top, left = (shape[0] - image.shape[0]) // 2, (shape[1] - image.shape[1]) // 2
    cell[top : top + image.shape[0], left : left + image.shape[1]] = image
    return cell


if __name__ == "__main__":
    main()
