"""What happens after a step: log, evaluate, save, in that order."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mtpret_jax import types
from mtpret_jax.data import subsets
from mtpret_jax.experiment import assembly, batch_norm, workshop
from mtpret_jax.metrics import operating_points
from mtpret_jax.training import (
    checkpoint,
    evaluation,
    preemption,
    reporting,
    sharding,
    speed,
    tracing,
)
from tfds_builders import whole

_LOG = logging.getLogger(__name__)
_BETWEEN = 60.0  # seconds between two lines on speed


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """A step that was handed to the devices.

    Attributes:
      done: Steps so far, with this one.
      task: Of its batch.
      record: Which records this process's rows are, int32 [B].
      scalars: Of the step.
      is_logged: Whether they are written.
    """

    done: int
    task: str
    record: np.ndarray
    scalars: types.Scalars
    is_logged: bool


class Recorder:
    """The hook of one run's loop; see `loop.Hook`.

    Attributes:
      estimator: Of BatchNorm's statistics, in stage 2.
    """

    def __init__(
        self,
        shop: workshop.Workshop,
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
            batches = row.continual.batch_norm_batches
            self.estimator = batch_norm.Estimator(shop, row, batches)
            learner = assembly.build_learner(config, shop.tasks, row)
            self._predict = sharding.compile_predict(learner.predict, shop.mesh)
            sizes = [config.tasks[task].batch_size for task in self._tasks]
        else:
            sizes = [row.contrastive.batch_size]
        self._progress = reporting.Progress(
            name, int(self._ends[-1]), images_per_step=float(np.mean(sizes))
        )
        self._trace = tracing.Trace(self._folder / "tensorboard", shop.profile)
        if jax.process_index() == 0:
            self._trace.update(start, {})
        self._finished, self._step = start, None
        self._meter = speed.Meter(list(shop.mesh.devices.flat))
        self._read = self._told = self._meter.read()
        self._told_at = time.monotonic()

    def watch(
        self, streams: Mapping[str, Iterator[types.Batch]], step: Callable
    ) -> tuple[dict[str, Iterator[types.Batch]], Callable]:
        """The same streams and compiled step; what they take is measured."""
        timed = {name: self._meter.timed(stream) for name, stream in streams.items()}
        return timed, self._meter.counted(step)

    def speed(self) -> dict[str, float | None]:
        """Means over this process's steps, for `run.json`; None where not known."""
        read = self._meter.read()
        values = {
            "images_per_second": self._progress.images_per_second,
            "images_per_second_per_device": read.images_per_device,
            "model_flop_utilisation": read.utilisation,
            "input_wait_seconds": read.waited,
            "input_wait_share": read.waited_share,
        }
        return {
            name: value if math.isfinite(value) else None
            for name, value in values.items()
        }

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
        self._finish()  # The step before, which has been done.
        row, last = self._row, done == self._ends[-1]
        evaluate_now = row.stage == "finetune" and (
            last or (row.evaluate_every and done % row.evaluate_every == 0)
        )
        measure_now = row.stage == "continual" and is_measured(
            self._segments, segment, done, row.evaluate_every
        )
        save_now = (
            done % row.checkpoint_every == 0 or last or evaluate_now or measure_now
        )
        log_now = done % row.log_every == 0 or save_now
        record = np.asarray(batch.arrays["record"])
        self._step = _Step(done, batch.task, record, scalars, log_now)
        if jax.process_index() == 0:
            self._trace.update(done, scalars)
        line, value = {}, math.nan
        if save_now:
            line = self._finish(write=False)
            with self._meter.paused():
                if evaluate_now:
                    values, value = self._validate(batch.task, state)
                    line |= {f"validation/{name}": v for name, v in values.items()}
                if measure_now:
                    line |= self._remembered(state, segment, done)
        stop = preemption.is_asked()
        if save_now or stop:
            # What is saved is checked to be finite, so that one can go on from it.
            line = line or self._finish(write=False)
            if log_now:  # Else a stop leaves no trace.
                self._write(done, line)
            with self._meter.paused(), jax.transfer_guard("allow"):
                if self._writer is not None:
                    self._writer.note()
                self._checkpoints.save(state, done, value)
        self._progress.update(self._finished, batch.task)
        if stop:
            raise preemption.Preempted(f"Step {done} of run '{self._folder.name}'")
        self._tell(last)

    def close(self) -> None:
        """Closes the run's files."""
        self._trace.close()
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
        whole: bool = False,
    ) -> tuple[evaluation.Records, evaluation.Records]:
        """Runs the state's model over a split; see `evaluation.evaluate`."""
        opened = workshop.open_split(self._shop, self._row, task, split, whole=whole)
        with opened as batches:
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

    def _validate(
        self, task: str, state: types.TrainState, *, whole: bool = False
    ) -> tuple[dict[str, float], float]:
        """All values, and the one by which steps are compared."""
        records, _ = self.evaluate(task, "validation", state, whole=whole)
        values = evaluation.values(self._shop.tasks[task].metric(), records)
        if math.isnan(values[self._primary(task)]):
            _LOG.warning(
                "Validation of '%s' has nothing to measure %s by (one class only?).",
                task,
                self._primary(task),
            )
        if self._row.finetune.selection == "auto":
            metric = self._shop.tasks[task].metric()
            return values, operating_points.choice(metric, records)
        return values, values[self._primary(task)]

    def _finish(self, *, write: bool = True) -> dict[str, float]:
        """Waits for the last step, counts it, and writes what is logged of it.

        Returns:
          The scalars, named as in `metrics.jsonl`; none if there was no step.

        Raises:
          FloatingPointError: If it is logged or not to be written, and not finite.
        """
        step, self._step = self._step, None
        if step is None:
            return {}
        jax.block_until_ready(step.scalars)
        self._finished = step.done
        self._meter.add(step.task, len(step.record) * jax.process_count())
        if write and not step.is_logged:
            return {}
        line = self._train_line(step)
        if write:
            self._write(step.done, line)
        return line

    def _write(self, done: int, line: Mapping[str, float]) -> None:
        """Writes scalars, and to TensorBoard how fast it went since the last time."""
        read = self._meter.read()
        if self._writer is not None:
            self._writer.write(done, line)
            self._writer.write_board(done, (read - self._read).scalars())
        self._read = read

    def _tell(self, last: bool) -> None:
        """Says now and then how fast it goes, at the end how fast it went."""
        if not last and time.monotonic() - self._told_at < _BETWEEN:
            return
        read = self._meter.read()
        self._progress.close()
        _LOG.info("%s: %s", self._folder.name, read if last else read - self._told)
        self._told, self._told_at = read, time.monotonic()

    def _train_line(self, step: _Step) -> dict[str, float]:
        scalars = jax.device_get(step.scalars)
        # A finite loss may have a gradient that is not, and spoils the parameters.
        loss, norm = float(scalars["loss"]), float(scalars["gradient_norm"])
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise FloatingPointError(
                f"{self._folder.name}: the loss of '{step.task}' is {loss}, its "
                f"gradient's norm {norm}, after {step.done} steps. Start a new work "
                "folder with a lower learning rate or clip_norm."
            )
        prefix = f"train/{step.task}/" if len(self._tasks) > 1 else "train/"
        line = {f"{prefix}{name}": float(value) for name, value in scalars.items()}
        # Tells two streams apart: a digest of which records the batch holds.
        record = np.ascontiguousarray(step.record)
        line[f"{prefix}records"] = float(zlib.crc32(record.tobytes()))
        return line

    def _remembered(
        self, state: types.TrainState, segment: int, done: int
    ) -> dict[str, float]:
        """How good every task trained so far is now; one row of the matrix."""
        trained = {entry.task for entry in self._segments[: segment + 1]}
        now, values, whole = self._segments[segment].task, {}, {}
        for task in self._tasks:
            if task not in trained:
                values[task] = None
                continue
            settled = self.estimator.of_task(state, task)
            values[task] = self._value(task, settled)
            if task == now or done == self._ends[-1]:
                used = self._measured_on[task]
                is_same = used["records"] == used["whole"]
                whole[task] = (
                    values[task] if is_same else self._value(task, settled, whole=True)
                )
        if jax.process_index() == 0:
            self._write_matrix({"values": values, "whole": whole}, segment, done)
        return {
            f"validation/{task}": value
            for task, value in values.items()
            if value is not None
        }

    def _value(
        self, task: str, state: types.TrainState, *, whole: bool = False
    ) -> float | None:
        """The primary value; None if there is nothing to measure."""
        value = self._validate(task, state, whole=whole)[0][self._primary(task)]
        return value if math.isfinite(value) else None

    def _write_matrix(
        self, measured: Mapping[str, Any], segment: int, done: int
    ) -> None:
        """Adds the row of a segment to `forgetting.json`."""
        path = self._folder / "forgetting.json"
        if path.exists():
            matrix = whole.read_json(path)
        else:
            matrix = {
                "tasks": list(self._tasks),
                "metric": {task: self._primary(task) for task in self._tasks},
                "measured_on": self._measured_on,
                "segments": [],
            }
        rounds = segment // len(self._tasks)
        task = self._segments[segment].task
        row = {"task": task, "round": rounds, "steps": done, **measured}
        # A segment done again after a crash takes the place of its first try.
        before = [entry for entry in matrix["segments"] if entry["steps"] < done]
        matrix["segments"] = [*before, row]
        whole.write_json(path, matrix)

    @functools.cached_property
    def _measured_on(self) -> dict[str, dict[str, Any]]:
        """For each task, how many validation images are used, of how many it may use.

        `records` each time; `whole` for what is forgotten and transferred, which is
        told only where `is_enough`.
        """
        found = {}
        for task in self._tasks:
            settings = self._shop.config.tasks[task]
            source = self._shop.open_set(settings.dataset, "validation")
            used, whole = (
                self._shop.subset(self._row, task, "validation", whole=each)
                for each in (False, True)
            )
            told = subsets.describe(source, settings, whole)
            everything = dataclasses.replace(used, most=0)
            found[task] = {
                "split": "validation",
                "records": len(subsets.usable_records(source, settings, used)),
                "whole": told["records"],
                "of": len(subsets.usable_records(source, settings, everything)),
                "positives": told["positives"],
                "is_enough": told["positives"] >= operating_points.FEWEST,
            }
        return found


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
