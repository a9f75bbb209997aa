"""Configs: what a file says, as frozen values that are checked.

A config file starts from `defaults()`, adds rows with `dataset()`, `task()`,
`encoder()` and `run()` and returns a `ConfigDict`; `parse` turns that into the frozen
values below, checked.
Nothing below `main` sees a `ConfigDict`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mtpret_jax.config import parser, rules, study_rules
from mtpret_jax.config.objectives import (
    DinoConfig,
    DistillationConfig,
    LejepaConfig,
    MaeConfig,
    MocoV3Config,
)
from mtpret_jax.config.parts import (
    AUGMENT_PRESETS,
    AugmentConfig,
    BackboneConfig,
    DatasetConfig,
    DetectionConfig,
    FixedConfig,
    InputConfig,
    LandmarksConfig,
    OptimizerConfig,
    SegmentationConfig,
    TaskConfig,
)
from mtpret_jax.config.schema import (
    CHOICES,
    CONTRASTIVE,
    ContinualConfig,
    ContrastiveConfig,
    EncoderConfig,
    ExperimentConfig,
    FinetuneConfig,
    MonitorConfig,
    ReportConfig,
    RunConfig,
    StageConfig,
    StudyConfig,
)

__all__ = [
    "AUGMENT_PRESETS",
    "CHOICES",
    "CONTRASTIVE",
    "AugmentConfig",
    "BackboneConfig",
    "ContinualConfig",
    "ContrastiveConfig",
    "DatasetConfig",
    "DetectionConfig",
    "DinoConfig",
    "DistillationConfig",
    "EncoderConfig",
    "ExperimentConfig",
    "FinetuneConfig",
    "FixedConfig",
    "InputConfig",
    "LandmarksConfig",
    "MonitorConfig",
