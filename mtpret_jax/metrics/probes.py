"""What features that are left as they are tell of labels: linear probe, neighbours.

Both are fitted on the host, from the same features and labels, without chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from mtpret_jax import types
from mtpret_jax.metrics import operating_points

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # of the linear probe's penalty, to choose from
STRENGTH = 0.1  # ours: where validation is too small to choose
NEIGHBOURS = 20
TEMPERATURE = 0.07  # of a neighbour's vote
_ROWS = 1024  # compared at a time with all training images
_LONGEST = 5000  # iterations


@dataclasses.dataclass(frozen=True)
class Examples:
    """Features and labels that a probe is fitted on.

    Attributes:
      feature: float [N, D].
      label: 0 or 1, one-hot if classes exclude each other, float [N, L].
      known: Which labels are known, bool [N, L].
      exclusive: Whether exactly one class is true; images of which not all is known
        are then left out.
    """

    feature: np.ndarray
    label: np.ndarray
    known: np.ndarray
    exclusive: bool

    def __post_init__(self) -> None:
        if not self.told_apart.any():
            raise ValueError(
                f"Frozen features: of the {len(self.label)} training images whose "
                "labels may be used, no label is known to be true of some and false "
                f"of others (true of {self.share.tolist()}). Give the run a larger "
                "label_fraction, or set finetune.frozen to False."
            )

    @property
    def counted(self) -> np.ndarray:
        """Which labels count, bool [N, L]."""
        if not self.exclusive:
            return self.known
        whole = self.known.all(axis=1) & (self.label.sum(axis=1) == 1)
        return np.repeat(whole[:, np.newaxis], self.known.shape[1], axis=1)

    @property
    def share(self) -> np.ndarray:
        """Of each label, how many images have it, [0, 1], float64 [L].

        One half where it is known of none.
        """
        counted = self.counted
        count = counted.sum(axis=0)
        held = (self.label * counted).sum(axis=0)
        return np.where(count > 0, held / np.maximum(count, 1), 0.5)

    @property
    def told_apart(self) -> np.ndarray:
        """Which labels are true of some images and false of others, bool [L]."""
        share = self.share
        return self.counted.any(axis=0) & (share > 0) & (share < 1)


def linear(train: Examples, feature: np.ndarray, *, strength: float) -> np.ndarray:
    """Probabilities by logistic regression on standardised features.

    It makes least the mean cross-entropy in nats (multinomial where classes exclude
    each other; else of each label alone, over the images of which it is known) plus
    `strength / 2` times the squared weights, without the bias.

    Args:
      train: What it is fitted on.
      feature: Features of the images to predict, [M, D].
      strength: Weight of the penalty, above 0.

    Returns:
      float32 [M, L]; the share in `train` of a label that all images have, or none.
    """
    # A second to import, and few runs need it.
    from sklearn import linear_model, preprocessing

    counted, fitted = train.counted, np.flatnonzero(train.told_apart)
    rows = counted.any(axis=1)
    scaler = preprocessing.StandardScaler().fit(train.feature[rows].astype(float))
    learnt, asked = (
        scaler.transform(np.asarray(x, float)) for x in (train.feature, feature)
    )
    result = np.tile(train.share, (len(feature), 1))

    def fit(rows: np.ndarray, label: np.ndarray, strength: float) -> np.ndarray:
        model = linear_model.LogisticRegression(
            C=1 / (strength * rows.sum()), tol=1e-6, max_iter=_LONGEST
        )
        return model.fit(learnt[rows], label[rows]).predict_proba(asked)

    if train.exclusive:
        # Of two classes scikit-learn has one weight, the difference of our two, whose
        # square is twice the sum of theirs.
        penalty = strength / 2 if len(fitted) == 2 else strength
        label = train.label[:, fitted].argmax(axis=1)
        result[:, fitted] = fit(rows, label, penalty)
    else:
        for column in fitted:
            label = train.label[:, column] > 0
            result[:, column] = fit(counted[:, column], label, strength)[:, 1]
    return result.astype(np.float32)


def choose(
    metric: types.Metric, train: Examples, validation: Mapping[str, np.ndarray]
) -> tuple[float, str]:
    """The strength of `linear` that validation likes best, and why.

    Of equally good ones the largest; `STRENGTH` where validation has too few images
    to choose by, see `operating_points.choice`.

    Args:
      metric: Metric of the task.
      train: What the probe is fitted on.
      validation: What the metric summarises, and `feature` [M, D].

    Returns:
      The strength, and `validation` or `fixed`.
    """
    scores = []
    for strength in STRENGTHS:
        probability = linear(train, validation["feature"], strength=strength)
        score = operating_points.choice(
            metric, {**validation, "probability": probability}
        )
        if np.isnan(score):
            return STRENGTH, "fixed"
        scores.append((score, strength))
    return max(scores)[1], "validation"


def vote(train: Examples, feature: np.ndarray) -> np.ndarray:
    """Probabilities by the votes of the nearest training images.

    Nearest by cosine similarity s of the features, each vote counting exp(s / 0.07).
    Of each label those `NEIGHBOURS` images vote of which it is known, fewer where
    there are not so many; of equally near ones the earlier.

    Args:
      train: Who votes.
      feature: Features of the images to predict, [M, D].

    Returns:
      float32 [M, L]; the share in `train` where the label is known of none.

    Source:
      Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
      Discrimination", 3.4. Differs: 20 neighbours, as Caron et al. 2021 use, not 200.
    """
    counted = train.counted
    label, share = np.asarray(train.label, np.float64), train.share
    voters = _unit(train.feature).T
    parts = []
    for first in range(0, len(feature), _ROWS):
        similarity = _unit(feature[first : first + _ROWS]) @ voters
        order = np.argsort(-similarity, axis=1, kind="stable")
        nearest = np.take_along_axis(similarity, order, axis=1)
        weight = np.exp(nearest / TEMPERATURE)
        part = np.tile(share, (len(order), 1))
        for column in np.flatnonzero(counted.any(axis=0)):
            votes = counted[order, column]
            votes &= np.cumsum(votes, axis=1) <= NEIGHBOURS
            heard = weight * votes
            said = (heard * label[order, column]).sum(axis=1)
            part[:, column] = said / heard.sum(axis=1)
        parts.append(part)
    return np.concatenate(parts).astype(np.float32)


def _unit(feature: np.ndarray) -> np.ndarray:
    """Rows of length 1, float64; rows of zeros stay."""
    feature = np.asarray(feature, np.float64)
    length = np.linalg.norm(feature, axis=1, keepdims=True)
    return feature / np.where(length > 0, length, 1.0)
