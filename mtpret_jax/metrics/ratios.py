"""Division and means in which "nothing to measure" is NaN, never zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides, float64 of their shape; NaN where `whole` is zero."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean(values: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Mean over axis 0 of the values that are defined; NaN when none is.

    Returns:
      float64 of the other axes' shape.
    """
    array = np.asarray(values, float)
    defined = np.isfinite(array)
    return ratio(np.where(defined, array, 0.0).sum(axis=0), defined.sum(axis=0))
