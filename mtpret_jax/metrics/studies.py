"""From images to studies: what all images of one visit say together.

A study's probability is the mean over its images, and its label that of its images.
Everything stays per image, each carrying its share of its study, so that a bootstrap
that draws a patient twice counts the patient's studies twice.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mtpret_jax.metrics import ratios


@dataclasses.dataclass(frozen=True)
class Joined:
    """What the study of each image says.

    Attributes:
      probability: Mean over the study's known images, float64 [N, L]; NaN where none
        is known.
      positive: Whether any of the study's known images is, bool [N, L].
      weight: The image's share of its study, float64 [N, L]: one over the number of
        known images, so that a study sums to one; 0 where the image or the study's
        label is not known.
    """

    probability: np.ndarray
    positive: np.ndarray
    weight: np.ndarray


def join(
    study: np.ndarray,
    probability: np.ndarray,
    positive: np.ndarray,
    known: np.ndarray,
    *,
    exclusive: bool,
) -> Joined:
    """Joins the images of each study.

    Args:
      study: Index of each image's study, int [N]; -1 for an image without one, which
        then is a study by itself.
      probability: Probability of each label, [N, L].
      positive: The true labels, bool [N, L].
      known: Which of them are known, bool [N, L].
      exclusive: Whether exactly one label is true. Studies whose images disagree are
        then left out.
    """
    alone = -1 - np.arange(len(study))
    _, code = np.unique(np.where(study >= 0, study, alone), return_inverse=True)
    count = _sum(code, known)
    mean = ratios.ratio(_sum(code, np.where(known, probability, 0.0)), count)
    truth = _sum(code, positive & known) > 0
    if exclusive:
        count = np.where((truth.sum(axis=1) == 1)[:, np.newaxis], count, 0.0)
    share = np.nan_to_num(ratios.ratio(np.ones_like(count), count))
    weight = np.where(known, share[code], 0.0)
    return Joined(mean[code], truth[code], weight)


def _sum(code: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum over the images of each study, float64 [studies, L]."""
    columns = [np.bincount(code, column) for column in values.T.astype(float)]
    return np.stack(columns, axis=1)
