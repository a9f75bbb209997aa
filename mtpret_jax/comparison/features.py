"""Encoders: features of a prepared split by a network, or from a table."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.comparison import sets, tables
from mtpret_jax.data import pipeline
from mtpret_jax.inference import loader
from mtpret_jax.ops import views
from mtpret_jax.training import sharding
from tfds_builders import whole

_TOLD = ("parameters", "images", "updates")  # by a table of its encoder
_BATCH = 32  # images at a time, or the next multiple of the devices


@dataclasses.dataclass(frozen=True)
class About:
    """What an encoder is; None where nothing tells.

    Attributes:
      origin: A network or a table, and of which run, in words.
      sha256: SHA-256 of its weights, or of the table.
      parameters: Numbers of the backbone.
      images: Different images that it learnt from.
      updates: Optimiser steps, of what it started from, too.
      seen: Pictures that went through it in training.
    """

    origin: str
    sha256: str
    parameters: int | None = None
    images: int | None = None
    updates: int | None = None
    seen: int | None = None


class Encoder(Protocol):
    """What turns images of a prepared set into features.

    Attributes:
      about: What it is.
    """

    about: About

    def features(self, task: sets.Task, split: str) -> np.ndarray:
        """Features of the images of a split, float32 [N, D]."""
        ...


class FromTable:
    """Features that were made elsewhere."""

    def __init__(self, name: str, path: pathlib.Path) -> None:
        """Reads and checks the file; `name` is the encoder's, for messages."""
        self._table = tables.read(name, path)
        told = {key: _whole(self._table.about, key) for key in _TOLD}
        run = self._table.about.get("run")
        origin = f"table, of run '{run}'" if run else "table"
        if told["updates"] is None:
            told["updates"] = _whole(self._table.about, "steps")  # as `embed` tells
        self.about = About(origin, self._table.sha256, **told)

    def features(self, task: sets.Task, split: str) -> np.ndarray:
        """Rows of the images of a split; all that the task uses must be there."""
        every = [name for part in task.splits.values() for name in part.image_ids]
        rows = self._table.rows(task.row.dataset, every)
        row_of = dict(zip(every, rows, strict=True))
        found = [row_of[name] for name in task.splits[split].image_ids]
        return self._table.feature[found]


class FromNetwork:
    """Features by a network that `loader.load` knows, kept in a folder."""

    def __init__(self, path: pathlib.Path, folder: pathlib.Path) -> None:
        """Loads it; `folder` is where its features are kept."""
        self._model = loader.load(path)
        self._folder = folder
        said = self._model.describe()
        body = jax.tree.leaves(self._model.tree["backbone"]["params"])
        self.about = About(
            origin="{backbone}, run '{run}' of stage '{stage}'".format(**said),
            sha256=said["weights_sha256"],
            parameters=sum(leaf.size for leaf in body),
            updates=said["steps"] if said["parent"] is None else None,
        )

    def features(self, task: sets.Task, split: str) -> np.ndarray:
        """Features of the images of a split, computed once for a set and weights."""
        images = task.splits[split]
        preparation = self._model.preparation
        facts = [
            self.about.sha256,
            repr(preparation),
            self._model.description.normalisation,
            task.made["records_sha256"],
            images.image_ids,
        ]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        path = self._folder / f"{task.row.dataset}.{split}.{digest[:16]}.npz"
        if path.exists():
            return whole.read_arrays(path, f"Remove {self._folder}.")["feature"]
        found = self._compute(task, images)
        if jax.process_index() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole.write_arrays(path, {"feature": found})
        return found

    def _compute(self, task: sets.Task, images: sets.Split) -> np.ndarray:
        """Runs the network over a split, prepared as in its own training."""
        model, preparation = self._model, self._model.preparation
        batch_size = model.devices * -(-_BATCH // model.devices)
        row = dataclasses.replace(task.row, image_size=preparation.image_size)
        normalise = jax.jit(views.normalise)
        mesh = sharding.make_mesh()
        parts = []
        with pipeline.eval_batches(
            task.name,
            row,
            schema.InputConfig(
                fit=preparation.fit,
                resample=preparation.resample,
                normalisation=model.description.normalisation,
            ),
            images.source,
            batch_size=batch_size,
            statistics=preparation.statistics,
        ) as batches:
            for batch in batches:
                valid = batch.arrays["example_valid"]
                given: types.Batch = sharding.put(batch, mesh)
                image = normalise(given.arrays)["image"]
                found = sharding.fetch_rows(model.compute(image))["embedding"]
                parts.append(np.asarray(found)[valid])
        return np.concatenate(parts).astype(np.float32)


def _whole(about: Mapping[str, Any], name: str) -> int | None:
    """A count that a table tells of its encoder."""
    value = about.get(name)
    return value if isinstance(value, int) and value >= 0 else None
