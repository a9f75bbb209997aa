"""From the integers that cross to a device to what networks see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_STATISTICS = "_statistics"


def normalise(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Subtracts each picture's mean and divides by its deviation; padding becomes 0.

    The first thing a compiled step does; with NumPy's arrays it computes the same.

    Args:
      arrays: A batch's. Beside uint8 or uint16 pictures `<name>` [B, H, W, 1], 0 where
        there is padding, lie `<name>_statistics`, float32 [B, 2]: mean and deviation in
        grey levels; or [B, 2, C], for each channel. Pictures without these are
        normalised already.

    Returns:
      The arrays without statistics, those pictures float32 [B, H, W, 1] or
      [B, H, W, C].
    """
    found = {k: v for k, v in arrays.items() if not k.endswith(_STATISTICS)}
    for name, image in found.items():
        statistics = arrays.get(name + _STATISTICS)
        if statistics is not None:
            shape = (len(image), 1, 1, -1)
            mean, deviation = (statistics[:, i].reshape(shape) for i in (0, 1))
            inside = image != 0
            found[name] = (image.astype(np.float32) - mean) / deviation * inside
    return found
