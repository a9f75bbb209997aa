"""What happens after a step: log, validate, save, in that order."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import stages
from mtpret_jax.experiment import monitor
from mtpret_jax.training import (
    checkpoint,
    preemption,
    reporting,
    speed,
    tracing,
)

_LOG = logging.getLogger(__name__)
_BETWEEN = 60.0  # seconds between two lines on speed

# Of the state after so many steps, in a segment: scalars, and the value to rank it by.
Validate = Callable[[types.TrainState, int, int], tuple[dict[str, float], float]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """A step that was handed to the devices.

    Attributes:
      done: Steps so far, with this one.
      task: Task of its batch.
      record: Which records this process's rows are, int32 [B].
      scalars: Scalars of the step.
      is_logged: Whether they are written.
    """

    done: int
    task: str
    record: np.ndarray
    scalars: types.Scalars
    is_logged: bool


class Recorder:
    """The hook of one run's loop; see `loop.Hook`."""

    def __init__(
        self,
        folder: epath.Path,
        row: schema.RunConfig,
        stage: types.Stage,
        mesh: Mesh,
        checkpoints: checkpoint.RunCheckpoints,
        *,
        start: int,
        images_per_step: float,
        validate: Validate,
        look: monitor.Monitor,
        profile: range = range(0),
        track: Sequence[str] = (),
    ) -> None:
        """Opens the run's files.

        Args:
          folder: Folder of the run.
          row: Row of the run.
          stage: Stage of the run.
          mesh: Devices of the run.
          checkpoints: Where states are saved.
          start: Steps done already; later lines on disk are dropped.
          images_per_step: Examples in a global batch, their mean if tasks differ.
          validate: Measures a state when the stage says that it is time to.
          look: Measures a state's features now and then.
          profile: Which steps are traced; see `tracing.Trace`.
          track: Trackers that are told of them; see `trackers.TRACKERS`.
        """
        self._folder, self._row, self._stage = folder, row, stage
        self._checkpoints, self._validate = checkpoints, validate
        self._look = look
        segments = stage.segments()
        self._total = sum(segment.steps for segment in segments)
        self._is_mixed = len({segment.task for segment in segments}) > 1
        self._writer = None
        if jax.process_index() == 0:
            self._writer = reporting.RunWriter(
                folder,
                resume_step=start,
                track=track,
                options={
                    name: schema.as_dict(value)
                    for name, value in vars(row).items()
                    if value is row.options or not isinstance(value, stages.StageConfig)
                },
            )
        self._progress = reporting.Progress(
            folder.name, self._total, images_per_step=images_per_step
        )
        self._trace = tracing.Trace(folder / "tensorboard", profile)
        if jax.process_index() == 0:
            self._trace.update(start, {})
        self._finished, self._step = start, None
        self._meter = speed.Meter(list(mesh.devices.flat))
        self._read = self._told = self._meter.read()
        self._told_at = time.monotonic()

    def watch(
        self, streams: Mapping[str, Iterator[types.Batch]], step: Callable
    ) -> tuple[dict[str, Iterator[types.Batch]], Callable]:
        """The same streams and compiled step; what they take is measured."""
        timed = {name: self._meter.timed(stream) for name, stream in streams.items()}
        return timed, self._meter.counted(step)

    def begin(self, state: types.TrainState) -> None:
        """Looks at the state before the first step, or recalls what was seen of it."""
        if self._writer is not None and self._finished:
            self._look.recall(reporting.read_lines(self._folder))
        if self._finished == 0 and self._look.is_due(0):
            self._see(state, {}, 0)

    def facts(self) -> dict[str, Any]:
        """What `run.json` says of the steps of this process, and of the monitor."""
        return self._speed() | self._look.facts()

    def _speed(self) -> dict[str, float | None]:
        """Means over this process's steps; None where not known."""
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
        row, last = self._row, done == self._total
        validate_now = self._stage.is_validated(done, row.evaluate_every)
        save_now = done % row.checkpoint_every == 0 or last or validate_now
        log_now = done % row.log_every == 0 or save_now
        record = np.asarray(batch.arrays["record"])
        self._step = _Step(done, batch.task, record, scalars, log_now)
        if jax.process_index() == 0:
            self._trace.update(done, scalars)
        if self._look.is_due(done):
            self._see(state, scalars, done)
        line, value = {}, math.nan
        if save_now:
            line = self._finish(write=False)
            if validate_now:
                with self._meter.paused():
                    values, value = self._validate(state, done, segment)
                line |= {f"validation/{name}": v for name, v in values.items()}
        stop = preemption.is_asked()
        if save_now or stop:
            # What is saved is checked to be finite, so that a run can resume from it.
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
            self._writer.close(ended=self._finished == self._total)

    def _see(self, state: types.TrainState, scalars: types.Scalars, done: int) -> None:
        """Writes what there is to be seen of a state's features."""
        jax.block_until_ready(scalars)  # The step's own time counts.
        with self._meter.paused():
            line = self._look.look(state, done, scalars)
        if self._writer is not None and line:
            self._writer.write(done, line)

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
        prefix = f"train/{step.task}/" if self._is_mixed else "train/"
        line = {f"{prefix}{name}": float(value) for name, value in scalars.items()}
        # Tells two streams apart: a digest of which records the batch holds.
        record = np.ascontiguousarray(step.record)
        line[f"{prefix}records"] = float(zlib.crc32(record.tobytes()))
        return line
