"""Which images are copies of which: the same pixels, or the same image re-encoded.

A near copy is the same exposure at another size, depth, quality or slightly another
intensity; also squashed. A turned one is mirrored, turned by quarters or inverted, too,
and a cropped one is a part of the other. Radiographs of one body part look alike, so a
hash only proposes: the detail of both images must agree everywhere.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os

import cv2
import numpy as np

from mtpret_jax.audit import crops, exclusions, signatures

FARTHEST = 64  # of 255 bits: pairs with more unequal bits are not looked at
FARTHEST_TURNED = 18  # of 135
LEAST_AGREEMENT = 0.95  # correlation of the details of two copies
FAINT = 2.0  # grey levels of 255: less contrast, and rounding is part of the detail
LEAST_AGREEMENT_FAINT = 0.925
BLANK = crops.BLANK  # grey levels: nothing to compare

RULE = {
    "version": 3,  # of what follows from copies; another version is another audit
    "farthest_hash": FARTHEST,
    "hash_bits": signatures.HASH_BITS,
    "farthest_turned": FARTHEST_TURNED,
    "least_agreement": LEAST_AGREEMENT,
    "least_agreement_faint": LEAST_AGREEMENT_FAINT,
    "faint": FAINT,
    "blank": BLANK,
    "crops": crops.RULE,
}

_ROWS, _COLUMNS = 64, 4096  # of a block of hashes; both stay in a core's cache
_BLUR = 0.8  # pixels of the smaller image, standard deviation
_VERIFIED = 4096  # pairs at once
_THREADS = min(4, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Copies:
    """Copies among N images.

    Attributes:
      same: Images with equal pixels have equal numbers, from 0 in order of their
        first image, int64 [N].
      first: First image of each number, int64 [G].
      near: Pairs of numbers whose images are copies, the lower first, each once,
        int64 [P, 2].
      kind: Kind of each pair, as the reasons in `exclusions`.
      distance: Unequal bits of each pair, int64 [P].
      agreement: Correlation of the details of each pair, float64 [P].
    """

    same: np.ndarray
    first: np.ndarray
    near: np.ndarray
    kind: list[str]
    distance: np.ndarray
    agreement: np.ndarray


def find(found: signatures.Signatures) -> Copies:
    """All copies among images."""
    same, first = _equal(found.digest)
    different = found.take(first)
    best: dict[tuple[int, int], tuple[str, int, float]] = {}
    for kind, (pairs, distance, agreement) in (
        (exclusions.NEAR_COPY, _near(different)),
        (exclusions.TURNED_COPY, _turned(different)),
        (exclusions.CROPPED_COPY, crops.find(different)),
    ):
        measured = zip(distance.tolist(), agreement.tolist(), strict=True)
        for pair, (bits, agreed) in zip(pairs.tolist(), measured, strict=True):
            best.setdefault((min(pair), max(pair)), (kind, bits, agreed))
    pairs = sorted(best)
    return Copies(
        same,
        first,
        np.array(pairs, np.int64).reshape(-1, 2),
        [best[pair][0] for pair in pairs],
        np.array([best[pair][1] for pair in pairs], np.int64),
        np.array([best[pair][2] for pair in pairs], np.float64),
    )


def _near(found: signatures.Signatures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Near copies: pairs, their unequal bits, and their agreement."""
    pairs, distance = close_pairs(found.bits, FARTHEST)
    agreement = agreements(found, pairs)
    kept = _agree(found, pairs, agreement)
    return pairs[kept], distance[kept], agreement[kept]


def _turned(found: signatures.Signatures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turned copies: pairs, their unequal bits, and their best agreement."""
    pairs, distance = close_pairs(found.unturned, FARTHEST_TURNED)
    # Inverted, the detail has the other sign.
    upright = agreements(found, pairs)
    turned = [np.abs(agreements(found, pairs, turn)) for turn in range(1, 8)]
    agreement = np.max([-upright, *turned], axis=0)
    kept = _agree(found, pairs, agreement)
    return pairs[kept], distance[kept], agreement[kept]


def _agree(
    found: signatures.Signatures, pairs: np.ndarray, agreement: np.ndarray
) -> np.ndarray:
    """Which pairs agree enough to be copies, bool [P]."""
    fainter = found.contrast[pairs].min(axis=1)
    least = np.where(fainter < FAINT, LEAST_AGREEMENT_FAINT, LEAST_AGREEMENT)
    return (agreement >= least) & (fainter > BLANK)


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
      bits: uint64 [N, words], of at most 255 bits.
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
        distance = np.bitwise_count(left[0] ^ right[0])  # uint8
        for word in range(1, len(words) - 1):
            distance += np.bitwise_count(left[word] ^ right[word])
        # Few pairs are so close in these words that the last one matters.
        i, j = np.nonzero(distance <= farthest)
        last = np.bitwise_count(left[-1, i, 0] ^ right[-1, 0, j])
        total = distance[i, j].astype(np.int64) + last
        kept = (total <= farthest) & (i + row < j + column)
        found.append(np.stack([i + row, j + column, total], axis=1)[kept])
    return np.concatenate(found)


def agreements(
    found: signatures.Signatures, pairs: np.ndarray, turn: int = 0
) -> np.ndarray:
    """How alike the details of pairs of images are, at the poorer one's resolution.

    Args:
      found: Signatures.
      pairs: int64 [P, 2].
      turn: Done to the second of each pair: quarter turns, plus 4 to mirror it first.

    Returns:
      Correlations, float64 [P].
    """
    result = np.empty(len(pairs))
    for start in range(0, len(pairs), _VERIFIED):
        part = pairs[start : start + _VERIFIED]
        left, right = (found.detail[part[:, k]].astype(np.float32) for k in (0, 1))
        right = right[:, :, ::-1] if turn >= 4 else right
        right = np.ascontiguousarray(np.rot90(right, turn % 4, axes=(1, 2)))
        size = found.size[part]
        size[:, 1] = size[:, 1, ::-1] if turn % 2 else size[:, 1]
        smallest = size.min(axis=1)
        for place in np.flatnonzero((smallest < signatures.SIDE).any(axis=1)):
            for detail in (left[place], right[place]):
                detail[:] = _blur(detail, *smallest[place].tolist())
        result[start : start + len(part)] = _correlate(left, right)
    return result


def _blur(detail: np.ndarray, height: int, width: int) -> np.ndarray:
    """Takes from a detail what an image of so few pixels cannot show."""
    down, across = (
        _BLUR * signatures.SIDE / side if side < signatures.SIDE else 1e-3
        for side in (height, width)
    )
    return cv2.GaussianBlur(detail, (0, 0), sigmaX=across, sigmaY=down)


def _correlate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Correlation of each two details, both float32 [P, 64, 64]; float32 [P]."""
    left, right = (detail.reshape(len(detail), -1) for detail in (left, right))
    left = left - left.mean(axis=1, keepdims=True)
    right = right - right.mean(axis=1, keepdims=True)
    product = np.einsum("pd,pd->p", left, right)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return product / np.maximum(lengths, 1e-9)
