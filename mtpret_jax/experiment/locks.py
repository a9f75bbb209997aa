"""Locks between processes that share a work folder: one works on a thing at a time.

A lock is the operating system's, on a file `lock` that stays. It ends with the process
that holds it, so that another process can resume what a killed one left.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import filelock
import jax
from etils import epath

POLL = 2.0  # seconds between two looks at a lock


def take(folder: epath.Path) -> filelock.AcquireReturnProxy | None:
    """Locks a folder, made when missing; None if another process holds its lock.

    Returns:
      A context manager that releases the lock on exit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _lock(folder).acquire(timeout=0)
    except filelock.Timeout:
        return None


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
    """Waits for the lock of a folder and holds it.

    In a program of several processes the first one does; the others do not wait.
    """
    if jax.process_index() != 0:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder).acquire(poll_interval=POLL):
        yield


def is_held(folder: epath.Path) -> bool:
    """Whether a process holds the lock of a folder."""
    if not (folder / "lock").exists():
        return False
    taken = take(folder)
    if taken is not None:
        taken.lock.release()
    return taken is None


def _lock(folder: epath.Path) -> filelock.BaseFileLock:
    # Not of a thread: whichever thread is last may release it.
    return filelock.FileLock(os.fspath(folder / "lock"), thread_local=False)
