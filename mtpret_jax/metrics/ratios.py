"""Division and means in which "nothing to measure" is NaN, never zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divides, float64 of their shape; NaN where `whole` is zero."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the values that are defined; NaN when none is."""
    array = np.asarray(values, float)
    defined = array[np.isfinite(array)]
    return float(defined.mean()) if defined.size else float("nan")
