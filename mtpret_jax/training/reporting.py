"""What a run tells while it runs: scalars on disk, and a line for whoever watches.

`metrics.jsonl` holds nothing that depends on the clock or the machine, so a run that
was killed and resumed leaves the same file as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO

import tensorboard.summary
from etils import epath

from mtpret_jax.training import trackers
from tfds_builders import whole

_AGAIN = (
    "Restore it from a copy, or delete it: the run goes on without its first lines."
)


class RunWriter:
    """Appends scalars to `metrics.jsonl`, TensorBoard's files and those of trackers.

    Lines after `resume_step` and a line cut short by a crash are dropped on opening,
    so steps done again are not there twice. (TensorBoard keeps them, and shows the
    later ones.)
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        resume_step: int,
        track: Sequence[str] = (),
        options: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> None:
        """Opens the files.

        Args:
          folder: The run's folder; made when missing.
          resume_step: Optimiser steps that the restored state has done, 0 for none.
          track: Keys of `trackers.TRACKERS` that are told, too.
          options: What they are told of the config.
        """
        folder = epath.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        self._last = _drop_after(path, resume_step)
        self._path, self._file = path, path.open("a")
        self._board = tensorboard.summary.Writer(str(folder / "tensorboard"))
        self._trackers = trackers.Trackers(track, folder, options)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends one line and flushes it, so that it survives a kill.

        Args:
          step: Optimiser steps done; not below that of the line before.
          scalars: Values named `group/name`. What is not finite becomes null.
        """
        if step < self._last:
            raise ValueError(
                f"Scalars of step {step} come after those of step {self._last}; "
                "steps must not go back. Open a new writer to resume."
            )
        self._last = step
        values = {name: float(value) for name, value in scalars.items()}
        finite = {n: v if math.isfinite(v) else None for n, v in values.items()}
        with whole.telling(self._path):
            self._file.write(json.dumps({"step": step, **finite}) + "\n")
            self._file.flush()
        self.write_board(step, values)

    def note(self) -> None:
        """Keeps the digest of the lines so far, by which who goes on knows them."""
        with self._path.open("rb") as file:
            digest = whole.of_stream(file)
            os.fsync(file.fileno())
        whole.note(self._path.parent, {self._path.name: digest})

    def write_board(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds scalars for those who watch: what the clock or machine decides."""
        for name, value in scalars.items():
            self._board.add_scalar(name, float(value), step)
        self._trackers.add(step, scalars)

    def close(self, *, ended: bool = True) -> None:
        """Closes all files; `ended` says whether the run did its last step."""
        self._file.close()
        self._board.close()
        self._trackers.close(ended=ended)


class Stream(Protocol):
    """The part of a text stream that a progress line needs."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...

    def isatty(self) -> bool: ...


class Progress:
    """One line with step, time to go and images per second.

    On a terminal the line is redrawn in place; elsewhere a new one comes at most every
    10 seconds. Speed is measured from the first call of `update`, so compiling before
    it does not count.
    """

    def __init__(
        self,
        name: str,
        total: int,
        *,
        images_per_step: float,
        unit: str = "step",
        stream: TextIO | Stream | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draws nothing yet.

        Args:
          name: What is done, at the head of the line.
          total: Optimiser steps of the whole run, or units in all.
          images_per_step: Examples in a global batch (their mean, if tasks differ).
          unit: What is counted.
          stream: Where the line goes; the standard error stream by default.
          clock: Seconds, rising.
        """
        self._name = name
        self._total = total
        self._images_per_step = images_per_step
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._in_place = self._stream.isatty()
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None
        self._drawn: tuple[int, float] | None = None
        self._width = 0

    @property
    def images_per_second(self) -> float:
        """Images per second since the first update; NaN before the second."""
        return self._steps_per_second() * self._images_per_step

    def update(self, step: int, note: str = "") -> None:
        """Tells that `step` steps are done; draws when it is time to.

        Args:
          step: Optimiser steps done.
          note: A few words for the end of the line, such as the task or the loss.
        """
        now = self._clock()
        self._first = self._first or (step, now)
        self._last = (step, now)
        pause = 0.2 if self._in_place else 10.0
        waited = self._drawn is None or now - self._drawn[1] >= pause
        if waited or step >= self._total:
            self._draw(step, note)
            self._drawn = (step, now)

    def close(self) -> None:
        """Ends the line, so that what is printed next starts on its own."""
        if self._in_place and self._drawn is not None:
            self._stream.write("\n")
            self._stream.flush()
        self._drawn = None

    def _steps_per_second(self) -> float:
        if self._first is None or self._last is None:
            return math.nan
        steps = self._last[0] - self._first[0]
        seconds = self._last[1] - self._first[1]
        return steps / seconds if steps > 0 and seconds > 0 else math.nan

    def _draw(self, step: int, note: str) -> None:
        speed = self._steps_per_second()
        percent = 100 * step // max(self._total, 1)
        done = f"{self._unit} {step}/{self._total} ({percent} %)"
        parts = [f"{self._name}: {done}"]
        if math.isfinite(speed):
            left = max(self._total - step, 0) / speed
            parts.append(f"{_duration(left)} left")
            parts.append(f"{self.images_per_second:.1f} images/s")
        if note:
            parts.append(note)
        line = ", ".join(parts)
        if self._in_place:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def _duration(seconds: float) -> str:
    """Seconds as 0:42, 12:05 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def read_lines(folder: epath.PathLike) -> list[dict[str, Any]]:
    """The lines that a run has written so far, each with its `step`."""
    content = whole.read(epath.Path(folder) / "metrics.jsonl")
    return [json.loads(line) for line in content.splitlines()]


def _drop_after(path: epath.Path, resume_step: int) -> int:
    """Rewrites the file without lines after `resume_step`; returns the last step."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    lines, last = [], 0
    for line in content.splitlines(keepends=True):
        try:
            step = json.loads(line)["step"]
        except (ValueError, LookupError, TypeError):
            break  # Cut short by a crash, or damaged, as the digest will tell.
        if step > resume_step or not line.endswith(b"\n"):
            break
        lines.append(line)
        last = step
    kept = b"".join(lines)
    digest = hashlib.sha256(kept).hexdigest()
    if resume_step:
        whole.compare(path, digest, _AGAIN, old=True)
        # Whatever state is gone on from, the lines before the newest one are there.
        newest = whole.digests(path.parent).get(path.name, [digest])[-1]
        if newest not in _beginnings(content):
            raise whole.DamagedError(
                f"{path}: damaged, lines are changed or gone. {_AGAIN}"
            )
    if kept != content:  # A kill here must not lose the lines kept.
        whole.note(path.parent, {path.name: digest})
        whole.place(path, kept)
    return last


def _beginnings(content: bytes) -> set[str]:
    """SHA-256 of no line, of the first, of the first two, and so on."""
    digest = hashlib.sha256()
    found = {digest.hexdigest()}
    for line in content.splitlines(keepends=True):
        digest.update(line)
        found.add(digest.hexdigest())
    return found
