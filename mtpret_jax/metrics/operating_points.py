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
      metric: Of the task.
      records: Its predictions of the validation split.
    """
    values = metric.compute(metric.summarise(records))
    if isinstance(metric, classification.ClassificationMetric):
        enough = _enough(metric, records)
        if 2 * sum(enough.values()) < len(enough):
            return float("nan")
        if len(enough) == 1:
            return values[metric.primary]
        areas = [values[f"auroc/{name}"] for name, has in enough.items() if has]
        return ratios.mean(np.array(areas)).item()
    shown = np.ones(len(records["record"]), bool)
    if "truth_valid" in records:
        shown = np.asarray(records["truth_valid"]).any(axis=1)
    return values[metric.primary] if shown.sum() >= FEWEST else float("nan")


def _enough(
    metric: classification.ClassificationMetric, records: Mapping[str, np.ndarray]
) -> dict[str, bool]:
    """Of each class that speaks for itself, whether it has enough images."""
    return {
        name: min(truth.sum(), (~truth).sum()) >= FEWEST
        for name, _, truth in _classes(metric, records)
    }


def _classes(
    metric: classification.ClassificationMetric, records: Mapping[str, np.ndarray]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, probability and truth, where known, of each class.

    Where one of two classes excludes the other, the last speaks for both.
    """
    summary = metric.summarise(records)
    found = []
    for c, name in enumerate(metric.class_names):
        if not metric.one_area or c == 1:
            known = summary["known"][:, c]
            truth = summary["positive"][known, c].astype(bool)
            found.append((name, records["probability"][known, c], truth))
    return found


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
      metric: Of the task.
      records: Its predictions of the validation split.

    Returns:
      `images`, how many. For each class with enough of them in `thresholds`:
      `threshold` of the probability, with its `sensitivity` and `specificity` there;
      and in `temperatures` its own one. Where classes exclude each other, they share
      `temperature` instead, which is there if at least half have enough images. Of
      each class that has too few, `lacking` tells the images with and without it.
    """
    enough = _enough(metric, records)
    summary = metric.summarise(records)
    told: dict[str, Any] = {
        "images": int(summary["known"].any(-1).sum()),
        "lacking": {
            name: [int(truth.sum()), int((~truth).sum())]
            for name, _, truth in _classes(metric, records)
            if not enough[name]
        },
    }
    if metric.exclusive and 2 * sum(enough.values()) >= len(enough):
        told["temperature"] = temperature.fit(
            records["probability"],
            summary["positive"],
            summary["known"],
            exclusive=True,
        )
    thresholds, temperatures = {}, {}
    for name, probability, truth in _classes(metric, records):
        if not enough[name]:
            continue
        if not metric.exclusive:
            column = probability[:, np.newaxis], truth[:, np.newaxis]
            known = np.ones(column[1].shape, bool)
            temperatures[name] = temperature.fit(*column, known, exclusive=False)
        threshold = calibration.youden_threshold(probability, truth)
        if np.isfinite(threshold):
            thresholds[name] = {
                "threshold": threshold,
                "sensitivity": float((probability[truth] >= threshold).mean()),
                "specificity": float((probability[~truth] < threshold).mean()),
            }
    return told | {"temperatures": temperatures, "thresholds": thresholds}
