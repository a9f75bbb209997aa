"""A trace of some steps of a run, for TensorBoard's profiler."""

from __future__ import annotations

import logging

import jax
from etils import epath

from mtpret_jax import types

_LOG = logging.getLogger(__name__)


def parse(text: str) -> range:
    """The steps that `first:last` means: those after step `first`, up to `last`.

    Raises:
      ValueError: If it means none.
    """
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal()) or int(first) >= int(last):
        raise ValueError(
            f"--profile={text}: expected two numbers of steps, the smaller first; "
            "100:110 traces ten steps, from the 101st on."
        )
    return range(int(first), int(last))


class Trace:
    """Begins after some step of a run and ends after another, or when it is closed."""

    def __init__(self, folder: epath.PathLike, steps: range) -> None:
        """Traces nothing yet.

        Args:
          folder: That TensorBoard is shown; a folder `plugins/profile` comes in it.
          steps: Traced are the steps that begin when so many are done; may be empty.
        """
        self._folder = epath.Path(folder)
        self._steps = steps
        self._is_on = False

    def update(self, done: int, scalars: types.Scalars) -> None:
        """Begins or ends the trace if it is time to.

        Args:
          done: Steps handed to the devices.
          scalars: Those of the last, which is waited for where a trace begins or
            ends, so that it holds whole steps.
        """
        if self._is_on == (done in self._steps):
            return
        jax.block_until_ready(scalars)
        if self._is_on:
            self.close()
        else:
            jax.profiler.start_trace(str(self._folder))
            self._is_on = True

    def close(self) -> None:
        """Ends and writes a trace that has begun."""
        if self._is_on:
            self._is_on = False
            jax.profiler.stop_trace()
            _LOG.info("Trace for TensorBoard: %s", self._folder)
