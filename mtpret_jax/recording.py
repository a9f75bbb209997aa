"""What happens after a step: log, evaluate, save, in that order."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from mtpret_jax import building, types
from mtpret_jax.data import sources
from mtpret_jax.training import (
    checkpoint,
    evaluation,
    files,
    preemption,
    reporting,
    sharding,
)

_LOG = logging.getLogger(__name__)


class Recorder:
    """The hook of one run's loop; see `loop.Hook`."""

    def __init__(
        self,
        shop: building.Workshop,
        name: str,
        segments: Sequence[types.Segment],
        checkpoints: checkpoint.RunCheckpoints,
        start: int,
    ) -> None:
        """Opens the run's files.

        Args:
          shop: What all runs share.
          name: Of the run.
          segments: Of its stage.
          checkpoints: Where states are saved.
          start: Steps done already; later lines on disk are dropped.
        """
        config, row = shop.config, shop.config.runs[name]
        self._shop, self._row, self._segments = shop, row, segments
        self._folder = shop.run_folder(name)
        self._checkpoints = checkpoints
        self._tasks = row.tasks
        self._ends = np.cumsum([segment.steps for segment in segments])
        self._writer = None
        if jax.process_index() == 0:
            self._writer = reporting.RunWriter(self._folder, resume_step=start)
        if self._tasks:
            learner = building.build_learner(config, shop.tasks, row)
            self._predict = sharding.compile_predict(learner.predict, shop.mesh)
            sizes = [config.tasks[task].batch_size for task in self._tasks]
        else:
            sizes = [row.contrastive.batch_size]
        self._progress = reporting.Progress(
            name, int(self._ends[-1]), images_per_step=float(np.mean(sizes))
        )

    @property
    def images_per_second(self) -> float | None:
        """Mean rate of this process's steps; None after fewer than two."""
        rate = self._progress.images_per_second
        return rate if math.isfinite(rate) else None

    def __call__(
        self,
        state: types.TrainState,
        scalars: types.Scalars,
        batch: types.Batch,
        done: int,
        segment: int,
    ) -> None:
        """Does what is due after `done` steps.

        Raises:
          FloatingPointError: If loss or gradient are not finite.
          preemption.Preempted: If asked to stop, once the state is saved.
        """
        row, last = self._row, done == self._ends[-1]
        line: dict[str, float] = {}
        evaluate_now = row.stage == "finetune" and (
            last or (row.evaluate_every and done % row.evaluate_every == 0)
        )
        measure_now = row.stage == "continual" and is_measured(
            self._segments, segment, done, row.evaluate_every
        )
        save_now = (
            done % row.checkpoint_every == 0 or last or evaluate_now or measure_now
        )
        # What is saved is checked to be finite, so that one can go on from it.
        log_now = done % row.log_every == 0 or save_now
        if log_now:
            line |= self._train_line(jax.device_get(scalars), batch, done)
        value = math.nan
        if evaluate_now:
            values = self._validate(batch.task, state)
            value = values[self._primary(batch.task)]
            line |= {f"validation/{name}": found for name, found in values.items()}
        if measure_now:
            line |= self._remembered(state, segment, done)
        if line and self._writer is not None:
            self._writer.write(done, line)
        stop = preemption.is_asked()
        if stop and not log_now:  # Checked, but not written: a stop leaves no trace.
            self._train_line(jax.device_get(scalars), batch, done)
        if save_now or stop:
            with jax.transfer_guard("allow"):
                self._checkpoints.save(state, done, value)
        self._progress.update(done, batch.task)
        if stop:
            raise preemption.Preempted(f"Step {done} of run '{self._folder.name}'")

    def close(self) -> None:
        """Closes the run's files."""
        self._progress.close()
        if self._writer is not None:
            self._writer.close()

    def evaluate(
        self,
        task: str,
        split: str,
        state: types.TrainState,
        *,
        samples: int = 0,
        worst: evaluation.Worst | None = None,
    ) -> tuple[evaluation.Records, evaluation.Records]:
        """Runs the state's model over a split; see `evaluation.evaluate`."""
        with building.open_split(self._shop, self._row, task, split) as batches:
            return evaluation.evaluate(
                lambda batch: self._predict(state.params, state.model_state, batch),
                batches,
                self._shop.tasks[task].metric(),
                put=lambda batch: sharding.put(batch, self._shop.mesh),
                samples=samples,
                worst=worst,
            )

    def _primary(self, task: str) -> str:
        return self._shop.tasks[task].metric().primary

    def _validate(self, task: str, state: types.TrainState) -> dict[str, float]:
        records, _ = self.evaluate(task, "validation", state)
        values = evaluation.values(self._shop.tasks[task].metric(), records)
        if math.isnan(values[self._primary(task)]):
            _LOG.warning(
                "Validation of '%s' has nothing to measure %s by (one class only?).",
                task,
                self._primary(task),
            )
        return values

    def _train_line(
        self, scalars: dict[str, np.ndarray], batch: types.Batch, done: int
    ) -> dict[str, float]:
        # A finite loss may have a gradient that is not, and spoils the parameters.
        loss, norm = float(scalars["loss"]), float(scalars["gradient_norm"])
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise FloatingPointError(
                f"{self._folder.name}: the loss of '{batch.task}' is {loss}, its "
                f"gradient's norm {norm}, after {done} steps. Start a new work folder "
                "with a lower learning rate or clip_norm."
            )
        prefix = f"train/{batch.task}/" if len(self._tasks) > 1 else "train/"
        line = {f"{prefix}{name}": float(value) for name, value in scalars.items()}
        # Tells two streams apart: a digest of which records the batch holds.
        records = np.ascontiguousarray(batch.arrays["record"])
        line[f"{prefix}records"] = float(zlib.crc32(records.tobytes()))
        return line

    def _remembered(
        self, state: types.TrainState, segment: int, done: int
    ) -> dict[str, float]:
        """How good every task trained so far is now; one row of the matrix."""
        trained = {entry.task for entry in self._segments[: segment + 1]}
        values = {}
        for task in self._tasks:
            found = self._validate(task, state) if task in trained else {}
            value = found.get(self._primary(task), math.nan)
            values[task] = value if math.isfinite(value) else None
        if jax.process_index() == 0:
            self._write_matrix(values, segment, done)
        return {
            f"validation/{task}": value
            for task, value in values.items()
            if value is not None
        }

    def _write_matrix(
        self, values: dict[str, float | None], segment: int, done: int
    ) -> None:
        """Adds the row of a segment to `forgetting.json`."""
        path = self._folder / "forgetting.json"
        matrix = {
            "tasks": list(self._tasks),
            "metric": {task: self._primary(task) for task in self._tasks},
            "segments": [],
        }
        if path.exists():
            matrix = json.loads(path.read_text())
        rounds = segment // len(self._tasks)
        task = self._segments[segment].task
        row = {"task": task, "round": rounds, "steps": done, "values": values}
        # A segment done again after a crash takes the place of its first try.
        before = [entry for entry in matrix["segments"] if entry["steps"] < done]
        matrix["segments"] = [*before, row]
        files.write_json(path, matrix)


def is_measured(
    segments: Sequence[types.Segment], index: int, done: int, every: int
) -> bool:
    """Whether stage 2 measures all tasks after `done` steps, in segment `index`.

    That is at the end of a segment in which a multiple of `every` steps was passed, of
    each if `every` is 0, and of the last one.
    """
    end = sum(segment.steps for segment in segments[: index + 1])
    if done != end:
        return False
    before = end - segments[index].steps
    return not every or index == len(segments) - 1 or end // every > before // every


def write_predictions(
    folder: epath.Path, source: sources.Source, records: evaluation.Records
) -> None:
    """Writes `<split>.csv`, whose pictures these are, and `<split>.npz`, the records.

    Args:
      folder: Of the predictions of a run's task; made when missing.
      source: The split that was predicted.
      records: As `evaluation.evaluate` gives them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["record", "image_id", "group"])
    for record in records["record"]:
        entry = source.index[record]
        writer.writerow([record, entry["image_id"], entry["group"]])
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{source.split}.csv").write_text(text.getvalue())
    write_arrays(folder / f"{source.split}.npz", records)


def write_arrays(path: epath.Path, arrays: evaluation.Records) -> None:
    """Writes named arrays, compressed, from the first process."""
    named: Any = arrays
    if jax.process_index() == 0:
        with path.open("wb") as stream:
            np.savez_compressed(stream, **named)
