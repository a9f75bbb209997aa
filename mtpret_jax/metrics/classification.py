"""How well classes are told apart: AUROC, accuracy, sensitivity, specificity.

A decision is the largest probability where classes exclude each other, else 0.5 for
each label alone. Thresholds fitted on validation do not live here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mtpret_jax.metrics import ratios


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the receiver operating characteristic, ties counted as one half.

    Args:
      score: Higher means more likely positive, any real dtype [N].
      positive: bool [N].

    Returns:
      Fraction in [0, 1]; NaN unless both classes are there.

    Source:
      Hanley and McNeil 1982: the Mann-Whitney statistic, here from mid-ranks.
    """
    _, rank = np.unique(score, return_inverse=True)
    return _auroc_of_ranks(rank, np.asarray(positive, bool))


@dataclasses.dataclass(frozen=True)
class ClassificationMetric:
    """Values of a classification task; entries with an unknown label are left out.

    `auroc` is that of the last class where two classes exclude each other, else the
    mean over classes (each against the rest) for which it is defined. With more than
    two classes, or labels that do not exclude each other, `sensitivity` and
    `specificity` are such means too, and `auroc/<class>` stands beside `auroc`.
    Accuracy of labels that do not exclude each other is the mean over labels.

    Attributes:
      class_names: Names of the L classes or labels.
      exclusive: Whether exactly one class is true; `probability` is then a softmax.
      primary: The value by which a model is chosen.
    """

    class_names: Sequence[str]
    exclusive: bool
    primary: str = dataclasses.field(default="auroc", init=False)

    def __post_init__(self) -> None:
        least = 2 if self.exclusive else 1
        if len(self.class_names) < least:
            raise ValueError(
                f"Classification needs at least {least} classes "
                f"(exclusive={self.exclusive}), got {list(self.class_names)}. "
                "Check the label column of the data set."
            )

    def records(
        self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Keeps probabilities and labels; padding is kept, for the caller to drop.

        Args:
          outputs: `probability` float32 [B, L].
          batch: `label` float32 [B, L], `label_known` bool [B, L], `record` int32 [B].
        """
        probability = np.asarray(outputs["probability"], np.float32)
        expected = (len(batch["record"]), len(self.class_names))
        if probability.shape != expected:
            raise ValueError(
                f"probability must have shape {expected} for classes "
                f"{list(self.class_names)}, got {probability.shape}."
            )
        return {
            "probability": probability,
            "label": np.asarray(batch["label"], np.float32),
            "label_known": np.asarray(batch["label_known"], bool),
            "record": np.asarray(batch["record"], np.int32),
        }

    def summarise(self, records: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Ranks the probabilities and takes the decisions.

        Returns:
          `rank` int32 [N, L], equal for equal probabilities; `positive`, `decided`
          and `known` bool [N, L]; `record` int32 [N].
        """
        probability = np.asarray(records["probability"])
        if not np.isfinite(probability).all():
            raise ValueError(
                "probability holds NaN or infinity; the model has diverged. "
                "Lower the learning rate."
            )
        rank = np.empty(probability.shape, np.int32)
        for column in range(probability.shape[1]):
            _, inverse = np.unique(probability[:, column], return_inverse=True)
            rank[:, column] = inverse
        positive = np.asarray(records["label"]) > 0.5
        known = np.asarray(records["label_known"], bool)
        if self.exclusive:
            classes = np.arange(probability.shape[1])
            decided = probability.argmax(axis=1)[:, np.newaxis] == classes
            whole = known.all(axis=1) & (positive.sum(axis=1) == 1)
            known = np.repeat(whole[:, np.newaxis], len(classes), axis=1)
        else:
            decided = probability >= 0.5
        return {
            "rank": rank,
            "positive": positive,
            "decided": decided,
            "known": known,
            "record": np.asarray(records["record"], np.int32),
        }

    def compute(self, summary: Mapping[str, np.ndarray]) -> dict[str, float]:
        """AUROC, accuracy, sensitivity, specificity, each in [0, 1] or NaN."""
        positive, decided = summary["positive"], summary["decided"]
        known = summary["known"]
        area = [
            _auroc_of_ranks(summary["rank"][keep, c], positive[keep, c])
            for c, keep in enumerate(known.T)
        ]
        true = known & positive
        false = known & ~positive
        sensitivity = ratios.ratio((true & decided).sum(axis=0), true.sum(axis=0))
        specificity = ratios.ratio((false & ~decided).sum(axis=0), false.sum(axis=0))
        right = known & (positive == decided)
        accuracy = ratios.ratio(right.sum(axis=0), known.sum(axis=0))
        if self.exclusive:
            accuracy = ratios.ratio(right.all(axis=1).sum(), known.all(axis=1).sum())
        if self.exclusive and len(self.class_names) == 2:
            return {
                "auroc": area[1],
                "accuracy": float(accuracy),
                "sensitivity": float(sensitivity[1]),
                "specificity": float(specificity[1]),
            }
        values = {
            "auroc": ratios.mean(area),
            "accuracy": ratios.mean(accuracy),
            "sensitivity": ratios.mean(sensitivity),
            "specificity": ratios.mean(specificity),
        }
        if len(self.class_names) > 1:
            for name, value in zip(self.class_names, area, strict=True):
                values[f"auroc/{name}"] = value
        return values


def _auroc_of_ranks(rank: np.ndarray, positive: np.ndarray) -> float:
    """AUROC from dense integer ranks [N], without sorting, so resamples are cheap."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    bins = int(rank.max()) + 1
    positives = np.bincount(rank[positive], minlength=bins)
    negatives = np.bincount(rank[~positive], minlength=bins)
    below = np.cumsum(negatives) - negatives
    wins = float(positives @ below) + 0.5 * float(positives @ negatives)
    return wins / n_positive / n_negative
