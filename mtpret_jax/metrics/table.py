"""The metrics of all kinds of task, and the words that they have for their values."""

from __future__ import annotations

from mtpret_jax.metrics import (
    classification,
    detection,
    landmarks,
    ordinal,
    regression,
    segmentation,
)

METRICS = (
    classification.ClassificationMetric,
    segmentation.SegmentationMetric,
    detection.DetectionMetric,
    regression.RegressionMetric,
    ordinal.OrdinalMetric,
    landmarks.LandmarksMetric,
)
TITLES = {name: title for each in METRICS for name, title in each.titles.items()}
PRIMARY = {each.primary: each for each in METRICS}


def sign(primary: str) -> int:
    """That of the metric with this primary value; 1 of one that is not known."""
    return PRIMARY[primary].sign if primary in PRIMARY else 1
