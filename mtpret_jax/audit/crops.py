"""Which images are parts of which: copies cut to about 80 to 100 % of the sides.

Hashes of windows of every image are compared with those of whole images; then the
supposed part is laid over the supposed whole at every place and size nearby. Its
margins do not count: there the detail was drawn from what the other does not show.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import threading
from collections.abc import Iterable

import cv2
import numpy as np

from mtpret_jax.audit import signatures

FARTHEST_COARSE = 9  # of 63 bits: pairs with more unequal ones are not looked at
FARTHEST = 32  # of all 143
NEAREST = 32  # windows that are looked at for each part
LEAST_AT_SIZES = ((0.7, (0,)), (0.85, (-2, 2)))  # agreement at a first look, a second
LEAST_AGREEMENT = 0.97  # correlation of the details at the best place and size
BLANK = 0.05  # grey levels: nothing to compare
SMALLEST = 64  # pixels of the shorter side of a part: below it has no such detail

RULE = {
    "version": 1,
    "windows": len(signatures.WINDOWS),
    "farthest_coarse": FARTHEST_COARSE,
    "farthest": FARTHEST,
    "nearest": NEAREST,
    "least_agreement": LEAST_AGREEMENT,
    "smallest": SMALLEST,
}

_ROWS, _COLUMNS = 32, 4096  # of a block of hashes
_STRIPS = 4096  # after which only the nearest windows are kept
_MARGIN = 5  # pixels of 64 at each side of a part that do not count
_REACH = 4  # pixels of 64 round a window's place
_THREADS = min(4, os.cpu_count() or 1)


def find(found: signatures.Signatures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of a part and its whole.

    Args:
      found: Signatures of N different images.

    Returns:
      Part and whole, in rising order, int64 [P, 2]; unequal bits of the part's hash
      and of the window's, int64 [P]; correlation of the details, float64 [P].
    """
    supposed: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for part, row, distance in _supposed(found).tolist():
        whole, window = divmod(row, len(signatures.WINDOWS))
        supposed.setdefault((part, whole), []).append((distance, window))

    def look(pair: tuple[int, int]) -> tuple[int, float]:
        for distance, window in sorted(supposed[pair]):
            agreed = agreement(found, *pair, window)
            if agreed >= LEAST_AGREEMENT:
                return distance, agreed
        return 0, 0.0

    pairs = sorted(supposed)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        measured = list(pool.map(look, pairs))
    distance, agreed = np.array(measured, np.float64).reshape(-1, 2).T
    kept = agreed > 0
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[kept], distance[kept].astype(np.int64), agreed[kept]


def _supposed(found: signatures.Signatures) -> np.ndarray:
    """Part, row of a window of another image, and unequal bits; int64 [P, 3]."""
    is_large = found.size.min(axis=1) >= SMALLEST
    hashes = np.ascontiguousarray(found.windows[:, 0].T)
    rows = found.windows.reshape(-1, len(hashes))

    def strip(start: int) -> np.ndarray:
        close = _close(rows[start : start + _ROWS], hashes)
        close[:, 1] += start
        whole = close[:, 1] // len(signatures.WINDOWS)
        return close[(whole != close[:, 0]) & is_large[close[:, 0]]]

    kept = np.zeros((0, 3), np.int64)
    starts = range(0, len(rows), _ROWS)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(starts), _STRIPS):
            strips = pool.map(strip, starts[first : first + _STRIPS])
            kept = keep_nearest(np.concatenate([kept, *strips]), NEAREST)
    return kept


def keep_nearest(close: np.ndarray, count: int) -> np.ndarray:
    """The nearest windows of each part.

    Args:
      close: Part, row of a window, and unequal bits; int64 [P, 3].
      count: How many of each part.

    Returns:
      Those of `close`, by part and nearness, int64 [Q, 3].
    """
    close = close[np.lexsort((close[:, 1], close[:, 2], close[:, 0]))]
    first = np.searchsorted(close[:, 0], close[:, 0])
    return close[np.arange(len(close)) - first < count]


def _close(windows: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Windows' hashes [R, 3] that are close to others' [3, N]: column, row, bits."""
    found = [np.zeros((0, 3), np.int64)]
    for column in range(0, hashes.shape[1], _COLUMNS):
        others = hashes[:, column : column + _COLUMNS]
        words, bits, is_close = _room(len(windows), others.shape[1])
        np.bitwise_xor(windows[:, 0, None], others[0], out=words)
        np.bitwise_count(words, out=bits)
        np.less_equal(bits, FARTHEST_COARSE, out=is_close)
        i, j = np.divmod(np.flatnonzero(is_close), others.shape[1])
        total = np.bitwise_count(windows[i] ^ others[:, j].T).sum(1, dtype=np.int64)
        kept = total <= FARTHEST
        found.append(np.stack([j + column, i, total], axis=1)[kept])
    return np.concatenate(found)


_local = threading.local()


def _room(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory of this thread for a block, a quarter of the time of new memory."""
    if getattr(_local, "shape", None) != (rows, columns):
        _local.shape = rows, columns
        _local.room = (
            np.empty((rows, columns), np.uint64),
            np.empty((rows, columns), np.uint8),
            np.empty((rows, columns), np.bool_),
        )
    return _local.room


def agreement(
    found: signatures.Signatures, part: int, whole: int, window: int
) -> float:
    """How well an image agrees with a part of another, near a window of that.

    Args:
      found: Signatures.
      part: The supposed part.
      whole: The supposed whole.
      window: Index in `signatures.WINDOWS`.

    Returns:
      Correlation of the details where they agree best; 0 where it is low at the first
      looks, or one of the images shows nothing.
    """
    if found.contrast[[part, whole]].min() <= BLANK:
        return 0.0
    side, top, left = signatures.WINDOWS[window]
    corner = (round(signatures.SIDE * top), round(signatures.SIDE * left))
    detail, around = (found.detail[k].astype(np.float32) for k in (part, whole))
    nominal = round(signatures.SIDE * side)
    agreed: dict[tuple[int, int], float] = {}

    def look(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
        for size in sizes:
            if size not in agreed and max(size) <= signatures.SIDE:
                agreed[size] = _match(detail, around, size, corner)
        return max(agreed, key=lambda size: agreed[size])

    for least, steps in LEAST_AT_SIZES:
        if agreed[look((nominal + s, nominal + s) for s in steps)] < least:
            return 0.0
    best, last = look((nominal + s, nominal + s) for s in (-3, -1, 1, 3)), None
    while best != last:  # Uphill, a pixel of each side at a time.
        last = best
        rows, columns = (range(side - 1, side + 2) for side in best)
        best = look(itertools.product(rows, columns))
    return agreed[best]


def _match(
    detail: np.ndarray,
    around: np.ndarray,
    size: tuple[int, int],
    corner: tuple[int, int],
) -> float:
    """Best correlation of a detail, scaled to a size, near a corner of another one."""
    height, width = size
    shrunk = cv2.resize(detail, (width, height), interpolation=cv2.INTER_AREA)
    # A part shows finer details than the whole at the same width.
    down, across = (
        (max(0.0, 1 - (s / signatures.SIDE) ** 2)) ** 0.5 or 1e-3 for s in size
    )
    shrunk = cv2.GaussianBlur(shrunk, (0, 0), sigmaX=across, sigmaY=down)
    inner = shrunk[_MARGIN : height - _MARGIN, _MARGIN : width - _MARGIN]
    y, x = (
        max(0, min(place + _MARGIN - _REACH, signatures.SIDE - length))
        for place, length in zip(corner, inner.shape, strict=True)
    )
    bottom, right = (length + 2 * _REACH for length in inner.shape)
    region = around[y : y + bottom, x : x + right]
    return float(cv2.matchTemplate(region, inner, cv2.TM_CCOEFF_NORMED).max())
