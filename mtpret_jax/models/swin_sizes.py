"""Published sizes of Swin transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Size:
    """Width of the first stage, blocks and heads of each, side of a window."""

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int


SIZES: Mapping[str, Size] = {
    "tiny": Size(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "base": Size(128, (2, 2, 18, 2), (4, 8, 16, 32), 7),
    "large": Size(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}
