"""What validation teaches about a classifier's probabilities, kept with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtpret_jax.metrics import calibration, classification, temperature


def fit(
    metric: classification.ClassificationMetric, records: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Temperature and thresholds by validation.

    Args:
      metric: Of the task.
      records: Its predictions of the validation split.

    Returns:
      `images`, how many; `temperature`; and for each class that has both answers
      `thresholds`: `threshold` of the probability, with its `sensitivity` and
      `specificity` there. Where one of two classes excludes the other, the last speaks
      for both.
    """
    summary = metric.summarise(records)
    positive, known = summary["positive"], summary["known"]
    thresholds = {}
    for c, name in enumerate(metric.class_names):
        if metric.one_area and c != 1:
            continue
        told = records["probability"][known[:, c], c]
        truth = positive[known[:, c], c].astype(bool)
        threshold = calibration.youden_threshold(told, truth)
        if np.isfinite(threshold):
            thresholds[name] = {
                "threshold": threshold,
                "sensitivity": float((told[truth] >= threshold).mean()),
                "specificity": float((told[~truth] < threshold).mean()),
            }
    return {
        "images": int(known.any(-1).sum()),
        "temperature": temperature.fit(
            records["probability"], positive, known, exclusive=metric.exclusive
        ),
        "thresholds": thresholds,
    }
