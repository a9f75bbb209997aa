"""The vessels of the lungs, which branch from the hila."""

from __future__ import annotations

import numpy as np


def draw(rng: np.random.Generator) -> tuple[list[np.ndarray], list[float]]:
    """Branching lung vessels: polylines [N, 2] and their widths, units."""
    count = 11
    side = np.repeat([-1.0, 1.0], count)
    angle = np.tile(np.linspace(-1.3, 1.25, count), 2) + rng.normal(0, 0.12, 2 * count)
    reach = rng.uniform(0.15, 0.27, 2 * count)
    way = np.stack([side * np.cos(angle), np.sin(angle)], 1)
    across = np.stack([-way[:, 1], way[:, 0]], 1)
    u = np.linspace(0, 1, 7)[None, :, None]
    root = np.stack([side * 0.1, np.full(2 * count, -0.03)], 1)
    root += rng.normal(0, 0.012, root.shape)
    bow = rng.normal(0, 0.03, (2 * count, 1, 1))
    lines = root[:, None] + way[:, None] * reach[:, None, None] * u
    lines = lines + across[:, None] * (bow * u**2 + 0.004 * np.sin(9 * u + 50 * bow))
    width = rng.uniform(0.005, 0.011, 2 * count)
    found = [lines[:, :3], lines[:, 2:5], lines[:, 4:]]
    sizes = [width, 0.7 * width, 0.45 * width]
    for k in (2, 3, 4, 5):
        turn = rng.choice([-1, 1], 2 * count) * rng.uniform(0.4, 0.9, 2 * count)
        cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
        fork = way * cos + across * sin
        length = rng.uniform(0.04, 0.1, 2 * count)[:, None, None]
        found.append(lines[:, k, None] + fork[:, None] * u[:, ::2] * length)
        sizes.append(0.4 * width)
    flat = [line for group in found for line in group]
    return flat, np.concatenate(sizes).tolist()
