"""What features that are left as they are tell of labels: linear probe, neighbours.

Both are fitted on the host, from the same features and labels, without chance.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
from scipy import optimize, special

_LOG = logging.getLogger(__name__)
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


@dataclasses.dataclass(frozen=True)
class Linear:
    """A fitted linear probe.

    Attributes:
      mean: Of the training features, float64 [D].
      scale: Their standard deviation, 1 where it is 0, float64 [D].
      weight: Of standardised features, the bias in the last row, float64 [D + 1, F].
      fitted: Which F of the L labels, bool [L].
      share: Predicted for the others, float64 [L].
      exclusive: Whether probabilities of a row sum to 1.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    fitted: np.ndarray
    share: np.ndarray
    exclusive: bool

    def predict(self, feature: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [N, L], of features [N, D]."""
        logits = _logits((feature - self.mean) / self.scale, self.weight)
        squash = special.softmax if self.exclusive else _sigmoid
        result = np.tile(self.share, (len(feature), 1))
        result[:, self.fitted] = squash(logits, axis=1)
        return result.astype(np.float32)


def fit_linear(train: Examples, strength: float) -> Linear:
    """Logistic regression on standardised features.

    It makes least the mean cross-entropy in nats (multinomial where classes exclude
    each other; else that of each label over the images of which it is known, summed)
    plus `strength / 2` times the squared weights, without the bias. A label that all
    images have, or none, is predicted by its share.

    Args:
      train: Where some label is true of some images and false of others.
      strength: Of the penalty, above 0.
    """
    counted, fitted = train.counted, train.told_apart
    rows = counted.any(axis=1)
    feature = np.asarray(train.feature, np.float64)[rows]
    mean, scale = feature.mean(axis=0), feature.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    feature = (feature - mean) / scale
    label = np.asarray(train.label, np.float64)[rows][:, fitted]
    part = counted[rows][:, fitted]
    part = part / part.sum(axis=0)
    shape = (feature.shape[1] + 1, label.shape[1])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(shape)
        logits = _logits(feature, weight)
        if train.exclusive:
            normal = special.logsumexp(logits, axis=1, keepdims=True)
            loss = (part * label * (normal - logits)).sum()
            slope = part * (np.exp(logits - normal) - label)
        else:
            loss = (part * (np.logaddexp(0, logits) - label * logits)).sum()
            slope = part * (special.expit(logits) - label)
        penalty = strength * weight
        penalty[-1] = 0.0
        gradient = np.vstack([feature.T @ slope, slope.sum(axis=0)]) + penalty
        return float(loss + 0.5 * (penalty * weight).sum()), gradient.ravel()

    options = {"maxiter": _LONGEST, "ftol": 1e-12, "gtol": 1e-6}
    found: Any = optimize.minimize(
        objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=options
    )
    if not found.success:
        _LOG.warning(
            "Linear probe of strength %g: %s after %d iterations; its gradient is up "
            "to %.1e.",
            strength,
            found.message,
            found.nit,
            np.abs(found.jac).max(),
        )
    weight = found.x.reshape(shape)
    return Linear(mean, scale, weight, fitted, train.share, train.exclusive)


def _logits(feature: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return feature @ weight[:-1] + weight[-1]


def _sigmoid(logits: np.ndarray, axis: int) -> np.ndarray:
    del axis  # Each label stands alone.
    return special.expit(logits)


def vote(train: Examples, feature: np.ndarray) -> np.ndarray:
    """Probabilities by the votes of the nearest training images.

    Nearest by cosine similarity s of the features, each vote counting exp(s / 0.07).
    Of each label those `NEIGHBOURS` images vote of which it is known, fewer where
    there are not so many; of equally near ones the earlier.

    Args:
      train: Who votes.
      feature: Of the images to predict, [M, D].

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
