"""Which run a process does next, where several share a work folder, and time to go.

It takes the first run that has not ended, whose start is there and that no other
process does, and waits where there is none. The run of a killed process is free.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

import filelock
import jax
import numpy as np
from jax.experimental import multihost_utils

from mtpret_jax import config as schema
from mtpret_jax.config import budget
from mtpret_jax.experiment import locks, run, workshop
from mtpret_jax.study import run_record
from mtpret_jax.training import preemption
from tfds_builders import whole

_LOG = logging.getLogger(__name__)
_WAIT, _DONE, _FAILED = -1, -2, -3  # instead of the index of a run


def do_all(shop: workshop.Workshop) -> bool:
    """Does, with others, every run that has not ended.

    A run that fails does not keep this process from those that do not need it.

    Returns:
      Whether the last one to end was another process's.

    Raises:
      Exception: What the first of the runs that failed here raised, at the end.
      preemption.Preempted: If asked to stop.
    """
    names = list(shop.config.runs)
    failures: dict[str, Exception] = {}
    waited = False
    while True:
        preemption.check()
        index, lock = _WAIT, None
        if jax.process_index() == 0:
            index, lock = _next(shop, failures)
        index = _agreed(index)
        if index == _DONE:
            return waited
        if index == _FAILED:
            first, *others = failures
            if others:
                failures[first].add_note(f"Runs that failed, too: {others}.")
            raise failures[first]
        waited = index == _WAIT
        if waited:
            time.sleep(locks.POLL)
            continue
        _do(shop, names[index], lock, failures)


def tidy(shop: workshop.Workshop) -> None:
    """Gives back what a process that died left of runs that had ended."""
    for name in shop.config.runs:
        folder = shop.run_folder(name)
        if not _has_ended(shop, name) or not (folder / "checkpoints").exists():
            continue
        if jax.process_index() == 0 and (lock := locks.take(folder)):
            with lock:
                run.give_back(shop, name)


def _do(
    shop: workshop.Workshop,
    name: str,
    lock: filelock.AcquireReturnProxy | None,
    failures: dict[str, Exception],
) -> None:
    """Does a run that this process has locked, or keeps what it raised."""
    with lock or contextlib.nullcontext():
        _LOG.info("%s; next: %s", progress(shop), name)
        try:
            run.Run(shop, name).do()
        except Exception as error:
            if jax.process_count() > 1:  # The others are not where this one is.
                raise
            if whole.is_full(error):  # No other run would get further.
                raise
            error.add_note(f"In run '{name}'.")
            failures[name] = error
            _LOG.warning("Run '%s' failed: %s", name, error)


def _agreed(index: int) -> int:
    """The first process's choice, on all."""
    if jax.process_count() == 1:
        return index
    return int(multihost_utils.broadcast_one_to_all(np.int32(index)))


def _next(
    shop: workshop.Workshop, failures: Collection[str]
) -> tuple[int, filelock.AcquireReturnProxy | None]:
    """The index of a run and its lock, or what to do instead."""
    lost, left = set(failures), False
    for index, (name, row) in enumerate(shop.config.runs.items()):
        if _has_ended(shop, name):
            continue
        if name in lost or row.init_from in lost:
            lost.add(name)
            continue
        left = True
        if row.init_from in shop.config.runs and not _has_ended(shop, row.init_from):
            continue
        lock = locks.take(shop.run_folder(name))
        if lock is None:
            continue
        if not _has_ended(shop, name):
            return index, lock
        lock.lock.release()  # It ended between the two looks.
    if left:
        return _WAIT, None
    return (_FAILED if lost else _DONE), None


def _has_ended(shop: workshop.Workshop, name: str) -> bool:
    return (shop.run_folder(name) / workshop.RECORD).exists()


def progress(shop: workshop.Workshop) -> str:
    """How many runs have ended, and about how long the others take.

    By the seconds of a step of ended runs of the same kind, or of any where there is
    none, and by the number of processes at work.
    """
    runs = shop.config.runs
    found = {name: shop.record(name) for name in runs}
    ended = {name: record for name, record in found.items() if record is not None}
    left = [name for name in runs if name not in ended]
    workers = sum(locks.is_held(shop.run_folder(name)) for name in left)
    line = f"{shop.workdir.name}: {len(ended)} of {len(runs)} runs"
    seconds = remaining_seconds(runs, ended)
    if seconds is None:
        return line
    minutes = round(seconds / max(workers, 1) / 60)
    return f"{line}, about {minutes // 60}:{minutes % 60:02} h left"


def remaining_seconds(
    runs: Mapping[str, schema.RunConfig], ended: Mapping[str, run_record.RunRecord]
) -> float | None:
    """Seconds that one process needs for the runs left; None if nothing tells.

    Args:
      runs: All runs by name.
      ended: Records of those that have ended.
    """
    rates: dict[Any, list[float]] = {}
    for name, record in ended.items():
        steps = record.steps - record.resumed_at
        if steps > 0:
            for kind in _kinds(runs[name]):
                rates.setdefault(kind, []).append(record.seconds / steps)
    left = [row for name, row in runs.items() if name not in ended]
    if left and not rates:
        return None
    total = 0.0
    for row in left:
        known = next(rates[kind] for kind in _kinds(row) if kind in rates)
        total += budget.count_steps(row) * float(np.mean(known))
    return total


def _kinds(row: schema.RunConfig) -> tuple[Any, ...]:
    """What a run is like, the closest first."""
    return (row.stage, row.tasks), row.stage, ""
