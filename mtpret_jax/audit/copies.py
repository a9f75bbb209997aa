"""Which pictures are copies of which: the same pixels, or the same picture re-encoded.

A near copy is the same exposure at another size, depth, quality or slightly another
intensity; also squashed, but neither turned, mirrored nor cropped by much. Radiographs
of one body part look alike, so a hash only proposes: the detail of both pictures must
agree everywhere.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os

import numpy as np

from mtpret_jax.audit import signatures

FARTHEST = 64  # of 255 bits: pairs with more unequal bits are not looked at
LEAST_AGREEMENT = 0.95  # correlation of the details of two copies
# Where the poorer of two pictures has less contrast or fewer pixels than this, rounding
# and blur are part of its detail, and less agreement is asked for.
FAINT = 2.0  # grey levels of 255
NARROW = 48  # pixels of the shorter side
LEAST_AGREEMENT_POOR = 0.925
BLANK = 0.05  # grey levels: nothing to compare

RULE = {
    "farthest_hash": FARTHEST,
    "hash_bits": signatures.HASH_BITS,
    "least_agreement": LEAST_AGREEMENT,
    "least_agreement_poor": LEAST_AGREEMENT_POOR,
    "faint": FAINT,
    "narrow": NARROW,
    "blank": BLANK,
}

_ROWS, _COLUMNS = 64, 4096  # of a block of hashes; both stay in a core's cache
_VERIFIED = 4096  # pairs at once
_THREADS = min(4, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Copies:
    """Copies among N pictures.

    Attributes:
      same: Pictures with equal pixels have equal numbers, from 0 in order of their
        first picture, int64 [N].
      first: First picture of each number, int64 [G].
      near: Pairs of numbers whose pictures are near copies, the lower first, int64
        [P, 2].
      distance: Unequal bits of each pair, int64 [P].
      agreement: Correlation of the details of each pair, float64 [P].
    """

    same: np.ndarray
    first: np.ndarray
    near: np.ndarray
    distance: np.ndarray
    agreement: np.ndarray


def find(found: signatures.Signatures) -> Copies:
    """All copies among pictures."""
    same, first = _equal(found.digest)
    different = found.take(first)
    pairs, distance = close_pairs(different.bits, FARTHEST)
    agreement = agreements(different, pairs)
    fainter = different.contrast[pairs].min(axis=1)
    is_poor = (fainter < FAINT) | (different.side[pairs].min(axis=1) < NARROW)
    least = np.where(is_poor, LEAST_AGREEMENT_POOR, LEAST_AGREEMENT)
    is_copy = (agreement >= least) & (fainter > BLANK)
    return Copies(same, first, pairs[is_copy], distance[is_copy], agreement[is_copy])


def _equal(digest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Copies.same` and `Copies.first` from digests, uint8 [N, 16]."""
    rows = np.ascontiguousarray(digest).view("V16").ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse], first[order]


def close_pairs(bits: np.ndarray, farthest: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of hashes with few unequal bits, compared block by block.

    Args:
      bits: uint64 [N, 4].
      farthest: Most unequal bits.

    Returns:
      Indices, the lower first, in rising order, int64 [P, 2]; unequal bits, int64 [P].
    """
    words = np.ascontiguousarray(bits.T)
    starts = range(0, len(bits), _ROWS)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        strips = list(pool.map(lambda row: _strip(words, row, farthest), starts))
    empty = np.zeros((0, 3), np.int64)
    found = np.concatenate([empty, *strips])
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    return found[:, :2], found[:, 2]


def _strip(words: np.ndarray, row: int, farthest: int) -> np.ndarray:
    """Close pairs of a strip of rows with all that follow, int64 [P, 3]."""
    found = []
    left = words[:, row : row + _ROWS, None]
    for column in range(row, words.shape[1], _COLUMNS):
        right = words[:, None, column : column + _COLUMNS]
        unequal = np.bitwise_xor(left[0], right[0])
        distance = np.bitwise_count(unequal)  # uint8: at most 255 bits in all
        for word in range(1, signatures.WORDS):
            np.bitwise_xor(left[word], right[word], out=unequal)
            distance += np.bitwise_count(unequal)
        i, j = np.nonzero(distance <= farthest)
        upper = i + row < j + column
        i, j = i[upper], j[upper]
        found.append(np.stack([i + row, j + column, distance[i, j]], axis=1))
    return np.concatenate(found).astype(np.int64)


def agreements(found: signatures.Signatures, pairs: np.ndarray) -> np.ndarray:
    """Correlation of the details of pairs of pictures, int64 [P, 2]; float64 [P]."""
    result = np.empty(len(pairs))
    for start in range(0, len(pairs), _VERIFIED):
        part = pairs[start : start + _VERIFIED]
        left, right = (
            found.detail[part[:, side]].reshape(len(part), -1).astype(np.float32)
            for side in (0, 1)
        )
        product = np.einsum("pd,pd->p", left, right)
        lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        result[start : start + len(part)] = product / np.maximum(lengths, 1e-9)
    return result
