"""Looks at the features of a run of stage 1 or 2 now and then; the run stays as it is.

Each look is a line of `metrics.jsonl`: effective rank and spread of the features of
validation images, spread of the batch's embeddings, and by how much a task's labels can
be told from features, by neighbours and by a linear probe. The state that neighbours
like best is kept as `snapshots/step_<n>`, a backbone folder like that of the last one.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mtpret_jax import models, types
from mtpret_jax.experiment import feed, frozen, monitor_images
from mtpret_jax.metrics import probes, representations
from mtpret_jax.training import files, sharding

_ROWS = 64  # images at a time
_LOG = logging.getLogger(__name__)


class Monitor:
    """Looks at states of a run."""

    def __init__(
        self,
        reading: feed.Feed,
        mesh: Mesh,
        steps: int,
        keep: Callable[[types.TrainState], None],
    ) -> None:
        """Reads and compiles nothing yet.

        Args:
          reading: What the run reads.
          mesh: Devices of the run.
          steps: Optimiser steps of the whole run.
          keep: Writes a state as the snapshot; called on all processes.
        """
        self._reading, self._mesh, self._keep = reading, mesh, keep
        row = reading.row
        is_wanted = row.options.is_monitored and 0 < row.monitor.every <= steps
        self._every = row.monitor.every if is_wanted else 0
        self._curves: dict[str, list[tuple[int, float]]] = {}
        self._told: list[str] = []

    @functools.cached_property
    def _images(self) -> monitor_images.Images:
        return monitor_images.read(self._reading)

    @functools.cached_property
    def _extract(self) -> Callable:
        backbone = models.build_backbone(self._reading.shop.config.backbone)
        return sharding.compile_statistics(frozen.extractor(backbone), self._mesh)

    def is_due(self, done: int) -> bool:
        """Whether to look after so many steps."""
        if not self._every:
            return False
        early = max(self._every // 5, 1)  # Most collapses come early.
        return done % self._every == 0 or done in (early, 2 * early)

    def recall(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Remembers what was seen before a stop, by lines of `metrics.jsonl`."""
        for line in lines:
            self._remember(line["step"], line)
        self._told = representations.collapses(self._curves)

    def look(
        self, state: types.TrainState, done: int, scalars: Mapping[str, Any]
    ) -> dict[str, float]:
        """Measures a state, warns of a collapse, and keeps the best so far.

        Args:
          state: State after `done` steps, which stays as it is.
          done: Optimiser steps so far.
          scalars: Scalars of the last step; none at the start.

        Returns:
          What to write of it: nothing if it was seen before a stop, or on processes
          other than the first.
        """
        if not self._images.validation:
            return {}
        line, is_best = {}, False
        with jax.transfer_guard("allow"):
            feature = self._features(state)
            if jax.process_index() == 0 and done not in self._seen:
                _, best = self._best()
                line = self._measure(feature, scalars)
                self._remember(done, line)
                self._warn()
                is_best = done > 0 and self._best()[1] > best
            if files.agree(is_best):
                self._keep(state)
        return line

    def facts(self) -> dict[str, Any]:
        """What `run.json` says: how the best state was, and what has collapsed."""
        if not self._every:
            return {}
        step, value = self._best()
        kept = {"snapshot_step": step, "snapshot_knn": value} if step else {}
        return {"monitor": {"collapses": self._told, **kept}}

    @property
    def _seen(self) -> set[int]:
        return {step for step, _ in self._curves.get(representations.RANK, ())}

    def _best(self) -> tuple[int, float]:
        """The step that neighbours like best, the earlier of equals; 0: the start."""
        known = self._curves.get(representations.KNN, ())
        return max([(0, -math.inf), *known], key=lambda look: look[1])

    def _remember(self, done: int, line: Mapping[str, Any]) -> None:
        for name, value in line.items():
            if name.startswith(representations.PREFIX):
                known = math.nan if value is None else value
                name = name.removeprefix(representations.PREFIX)
                self._curves.setdefault(name, []).append((done, known))

    def _warn(self) -> None:
        found = representations.collapses(self._curves)
        for sentence in [each for each in found if each not in self._told]:
            _LOG.warning("%s", sentence)
        self._told = found

    def _features(self, state: types.TrainState) -> list[np.ndarray]:
        """Features of each part of the images, float32 [N, D], the same everywhere."""
        rows = -(-_ROWS // self._mesh.size) * self._mesh.size
        parts, found = self._images.parts, {}
        groups: dict[Any, list[int]] = {}  # of parts that one program takes
        for place, part in enumerate(parts):
            image = part.arrays["image"]
            groups.setdefault((image.shape[1:], image.dtype), []).append(place)
        trees = ({"backbone": x["backbone"]} for x in (state.params, state.model_state))
        extract = functools.partial(self._extract, *trees)
        for places in groups.values():
            arrays = {
                name: np.concatenate([parts[place].arrays[name] for place in places])
                for name in ("image", "image_statistics")
            }
            count = len(arrays["image"])
            feature = []
            for first in range(0, count, rows):
                held = np.minimum(np.arange(first, first + rows), count - 1)
                batch = types.Batch({k: v[held] for k, v in arrays.items()}, "")
                batch = sharding.put_whole(batch, self._mesh)
                feature.append(sharding.fetch(extract(batch))["feature"])
            ends = np.cumsum([len(parts[place]) for place in places])
            cut = np.split(np.concatenate(feature)[:count], ends[:-1])
            found |= dict(zip(places, cut, strict=True))
        return [found[place] for place in range(len(parts))]

    def _measure(
        self, feature: list[np.ndarray], scalars: Mapping[str, Any]
    ) -> dict[str, float]:
        images = self._images
        validation = dict(zip(images.validation, feature, strict=False))
        train = dict(zip(images.train, feature[len(validation) :], strict=True))
        everything = np.concatenate([*validation.values()])
        found = {
            representations.RANK: representations.effective_rank(everything),
            representations.SPREAD: representations.spread(everything),
        }
        width = self._reading.row.options.embedding_width
        if width and representations.EMBEDDING in scalars:
            spread = float(scalars[representations.EMBEDDING])
            found[representations.EMBEDDING] = spread * math.sqrt(width)
        is_finite = all(np.isfinite(each).all() for each in feature)
        for task, name in images.tasks.items() if is_finite else ():
            metric: Any = self._reading.shop.tasks[task].metric()
            part = images.train[name]
            known = part.examples(task, train[name], exclusive=metric.exclusive)
            asked = validation[name]
            told = {
                representations.KNN: probes.vote(known, asked),
                representations.LINEAR: probes.linear(
                    known, asked, strength=probes.STRENGTH
                ),
            }
            for method, probability in told.items():
                value = images.validation[name].score(metric, probability, task)
                found[f"{method}/{task}"] = value
        for method in (representations.KNN, representations.LINEAR):
            values = [v for name, v in found.items() if name.startswith(f"{method}/")]
            if values and not np.isnan(values).all():
                found[method] = float(np.nanmean(values))
        return {f"{representations.PREFIX}{name}": v for name, v in found.items()}
