"""Heads, losses, predictions and metrics, one file for each kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import rules
from mtpret_jax.metrics import regression as metrics
from mtpret_jax.tasks import (
    classification,
    detection,
    landmarks,
    ordinal,
    regression,
    segmentation,
)

_EARLIER = "; if an earlier version prepared it, prepare it again with --rebuild."
_ADVICE = {
    "labels": "Name classes for `target` in the option `labels` of the set.",
    "masks": "Name them in the options `masks` and `mask_classes` of the set.",
    "boxes": "Name them in the options `annotations` and `box_classes` of the set; "
    "`target` is a column of labels, and boxes need none.",
    "values": f"Name them in the option `values` of the set{_EARLIER}",
    "landmarks": "Name them in the options `keypoints` and `landmark_names` of the "
    f"set{_EARLIER}",
}


def _names(found: Sequence[str], task: str, what: str) -> tuple[str, ...]:
    if not found:
        raise ValueError(f"config.tasks.{task}: its set has no {what}. {_ADVICE[what]}")
    if len(found) < 2 and what not in ("boxes", "values", "landmarks"):
        raise ValueError(
            f"config.tasks.{task}: its set has {what} of classes {list(found)}; "
            "at least two are needed to tell apart."
        )
    return tuple(found)


def _classification(
    name: str, config: schema.TaskConfig, names: types.Names, dtype: jnp.dtype
) -> types.Task:
    del dtype  # The linear head always computes in float32.
    columns = names.get("label_names", {})
    rules.require_known(
        config.target, columns, f"label column in config.tasks.{name}.target"
    )
    found = columns[config.target]
    if config.exclusive:
        found = _names(found, name, "labels")
    return classification.ClassificationTask(
        name,
        tuple(found),
        config.exclusive,
        config.label_smoothing,
        batch_norm_rows=config.batch_norm_rows,
        flip_at_test=config.flip_at_test,
    )


def _segmentation(
    name: str, config: schema.TaskConfig, names: types.Names, dtype: jnp.dtype
) -> types.Task:
    return segmentation.SegmentationTask(
        name,
        _names(names.get("mask_names", ()), name, "masks"),
        config.image_size,
        config.segmentation,
        dtype,
        config.batch_norm_rows,
        config.flip_at_test,
    )


def _detection(
    name: str, config: schema.TaskConfig, names: types.Names, dtype: jnp.dtype
) -> types.Task:
    return detection.DetectionTask(
        name,
        _names(names.get("object_names", ()), name, "boxes"),
        config.image_size,
        config.detection,
        dtype,
        config.batch_norm_rows,
    )


def _ordinal(
    name: str, config: schema.TaskConfig, names: types.Names, dtype: jnp.dtype
) -> types.Task:
    return ordinal.OrdinalTask(**vars(_classification(name, config, names, dtype)))


def _regression(
    name: str, config: schema.TaskConfig, names: types.Names, dtype: jnp.dtype
) -> types.Task:
    del dtype  # The linear head always computes in float32.
    columns, labels = names.get("values", {}), names.get("label_names", {})
    found = _names([*columns], name, "values")
    rules.require_known(
        config.target, found, f"value column in config.tasks.{name}.target"
    )
    scale = names.get("scales", {}).get(name)
    if scale is None:  # Of a set that nobody has looked at: shapes alone count.
        known = {"", "sex", *labels}
        where = f"label column in config.tasks.{name}.second_input"
        rules.require_known(config.second_input, known, where)
        scale = metrics.Scale(second=config.second_names(labels))
    return regression.RegressionTask(
        name,
        (config.target,),
        scale,
        batch_norm_rows=config.batch_norm_rows,
        flip_at_test=config.flip_at_test,
    )


def _landmarks(
    name: str, config: schema.TaskConfig, names: types.Names, dtype: jnp.dtype
) -> types.Task:
    return landmarks.LandmarksTask(
        name,
        _names(names.get("landmark_names", ()), name, "landmarks"),
        config.landmarks,
        dtype,
        config.batch_norm_rows,
    )


TASKS: Mapping[
    str, Callable[[str, schema.TaskConfig, types.Names, jnp.dtype], types.Task]
] = {
    "classification": _classification,
    "segmentation": _segmentation,
    "detection": _detection,
    "regression": _regression,
    "ordinal": _ordinal,
    "landmarks": _landmarks,
}


def build_tasks(
    configs: Mapping[str, schema.TaskConfig],
    names: Mapping[str, types.Names],
    *,
    dtype: jnp.dtype,
) -> dict[str, types.Task]:
    """Builds every task of a config.

    Args:
      configs: Rows of `config.tasks`.
      names: For each set, what its classes are called.
      dtype: What heads compute in.

    Raises:
      ValueError: If a set lacks what a task asks of it.
    """
    tasks = {}
    for name, row in configs.items():
        rules.require_known(row.kind, TASKS, f"kind in config.tasks.{name}.kind")
        tasks[name] = TASKS[row.kind](name, row, names[row.dataset], dtype)
    return tasks
