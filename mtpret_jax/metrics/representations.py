"""What features tell without labels: in how many directions they spread, how far.

And when that is a collapse. The bounds are ours, from momentum contrast on phantoms.
Where it learnt, embeddings spread by 0.30 and more, by 0.18 where it learnt slowly;
features by half of the start's; and a ViT kept a tenth of the start's rank. At a
hundred times the learning rate, or with a dead head, embeddings spread by 0.07 and
less; the features of some collapsed too, a ViT's to a hundredth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

# Names of what a monitor measures; in `metrics.jsonl` after the prefix.
PREFIX = "monitor/"
RANK, SPREAD, EMBEDDING = "effective_rank", "spread", "embedding_spread"
KNN, LINEAR = "knn", "linear"  # mean AUROC of tasks; of each, with `/<task>` at its end
_EPSILON = 1e-7  # added to each share, as the paper does
_LEAST_RANK = 2.0  # directions, whatever it began with
_SHARE_OF_RANK = 0.03  # of that of the start
_SHARE_OF_SPREAD = 0.1  # of that of the start
_LEAST_EMBEDDING = 0.1  # of what fills the sphere
_LOOKS = 2  # in a row
_ADVICE = (
    "Nothing should start from it: try a lower learning rate or a longer warm-up, and "
    "look at what keeps embeddings apart (temperature, queue, batch size)."
)


def effective_rank(feature: np.ndarray) -> float:
    """In how many directions features lie about their mean: RankMe, centred.

    The exponential of the entropy of the singular values, which are divided by their
    sum: 1 where all lie on a line, min(N - 1, D) where all directions are alike.

    Args:
      feature: float [N, D].

    Returns:
      1 or more; NaN where a feature is not finite.

    Source:
      Garrido et al. 2023, "RankMe: Assessing the Downstream Performance of Pretrained
      Self-Supervised Representations by Their Rank", equation 1. Differs: features
      are centred first. Those of ReLU share a mean that outweighs all else, which
      would hide how they differ.
    """
    feature = np.asarray(feature, np.float64)
    if not np.isfinite(feature).all():
        return math.nan
    value = np.linalg.svd(feature - feature.mean(axis=0), compute_uv=False)
    share = value / (value.sum() + _EPSILON) + _EPSILON
    return float(np.exp(-(share * np.log(share)).sum()))


def spread(feature: np.ndarray) -> float:
    """How far directions of features differ: 1 on all sides, 0 where all are one.

    The deviation of unit-length features, a mean over dimensions, times the square root
    of D.

    Args:
      feature: float [N, D].

    Returns:
      [0, 1]; NaN where a feature is not finite.

    Source:
      Chen and He 2021, "Exploring Simple Siamese Representation Learning", 4.1.
    """
    feature = np.asarray(feature, np.float64)
    if not np.isfinite(feature).all():
        return math.nan
    length = np.linalg.norm(feature, axis=1, keepdims=True)
    unit = feature / np.where(length > 0, length, 1.0)
    return float(unit.std(axis=0).mean() * math.sqrt(feature.shape[1]))


def collapses(curves: Mapping[str, Sequence[tuple[int, float]]]) -> list[str]:
    """What has collapsed in a run so far, each in a sentence: never less later on.

    Features have, where twice in a row their effective rank or spread is a small share
    of what the start had, or they are not finite. Embeddings have, where they twice lie
    near one point; what the start had says nothing of them.

    Args:
      curves: Steps and values of `RANK`, `SPREAD` and `EMBEDDING`, as far as there are
        any; the first of features are the start's.
    """
    found = []
    for name, share, least, what in (
        (RANK, _SHARE_OF_RANK, _LEAST_RANK, "effective rank of features"),
        (SPREAD, _SHARE_OF_SPREAD, 0.0, "spread of features"),
        (EMBEDDING, 0.0, _LEAST_EMBEDDING, "spread of a batch's embeddings"),
    ):
        curve = curves.get(name, ())
        start = curve[0][1] if curve else math.nan
        bound = max(share * start, least)
        began = f", at the start {start:.3g}" if share else ""
        looks = 0
        for step, value in curve:
            looks = 0 if value >= bound else looks + 1  # NaN is below.
            if looks == _LOOKS:
                found.append(
                    f"collapse at step {step}: {what} {value:.3g}, {_LOOKS} times "
                    f"below {bound:.3g}{began}. {_ADVICE}"
                )
                break
    return found
