"""Invented X-rays for golden files: bright ellipses on a dark ground, with noise."""

import drawing
import numpy as np

ELLIPSES = 6


def images(count: int, size: int, name: str = "phantoms") -> np.ndarray:
    """Grey images about 0, float32 [count, size, size, 1]; only exact arithmetic."""
    numbers = drawing.uniform(name, (count, ELLIPSES, 5)).astype(np.float64)
    y, x = np.mgrid[:size, :size] * 2 / size - 1
    result = []
    for ellipses in numbers:
        image = np.full((size, size), -1.0)
        for top, left, height, width, brightness in ellipses:
            # Half axes from 0.2 to 0.7 of half the image.
            down = (y - 0.6 * top) / (0.45 + 0.25 * height)
            across = (x - 0.6 * left) / (0.45 + 0.25 * width)
            image += np.where(
                down * down + across * across < 1, 0.6 + brightness / 2, 0
            )
        result.append(image)
    noise = drawing.uniform(f"{name} noise", (count, size, size, 1))
    return (np.stack(result)[..., None] + 0.2 * noise).astype(np.float32)
