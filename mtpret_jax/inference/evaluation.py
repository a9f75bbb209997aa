"""Measures a trained model on a split of a prepared set, its own or another."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.data import kinds, pipeline, sources
from mtpret_jax.inference import description, preprocessing
from mtpret_jax.inference import model as model_lib
from mtpret_jax.metrics import intervals
from mtpret_jax.ops import views
from mtpret_jax.training import evaluation, sharding
from tfds_builders import prepared_types


def evaluate(
    model: model_lib.Model,
    folder: epath.PathLike,
    split: str,
    *,
    splits: str = "",
    batch_size: int = 0,
    resamples: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Values with intervals, measured as in the report of a training.

    Args:
      model: With a head.
      folder: Version folder of the prepared set.
      split: Name of the split.
      splits: Which of the set's splits; see `config.DatasetConfig.splits`.
      batch_size: Images at a time, a multiple of the devices; 0: as in training.
      resamples: How often intervals draw, whole groups (patients) each time.
      seed: Seed of the draws.
      progress: Told images done and in all.

    Returns:
      `model` (`Model.describe`), `set`, `split`, `splits` (name and SHA-256 of the
      list), `fingerprint` of the set's files, `images`, `groups`, `values` (each with
      `value`, `low`, `high`, None where undefined, and `resamples`), `warnings`. Of
      classes that exclude each other also `confusion`, images by true class (rows, in
      the order of the model's `classes`) and predicted one.

    Raises:
      FileNotFoundError: If the folder is not a prepared set.
      ValueError: If the model has no head, the set lacks the split or what the task
        asks of it, or names other classes.
    """
    model.require_head()
    folder = epath.Path(folder)
    task: Any = model.network.task
    settings = model.description.tasks[model.task]
    _check_classes(model, settings, folder)
    made = sources.describe(folder, splits)
    source = sources.open_prepared(folder, split, splits)
    metric = task.metric()
    records = _records(
        model, metric, source, batch_size or settings.batch_size, progress
    )
    groups = np.array([source.index[int(n)]["group"] for n in records["record"]])
    summary = metric.summarise(records)
    found: dict[str, Any] = {
        "model": model.describe(),
        **_origin(made, folder, split),
        "images": len(groups),
        "groups": len(np.unique(groups)),
        "values": _values(metric, summary, groups, resamples, seed),
        "warnings": _warnings(model.preparation, description.Prepared.of(made)),
    }
    if model.answers.is_exclusive:
        found["confusion"] = metric.confusion(summary).tolist()
    return found


def _records(
    model: model_lib.Model,
    metric: types.Metric,
    source: sources.Source,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> dict[str, np.ndarray]:
    """What the metric keeps of the model's predictions of a split; see `evaluate`."""
    settings = model.description.tasks[model.task]
    total = len(kinds.usable_records(source, settings))
    mesh = sharding.make_mesh()
    sharding.check_batch_size(batch_size, mesh, "--batch_size")
    done = 0
    normalise = jax.jit(views.normalise)

    def predict(batch: types.Batch) -> types.Tree:
        nonlocal done
        done = min(done + batch_size, total)
        progress(done, total)
        image = normalise(batch.arrays)["image"]
        return model.compute(image, batch.arrays.get("second"))

    with pipeline.eval_batches(
        model.task,
        settings,
        schema.InputConfig(
            fit=model.preparation.fit,
            resample=model.preparation.resample,
            normalisation=model.description.normalisation,
        ),
        source,
        batch_size=batch_size,
        statistics=model.preparation.statistics,
    ) as batches:
        records, _ = evaluation.evaluate(
            predict, batches, metric, put=lambda batch: sharding.put(batch, mesh)
        )
    return records


def _values(
    metric: types.Metric,
    summary: Mapping[str, np.ndarray],
    groups: np.ndarray,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, float | None]]:
    """Each value with the interval of its resamples, and how many of them count."""
    draws = intervals.draws(metric, summary, groups, resamples=resamples, seed=seed)
    values = {}
    for name, value in metric.compute(summary).items():
        low, high = intervals.interval(draws[name])
        values[name] = {
            "value": _defined(value),
            "low": _defined(low),
            "high": _defined(high),
            "resamples": int(np.isfinite(draws[name]).sum()),
        }
    return values


def _origin(
    made: prepared_types.Preparation, folder: epath.Path, split: str
) -> dict[str, Any]:
    """Which images were measured: the set, the split and how the set was split."""
    in_use = made.get("splits_in_use", {})
    return {
        "set": os.fspath(folder),
        "split": split,
        "splits": {name: in_use.get(name) for name in ("name", "sha256")},
        "fingerprint": made.get("fingerprint"),
    }


def _check_classes(
    model: model_lib.Model, settings: schema.TaskConfig, folder: epath.Path
) -> None:
    """Refuses a set whose numbers mean other things than the model's."""
    known = sources.read_metadata(folder)
    what, found = kinds.KINDS[settings.kind].headings(settings, known)
    if list(found) != model.classes:
        raise ValueError(
            f"{os.fspath(folder)}: {what} has the classes "
            f"{list(found)}, the model {model.classes}; they must be the same, in the "
            "same order."
        )
    second = settings.second_names(known.label_names)
    if second != model.second:
        raise ValueError(
            f"{os.fspath(folder)}: {settings.second_input!r} has the classes "
            f"{list(second)}, the model was told {list(model.second)}; they must be "
            "the same, in the same order."
        )
    unit = model.answers.scale.unit if model.answers.scale else ""
    there = known.values.get(settings.target, "")
    if unit and there and unit != there:
        raise ValueError(
            f"{os.fspath(folder)}: {settings.target!r} is in {there!r}, what the model "
            f"says in {unit!r}; they must be the same."
        )


def _warnings(
    ours: preprocessing.Preparation, theirs: description.Prepared
) -> list[str]:
    """What differs between the images of the set and those of training."""
    pairs = {
        "longest side (image_size)": (theirs.longest_side, ours.longest_side),
        "bit_depth": (theirs.bit_depth, ours.bit_depth),
    }
    return [
        f"The set was prepared with {name} {there}, what the model learnt from with "
        f"{here}."
        for name, (there, here) in pairs.items()
        if there != here
    ]


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
