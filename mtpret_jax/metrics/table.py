"""The metrics of all kinds of task, and the words that they have for their values."""

from __future__ import annotations

from mtpret_jax.metrics import classification, detection, segmentation

METRICS = (
    classification.ClassificationMetric,
    segmentation.SegmentationMetric,
    detection.DetectionMetric,
)
TITLES = {name: title for each in METRICS for name, title in each.titles.items()}
PRIMARY = {each.primary: each for each in METRICS}
