"""What validation teaches of a classifier: which step to take, when to say yes.

Each class for itself: a class has enough to teach by where validation has at least
`FEWEST` images with it and as many without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtpret_jax import types
from mtpret_jax.metrics import calibration, classification, ratios, temperature

FEWEST = 30  # images of either answer


def choice(metric: types.Metric, records: Mapping[str, np.ndarray]) -> float:
    """The value by which `selection="auto"` compares steps.

    Of a classification task it is the mean AUROC of the classes with enough images, NaN
    where fewer than half have as many. Of the others it is the primary value, NaN
    of fewer than `FEWEST` images; of detection, images with a box.

    Args:
      metric: Metric of the task.
      records: Its predictions of the validation split.
    """
    values = metric.compute(metric.summarise(records))
    if isinstance(metric, classification.ClassificationMetric):
        classes = metric.classes(records)
        enough = [one.name for one in classes if _is_enough(one)]
        if 2 * len(enough) < len(classes):
            return float("nan")
        if len(classes) == 1:
            return values[metric.primary]
        areas = [values[f"auroc/{name}"] for name in enough]
        return ratios.mean(np.array(areas)).item()
    shown = np.ones(len(records["record"]), bool)
    if "truth_valid" in records:
        shown = np.asarray(records["truth_valid"]).any(axis=1)
    return values[metric.primary] if shown.sum() >= FEWEST else float("nan")


def _is_enough(one: classification.OneClass) -> bool:
    """Whether a class has images enough to teach by."""
    return min(one.truth.sum(), (~one.truth).sum()) >= FEWEST


def shortfall(decisions: Mapping[str, Any]) -> str:
    """Why some classes have no decision; "" where all have one.

    Args:
      decisions: What `fit` gave.
    """
    few = [
        f"'{name}' {shown} with and {others} without"
        for name, (shown, others) in decisions.get("lacking", {}).items()
    ]
    if not few:
        return ""
    none = "temperature" not in decisions and not decisions["temperatures"]
    return (
        f"No decision for {len(few)} class{'es' if len(few) > 1 else ''}"
        f"{', and no calibrated probability at all' if none else ''}: validation has "
        f"too few images ({'; '.join(few)}; {FEWEST} of either are needed)."
    )


def fit(
    metric: classification.ClassificationMetric, records: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Temperatures and thresholds by validation.

    Args:
      metric: Metric of the task.
      records: Its predictions of the validation split.

    Returns:
      `images`, how many. For each class with enough of them in `thresholds`:
      `threshold` of the probability, with its `sensitivity` and `specificity` there;
      and in `temperatures` its own one. Where classes exclude each other, they share
      `temperature` instead, which is there if at least half have enough images. Of
      each class that has too few, `lacking` tells the images with and without it.
    """
    classes = metric.classes(records)
    enough = [one for one in classes if _is_enough(one)]
    summary = metric.summarise(records)
    told: dict[str, Any] = {
        "images": int(summary["known"].any(-1).sum()),
        "lacking": {
            one.name: [int(one.truth.sum()), int((~one.truth).sum())]
            for one in classes
            if not _is_enough(one)
        },
        "temperatures": {},
        "thresholds": {},
    }
    if metric.exclusive and 2 * len(enough) >= len(classes):
        told["temperature"] = temperature.fit(
            records["probability"],
            summary["positive"],
            summary["known"],
            exclusive=True,
        )
    for one in enough:
        probability, truth = one.probability, one.truth
        if not metric.exclusive:
            column = probability[:, np.newaxis], truth[:, np.newaxis]
            known = np.ones(column[1].shape, bool)
            fitted = temperature.fit(*column, known, exclusive=False)
            told["temperatures"][one.name] = fitted
        threshold = calibration.youden_threshold(probability, truth)
        if np.isfinite(threshold):
            told["thresholds"][one.name] = {
                "threshold": threshold,
                "sensitivity": float((probability[truth] >= threshold).mean()),
                "specificity": float((probability[~truth] < threshold).mean()),
            }
    return told
