"""Brings pixel values of any range to those of uint8 or uint16.

Works through a table where values have 16 bits or fewer, and block by block where they
have more, so that a large image never exists in a wider type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfds_builders.images import limits

# Of each value alone: the same wherever it stands, and in whatever shape.
Change = Callable[[np.ndarray], np.ndarray]
# Red, green and blue in grey, in 65536ths.
_WEIGHTS = (19595, 38470, 7471)
_BLOCK = 1 << 20  # values


def as_float(values: np.ndarray) -> np.ndarray:
    """Float64 of the same shape; the change that changes nothing."""
    return values.astype(np.float64)


def distinct(values: np.ndarray) -> np.ndarray:
    """Each value once, ascending, of integers up to 16 bits; else all as they are."""
    if not _fits_table(values):
        return values.reshape(-1)
    table = _table(values.dtype)
    is_there = np.zeros(table.shape, bool)
    for block in _blocks(values):
        is_there[block.astype(np.intp) - int(table[0])] = True
    return table[is_there]


def extent(values: np.ndarray, change: Change = as_float) -> tuple[float, float]:
    """The lowest and the highest value after a change; NaN where any is NaN."""
    found = [(part.min(), part.max()) for part in map(change, _blocks(values))]
    lowest, highest = zip(*found, strict=True)
    return np.min(lowest), np.max(highest)


def replace(
    values: np.ndarray, change: Change, dtype: type[np.unsignedinteger[Any]]
) -> np.ndarray:
    """Changes every value.

    Args:
      values: Any shape, integer or float.
      change: Gives a number within `dtype` for each value that is there.
      dtype: Type of the result.
    """
    out = np.empty(values.shape, dtype)
    blocks = zip(_blocks(out), _blocks(values), strict=True)
    # What a table holds for values that are not there may be anything.
    with np.errstate(all="ignore"):
        if _fits_table(values):
            table = _table(values.dtype)
            changed = change(table).astype(dtype)
            for into, block in blocks:
                into[:] = changed[block.astype(np.intp) - int(table[0])]
        else:
            for into, block in blocks:
                into[:] = change(block)
    return out


def spread(
    values: np.ndarray,
    dtype: type[np.unsignedinteger[Any]],
    change: Change = as_float,
    *,
    left_out: Change | None = None,
) -> np.ndarray:
    """Stretches numbers of any range over all of `dtype`; a constant becomes 0.

    Args:
      values: Any shape, integer or float.
      dtype: `np.uint8` or `np.uint16`.
      change: To float64, made first.
      left_out: Which values lie outside the range and become 0, as bool.

    Raises:
      UnreadableImage: If a number, or the distance of two, is not finite.
    """
    with np.errstate(all="ignore"):
        there = distinct(values)
        if left_out is not None:
            there = there[~left_out(there)]
        low, high = extent(there, change)
        distance = high - low
    if not np.isfinite(distance):
        raise limits.UnreadableImage("some pixels are not finite numbers")
    if not distance:
        return np.zeros(values.shape, dtype)
    most = np.iinfo(dtype).max

    def stretched(part: np.ndarray) -> np.ndarray:
        found = np.rint((change(part) - low) / distance * most)
        return found if left_out is None else np.where(left_out(part), 0, found)

    return replace(values, stretched, dtype)


def grey(colours: np.ndarray) -> np.ndarray:
    """The grey of colours, as Pillow's: uint8 or uint16 [.., 3] to the same [..]."""
    total = np.full(colours.shape[:-1], 1 << 15, np.uint32)
    for channel, weight in enumerate(_WEIGHTS):
        total += colours[..., channel] * np.uint32(weight)
    return (total >> 16).astype(colours.dtype)


def _fits_table(values: np.ndarray) -> bool:
    return values.dtype.kind in "ui" and values.dtype.itemsize <= 2


def _table(dtype: np.dtype[Any]) -> np.ndarray:
    """All values of an integer type, ascending."""
    limit = np.iinfo(dtype)
    return np.arange(limit.min, limit.max + 1, dtype=dtype.newbyteorder("="))


def _blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK]
