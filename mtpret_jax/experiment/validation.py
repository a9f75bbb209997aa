"""Validation of a run's states: of its one task, or of every task so far.

The latter, of stage 2, also fills the matrix of `forgetting.json`: how good each task
is after each segment.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from etils import epath

from mtpret_jax import types
from mtpret_jax.data import subsets
from mtpret_jax.experiment import feed
from mtpret_jax.metrics import operating_points
from mtpret_jax.training import evaluation
from tfds_builders import whole

FILE = "forgetting.json"
_LOG = logging.getLogger(__name__)


class Validator:
    """Measures states of a run as its steps are done."""

    def __init__(
        self,
        reading: feed.Feed,
        folder: epath.Path,
        segments: Sequence[types.Segment],
        evaluate: Callable[..., tuple[evaluation.Records, Any]],
        settle: Callable[[types.TrainState, tuple[str, ...]], types.TrainState],
    ) -> None:
        """Reads nothing yet.

        Args:
          reading: What the run reads.
          folder: Folder of the run.
          segments: Segments of the run.
          evaluate: Predicts a split; see `run.Run.evaluate`.
          settle: A state with statistics of BatchNorm of some tasks.
        """
        self._reading, self._folder, self._segments = reading, folder, segments
        self._evaluate, self._settle = evaluate, settle
        self._metrics = {
            task: reading.shop.tasks[task].metric() for task in reading.row.tasks
        }

    def __call__(
        self, state: types.TrainState, done: int, segment: int
    ) -> tuple[dict[str, float], float]:
        """Values after `done` steps, and one to rank states by, NaN for none.

        Of that one higher is better: it has the sign of the metric.
        """
        options = self._reading.row.options
        if options.validates_all:
            return self._validate_all(state, done, segment), math.nan
        (task,) = self._reading.row.tasks
        values, records = self._values(task, state)
        metric = self._metrics[task]
        if options.selection == "auto":
            return values, metric.sign * operating_points.choice(metric, records)
        return values, metric.sign * values[metric.primary]

    def _values(
        self, task: str, state: types.TrainState, *, whole: bool = False
    ) -> tuple[dict[str, float], evaluation.Records]:
        """All values of a task, and the records that they are of."""
        metric = self._metrics[task]
        records, _ = self._evaluate(task, "validation", state, whole=whole)
        values = evaluation.values(metric, records)
        if math.isnan(values[metric.primary]):
            _LOG.warning(
                "Validation of '%s' has nothing to measure %s by (one class only?).",
                *(task, metric.primary),
            )
        return values, records

    def _validate_all(
        self, state: types.TrainState, done: int, segment: int
    ) -> dict[str, float]:
        """How good every task trained so far is now; one row of the matrix."""
        trained = {entry.task for entry in self._segments[: segment + 1]}
        is_last = done == sum(entry.steps for entry in self._segments)
        values: dict[str, float | None] = dict.fromkeys(self._metrics)
        whole: dict[str, float | None] = {}
        for task in self._metrics:
            if task not in trained:
                continue
            settled = self._settle(state, (task,))
            values[task] = self._primary_value(task, settled)
            if task == self._segments[segment].task or is_last:
                used = self._measured_on[task]
                whole[task] = (
                    values[task]
                    if used["records"] == used["whole"]
                    else self._primary_value(task, settled, whole=True)
                )
        if jax.process_index() == 0:
            self._write_row({"values": values, "whole": whole}, segment, done)
        return {task: value for task, value in values.items() if value is not None}

    def _primary_value(
        self, task: str, state: types.TrainState, *, whole: bool = False
    ) -> float | None:
        """The primary value; None if there is nothing to measure."""
        values, _ = self._values(task, state, whole=whole)
        value = values[self._metrics[task].primary]
        return value if math.isfinite(value) else None

    def _write_row(self, measured: Mapping[str, Any], segment: int, done: int) -> None:
        """Adds the row of a segment to the matrix."""
        path = self._folder / FILE
        if path.exists():
            matrix = whole.read_json(path)
        else:
            matrix = {
                "tasks": list(self._metrics),
                "metric": {task: each.primary for task, each in self._metrics.items()},
                "measured_on": self._measured_on,
                "segments": [],
            }
        row = {
            "task": self._segments[segment].task,
            "round": segment // len(self._metrics),
            "steps": done,
            **measured,
        }
        # A segment done again after a crash takes the place of its first try.
        before = [entry for entry in matrix["segments"] if entry["steps"] < done]
        whole.write_json(path, {**matrix, "segments": [*before, row]})

    @functools.cached_property
    def _measured_on(self) -> dict[str, dict[str, Any]]:
        """For each task, how many validation images are used, of how many there are.

        `records` each time; `whole` for what is forgotten and transferred, which is
        told only where `is_enough`.
        """
        found = {}
        for task in self._metrics:
            settings = self._reading.shop.config.tasks[task]
            source = self._reading.source(task, "validation")
            used, everything = (
                self._reading.subset(task, "validation", whole=each)
                for each in (False, True)
            )
            told = subsets.describe(source, settings, everything)
            unbound = dataclasses.replace(used, most=0)
            found[task] = {
                "split": "validation",
                "records": len(subsets.usable_records(source, settings, used)),
                "whole": told["records"],
                "of": len(subsets.usable_records(source, settings, unbound)),
                "positives": told["positives"],
                "is_enough": told["positives"] >= operating_points.FEWEST,
            }
        return found
