"""Stops the command on SIGTERM or Ctrl-C where nothing is lost, to go on later.

Everything but the steps of a run is cut short at once, since what is on disk is whole
at any time. Within `held` the end waits until `is_asked` was found true and what was
done is saved. A second signal ends the process.

Of several processes (`jax.distributed`) any one may get the signal. JAX tells the
others and agrees with them on a call of `is_asked`, the same on all, from which it is
true.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

EXIT_CODE = os.EX_TEMPFAIL  # 75: try again later
_LOG = logging.getLogger(__name__)


class Preempted(BaseException):
    """The command was asked to stop; no error, so `except Exception` lets it pass."""

    def __init__(self, done: str = "") -> None:
        """`done` says what is saved, where that is more than what lay there before."""
        saved = f" {done} is saved." if done else ""
        super().__init__(f"Stopped.{saved} The same command goes on from here.")

    def leave(self) -> NoReturn:
        """Says so and ends the process, by a code on which schedulers start it again.

        At once: Python's own end crashes where JAX was cut short while it compiled.
        """
        if jax.distributed.is_initialized():
            jax.distributed.shutdown()  # Else the other processes take this for a loss.
        sys.stderr.write(f"{self}\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_CODE)


@dataclasses.dataclass
class _Request:
    """What this process knows of a wish to stop it."""

    listening: bool = False  # to signals
    asked: bool = False  # by a signal, or by agreement of all processes
    held: bool = False
    calls: int = 0  # of `is_asked`: as many on every process


_request = _Request()


def listen() -> None:
    """Lets SIGTERM and Ctrl-C ask this process to stop; for the main thread.

    A later `jax.distributed.initialize` puts JAX's handler of SIGTERM in place of ours.
    Ctrl-C stays ignored where it was, as it is for what a shell does in the background.
    """
    _request.listening = True
    signal.signal(signal.SIGTERM, _on_signal)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _on_signal)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within, nothing is cut short: `is_asked` must be looked at."""
    _request.held = True
    try:
        yield
    finally:
        _request.held = False


def is_asked() -> bool:
    """Whether to save what was done, and stop.

    Every process must call this equally often; several then get the same answer, which
    asks nothing of the devices or the network: it takes about a microsecond.
    """
    if not _request.asked and jax.distributed.is_initialized():
        _request.calls += 1
        _request.asked = multihost_utils.reached_preemption_sync_point(_request.calls)
        if _request.asked and _request.listening:
            _end_at_next_signal()
    return _request.asked


def check() -> None:
    """Stops here if asked to, unless within `held`; counts as a call of `is_asked`.

    Raises:
      Preempted: If so.
    """
    if is_asked() and not _request.held:
        raise Preempted


def _on_signal(number: int, _: Any) -> None:
    if jax.distributed.is_initialized():
        # Ctrl-C, or a SIGTERM from just before: JAX knows of neither.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
        return
    _end_at_next_signal()
    _request.asked = True
    name = signal.Signals(number).name
    _LOG.info("%s: stopping where nothing is lost; a second one ends at once.", name)
    if not _request.held:
        raise Preempted


def _end_at_next_signal() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
