"""Locks: one holder at a time, whoever dies, sleeps or comes late."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from etils import epath

from mtpret_jax.experiment import claims

REPOSITORY = pathlib.Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path) -> epath.Path:
    return epath.Path(tmp_path) / "run"


class Clock:
    """Seconds that pass when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def write_lock(folder: epath.Path, number: int, **changes) -> epath.Path:
    """The lock of a process elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"lock.{number}"
    path.write_text(json.dumps(claims._holder() | {"machine": "another"} | changes))
    return path


HOLDER = """
import sys, time
from etils import epath
from mtpret_jax.experiment import claims
claim = claims.take(epath.Path(sys.argv[1]), claims.Watch())
print("holds" if claim else "refused", flush=True)
time.sleep(600)
"""


@pytest.fixture
def start_holder(folder):
    """Starts a process that takes the lock and keeps it."""
    started = []

    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "holds\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def _taken(folder, watch: claims.Watch) -> claims.Claim:
    """A claim that is there to be had."""
    claim = claims.take(folder, watch)
    assert claim is not None
    return claim


@pytest.mark.smoke
def test_a_lock_has_one_holder_until_it_is_released(folder):
    watch = claims.Watch()

    with _taken(folder, watch) as claim:
        claim.check()
        assert claims.is_held(folder)
        assert claims.take(folder, watch) is None
    assert not claims.is_held(folder)

    with _taken(folder, watch) as claim:
        claim.check()


def test_a_killed_holder_s_lock_is_taken_at_once_and_a_stopped_one_s_never(
    folder, start_holder, monkeypatch
):
    process, watch = start_holder(), claims.Watch()
    monkeypatch.setattr(claims, "PATIENCE", -1.0)

    process.send_signal(signal.SIGSTOP)
    assert claims.take(folder, watch) is None
    process.kill()
    while claims._began(process.pid) is not None:  # Its parent has not asked yet.
        time.sleep(0.01)
    claim = claims.take(folder, watch)

    assert claim is not None
    claim.release()


@pytest.mark.smoke
def test_another_process_of_the_same_number_is_not_the_holder(folder):
    here = {"machine": claims._machine(), "process": os.getpid()}
    write_lock(folder, 1, **here, began="long ago")

    claim = claims.take(folder, claims.Watch())

    assert claim is not None
    claim.release()


@pytest.mark.smoke
def test_a_holder_elsewhere_keeps_its_lock_while_it_shows_signs_of_life(folder):
    """Its clock may be wrong by years: only changes count."""
    clock = Clock()
    watch, path = claims.Watch(clock), write_lock(folder, 1)
    for beat in range(5):
        os.utime(path, (beat, beat))
        assert claims.take(folder, watch) is None
        clock.now += claims.PATIENCE
        assert claims.take(folder, watch) is None
    clock.now += 1.0

    claim = claims.take(folder, watch)

    assert claim is not None
    claim.release()


@pytest.mark.smoke
def test_a_holder_shows_signs_of_life(folder, monkeypatch):
    monkeypatch.setattr(claims, "REFRESH", 0.01)

    with _taken(folder, claims.Watch()):
        path = folder / "lock.1"
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 10
        while os.stat(path).st_mtime < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.smoke
def test_a_lock_that_is_being_written_is_held(folder):
    folder.mkdir()
    (folder / "lock.1").touch()
    now = 0.0
    watch = claims.Watch(clock=lambda: now)

    assert claims.take(folder, watch) is None
    now = claims.WRITING + 1  # Its writer, or the machine, has died.
    taken = claims.take(folder, watch)
    assert taken is not None
    taken.release()


@pytest.mark.smoke
def test_whoever_was_taken_over_must_not_go_on(folder, monkeypatch):
    claim = claims.take(folder, claims.Watch())
    claim.check()
    write_lock(folder, 2)
    monkeypatch.setattr(claims, "REFRESH", -1.0)  # As after a long pause.

    with pytest.raises(claims.LostError, match=r"lock\.1 was taken over"):
        claim.check()
    claim.release()

    assert claims.is_held(folder)  # By the other.


@pytest.mark.smoke
def test_who_comes_late_to_a_dead_lock_does_not_take_a_live_one(folder, monkeypatch):
    """Both find the same lock dead; one is slow between its look and its move."""
    write_lock(folder, 1, released=True)
    fast = claims.take(folder, claims.Watch())
    monkeypatch.setattr(claims, "_newest", lambda folder: 1)  # What the slow one saw.

    assert claims.take(folder, claims.Watch()) is None
    fast.check()
    fast.release()
    assert claims.take(folder, claims.Watch()) is None  # Looks again, then takes.


def test_of_many_who_try_at_once_one_gets_the_lock(folder):
    """Each round all try for a released lock, at the same time."""
    together, taken = threading.Barrier(8), []

    def try_it():
        for _ in range(30):
            together.wait()
            claim = claims.take(folder, claims.Watch())
            if claim is not None:
                taken.append(claim)
            together.wait()
            if claim is not None:
                claim.release()

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == 30
    assert len(list(folder.iterdir())) == 30


def test_the_start_is_made_by_one_after_the_other(folder, monkeypatch):
    monkeypatch.setattr(claims, "POLL", 0.01)
    inside, most = [], []

    def enter():
        with claims.alone(folder):
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
