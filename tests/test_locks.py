"""Locks: one holder at a time, whoever is killed, stopped or comes late."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from etils import epath

from mtpret_jax.experiment import locks

REPOSITORY = pathlib.Path(__file__).parents[1]
HOLDER = """
import sys, time
from etils import epath
from mtpret_jax.experiment import locks
lock = locks.take(epath.Path(sys.argv[1]))
print("holds" if lock else "refused", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path) -> epath.Path:
    return epath.Path(tmp_path) / "run"


@pytest.fixture
def holder(folder):
    """A process that takes the lock and keeps it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.smoke
def test_a_lock_has_one_holder_until_it_is_released(folder):
    assert not locks.is_held(folder)
    for _ in range(2):
        taken = locks.take(folder)
        assert taken is not None
        with taken:
            assert locks.is_held(folder)
            assert locks.take(folder) is None
        assert not locks.is_held(folder)


def test_a_killed_holder_s_lock_is_taken_at_once_and_a_stopped_one_s_never(
    folder, holder
):
    holder.send_signal(signal.SIGSTOP)
    assert locks.take(folder) is None
    holder.kill()
    holder.wait()

    taken = locks.take(folder)

    assert taken is not None
    taken.lock.release()


def test_of_many_who_try_at_once_one_gets_the_lock(folder):
    """Each round all try for a released lock, at the same time."""
    together, taken = threading.Barrier(8), []

    def try_it():
        for _ in range(30):
            together.wait()
            lock = locks.take(folder)
            if lock is not None:
                taken.append(lock)
            together.wait()
            if lock is not None:
                lock.lock.release()

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == 30


def test_the_start_is_made_by_one_after_the_other(folder, monkeypatch):
    monkeypatch.setattr(locks, "POLL", 0.01)
    inside, most = [], []

    def enter():
        with locks.alone(folder):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == [1] * 5
