"""Pictures of nothing, for stand-ins of released sets: no patient was ever in them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Box = tuple[int, int, int, int]


def draw(
    rng: np.random.Generator, height: int, width: int, spots: Sequence[Box] = ()
) -> np.ndarray:
    """Soft noise, another one each time, with bright spots that can be learnt.

    Args:
      rng: Source of the noise.
      height: Pixels.
      width: Pixels.
      spots: Boxes in which a bright ellipse is laid: x0, y0, x1, y1 in pixels.

    Returns:
      uint8 [height, width], from 8 to 240, never constant.
    """
    coarse = rng.uniform(40, 120, (5, 5)).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = field + rng.normal(0, 6, (height, width)).astype(np.float32)
    for x0, y0, x1, y1 in spots:
        centre = ((x0 + x1) // 2, (y0 + y1) // 2)
        axes = (max(1, (x1 - x0) // 2), max(1, (y1 - y0) // 2))
        spot = np.zeros_like(picture)
        cv2.ellipse(spot, centre, axes, 0, 0, 360, 110, -1)
        picture += spot
    return picture.clip(8, 240).astype(np.uint8)


def encode(suffix: str, picture: np.ndarray) -> bytes:
    """Encodes a picture as files with this suffix are.

    Args:
      suffix: As ".png" or ".jpg".
      picture: uint8 or uint16 [H, W], or [H, W, 3], or [H, W, 4].

    Raises:
      ValueError: If the format cannot hold it.
    """
    done, content = cv2.imencode(suffix, picture)
    if not done:
        raise ValueError(f"no {suffix} of {picture.dtype} {list(picture.shape)}.")
    return content.tobytes()


def spot(rng: np.random.Generator, height: int, width: int) -> Box:
    """A box a quarter to a half as wide and high as the picture, inside of it."""
    w, h = (int(rng.integers(side // 4, side // 2)) for side in (width, height))
    x, y = int(rng.integers(1, width - w)), int(rng.integers(1, height - h))
    return (x, y, x + w, y + h)
