"""How far apart the outlines of two regions are: the Hausdorff distance, 95 %."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, spatial

SHARE = 95  # percent of an outline's pixels that lie no farther from the other one


def hausdorff_95(
    one: np.ndarray, other: np.ndarray, pixel_size: np.ndarray | tuple[float, float]
) -> float:
    """The larger of both outlines' 95th percentiles of distance to the other one.

    An outline is the pixels of a region that have one beside, above or below them which
    is not in it, or the image's border.

    Args:
      one: bool [H, W].
      other: bool [H, W].
      pixel_size: Height and width of a pixel, in the unit of the distance.

    Returns:
      At least 0; NaN where a region is empty.

    Source:
      Huttenlocher et al. 1993; the percentile in each direction, then the larger, as in
      Maier-Hein et al. 2024, "Metrics reloaded".
    """
    if not one.any() or not other.any():
        return float("nan")
    first, second = (
        np.argwhere(mask & ~np.asarray(ndimage.binary_erosion(mask), bool))
        * np.asarray(pixel_size)
        for mask in (one, other)
    )
    return max(
        float(np.percentile(spatial.KDTree(there).query(here)[0], SHARE))
        for here, there in ((first, second), (second, first))
    )
