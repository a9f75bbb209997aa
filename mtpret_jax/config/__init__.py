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
    EncoderConfig,
    ExperimentConfig,
    ReportConfig,
    RunConfig,
    StudyConfig,
)
from mtpret_jax.config.stages import (
    CONTRASTIVE,
    ContinualConfig,
    ContrastiveConfig,
    FinetuneConfig,
    MonitorConfig,
    StageConfig,
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
    "LejepaConfig",
    "MaeConfig",
    "MocoV3Config",
    "MonitorConfig",
    "OptimizerConfig",
    "ReportConfig",
    "RunConfig",
    "SegmentationConfig",
    "StageConfig",
    "StudyConfig",
    "TaskConfig",
    "as_dict",
    "augment",
    "dataset",
    "defaults",
    "encoder",
    "parse",
    "run",
    "study",
    "task",
]


def _row(schema: Any, values: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """A `ConfigDict` of the schema's defaults with `values` written over them."""
    # Its errors are shorter than those of `update`.
    parser.parse(values, schema, schema.__name__, CHOICES)
    row: Any = ml_collections.ConfigDict(dataclasses.asdict(schema()), sort_keys=False)
    row.lock()
    parser.open_tables(row)
    row.update(dict(values))
    return row


def defaults() -> ml_collections.ConfigDict:
    """Every option with its default; `datasets`, `tasks`, `runs` are empty tables.

    Example:
      >>> defaults().backbone.name
      'resnet50'
    """
    return _row(ExperimentConfig, {})


def dataset(
    builder: str, *, splits: str = "", **options: Any
) -> ml_collections.ConfigDict:
    """A row for `config.datasets`; `options` are those of the builder's own config."""
    row = _row(DatasetConfig, {"builder": builder, "splits": splits})
    with row.unlocked():
        row.options = parser.ordered(options)
    return row


def task(**options: Any) -> ml_collections.ConfigDict:
    """A row for `config.tasks`; see `TaskConfig`."""
    return _row(TaskConfig, options)


def encoder(**options: Any) -> ml_collections.ConfigDict:
    """A row for `config.encoders`; see `EncoderConfig`."""
    return _row(EncoderConfig, options)


def run(**options: Any) -> ml_collections.ConfigDict:
    """A row for `config.runs`; see `RunConfig`."""
    return _row(RunConfig, options)


def study(**options: Any) -> ml_collections.ConfigDict:
    """The value of `config.study`; see `StudyConfig`."""
    return _row(StudyConfig, options)


def augment(preset: str, **changes: float) -> dict[str, float]:
    """Options of a preset of `AUGMENT_PRESETS`, with some of them changed."""
    rules.require_known(preset, AUGMENT_PRESETS, "augmentation preset")
    return dataclasses.asdict(dataclasses.replace(AUGMENT_PRESETS[preset], **changes))


def parse(config: ml_collections.ConfigDict | Mapping[str, Any]) -> ExperimentConfig:
    """Turns a config file's result into frozen, checked values.

    Raises:
      ValueError: An unknown option, a value out of its choices, a name that no table
        has, or numbers that do not fit each other. The message gives the path.
      TypeError: A value of the wrong type.
    """
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    parsed = parser.parse(config, ExperimentConfig, "config", CHOICES)
    rules.check(parsed)
    study_rules.check(parsed)
    return parsed


def as_dict(config: Any) -> Any:
    """Plain dicts and lists of a frozen config, as `config.json` holds it."""
    if dataclasses.is_dataclass(config):
        return {
            field.name: as_dict(getattr(config, field.name))
            for field in dataclasses.fields(config)
        }
    if isinstance(config, Mapping):
        return {key: as_dict(value) for key, value in config.items()}
    if isinstance(config, (tuple, list)):
        return [as_dict(value) for value in config]
    return config
