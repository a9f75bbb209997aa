"""Sums in which every example counts as often as a resample drew it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import sparse

from mtpret_jax import types


def once(metric: types.Metric, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metric's values with every example counted once."""
    ones = np.ones((len(summary["record"]), 1))
    return {name: float(x[0]) for name, x in metric.weighted(summary, ones).items()}


def totals(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sums over the examples.

    Args:
      values: [N, ...].
      weight: float64 [N, R].

    Returns:
      float64 [..., R]; exact where values and weights are whole numbers.
    """
    columns = np.asarray(values, float).reshape(len(values), -1)
    # Mostly zeros. A dense product's threads would wait for each other on a busy host.
    found = sparse.csr_array(columns.T) @ weight
    return found.reshape(*values.shape[1:], weight.shape[1])


def totals_by_bin(
    place: np.ndarray,
    example: np.ndarray,
    share: np.ndarray,
    weight: np.ndarray,
    *,
    bins: int,
) -> np.ndarray:
    """Weighted sums of entries that fall into bins.

    Args:
      place: Bin of each entry, int [n].
      example: Which example the entry is of, int [n].
      share: What the entry adds when its example is drawn once, [n].
      weight: float64 [N, R].
      bins: B.

    Returns:
      float64 [B, R].
    """
    shape = (bins, len(weight))
    return (
        sparse.csr_array((np.asarray(share, float), (place, example)), shape) @ weight
    )
