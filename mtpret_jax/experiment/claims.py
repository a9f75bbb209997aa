"""Who works on what in a folder that several processes or hosts share.

A lock is the file `lock.<n>` of the highest n in a folder. It is made by exclusive
creation, which succeeds once, on network file systems too, and is never removed:
whoever finds its holder gone makes `lock.<n + 1>`, which again only one can. So nobody
takes away a lock that was taken in the meantime, however late a look at the folder is.

A holder on this machine is gone when its process is. Any other must leave its file
untouched for `PATIENCE` seconds, by the watch of the one who waits: clocks differ.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import pathlib
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jax
from etils import epath

from tfds_builders import whole

REFRESH = 15.0  # seconds between signs of life
PATIENCE = 300.0  # seconds without one; network file systems hold back news for 60
WRITING = 10.0  # seconds for an empty one to be filled, where the disk knows no links
POLL = 2.0  # seconds between two looks at a lock
_LOG = logging.getLogger(__name__)


class LostError(RuntimeError):
    """Another process has taken over: this one seemed dead, and must not go on."""


class Claim:
    """A lock that this process holds, until `release` or its end."""

    def __init__(self, folder: epath.Path, number: int) -> None:
        """Keeps showing signs of life, from a thread."""
        self._path, self._next = _lock(folder, number), _lock(folder, number + 1)
        self._lost, self._shown = False, time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Returns if the lock is still this process's own.

        Raises:
          LostError: If it is not.
        """
        # After a pause (a suspended machine) this may come before the thread's turn.
        if abs(time.time() - self._shown) > 2 * REFRESH:
            self._show()
        if self._lost:
            raise LostError(f"{self._path} was taken over, or removed.")

    def release(self) -> None:
        """Lets others take the lock."""
        self._stop.set()
        self._thread.join()
        if self._path.exists():
            content = json.dumps({**_holder(), "released": True})
            try:
                whole.place(self._path, f"{content}\n".encode())
            except OSError as error:  # Its holder will be found gone, which is enough.
                if not whole.is_full(error):
                    raise

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _show(self) -> None:
        if self._next.exists() or not self._path.exists():
            self._lost = True
        else:
            os.utime(self._path)
            self._shown = time.time()

    def _keep(self) -> None:
        while not self._lost and not self._stop.wait(REFRESH):
            try:
                self._show()
            except OSError as error:  # `check` tries again, and raises.
                _LOG.warning("%s can't be refreshed: %s", self._path, error)


class Watch:
    """What a waiting process has seen of the locks of others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, rising."""
        self._clock = clock
        self._seen: dict[str, tuple[int, float]] = {}  # last touched, first seen so

    def is_free(self, path: epath.Path) -> bool:
        """Whether the holder of a lock has released it, or is gone."""
        try:
            text, touched = path.read_text(), os.stat(path).st_mtime_ns
        except FileNotFoundError:
            return False  # Removed by hand; looked for anew.
        try:
            holder = json.loads(text)
        except ValueError:
            holder = {}  # Just being written, unless its writer or machine died then.
        if holder.get("released"):
            return True
        if holder.get("machine") == _machine():
            return not _is_alive(holder["process"], holder["began"])
        now = self._clock()
        if self._seen.get(str(path), (None,))[0] != touched:
            self._seen[str(path)] = (touched, now)
        patience = PATIENCE if holder else WRITING
        return now - self._seen[str(path)][1] > patience


def take(folder: epath.Path, watch: Watch) -> Claim | None:
    """Takes the lock of a folder, made when missing; None if another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    number = _newest(folder)
    if number and not watch.is_free(_lock(folder, number)):
        return None
    return Claim(folder, number + 1) if _make(_lock(folder, number + 1)) else None


def _make(path: epath.Path) -> bool:
    """Makes a lock, with its content at once; False if there is one by now."""
    content = f"{json.dumps(_holder())}\n".encode()
    new = path.with_name(f"new.{uuid.uuid4().hex}")
    try:
        whole.place(new, content)
        try:
            os.link(new, path)
        except FileExistsError:
            return False
        except OSError:  # The disk knows no links.
            with whole.telling(path), open(path, "xb") as file:
                file.write(content)
    except FileExistsError:
        return False
    finally:
        new.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def alone(folder: epath.Path) -> Iterator[None]:
    """Waits for the lock of a folder and holds it.

    Of the processes of one program only the first does; the others go on at once.
    """
    watch, claim = Watch(), None
    while jax.process_index() == 0 and (claim := take(folder, watch)) is None:
        time.sleep(POLL)
    with claim or contextlib.nullcontext():
        yield


def is_held(folder: epath.Path) -> bool:
    """Whether somebody has the lock of a folder and has not released it."""
    path = _lock(folder, _newest(folder))
    return path.exists() and '"released"' not in path.read_text()


def _lock(folder: epath.Path, number: int) -> epath.Path:
    return folder / f"lock.{number}"


def _newest(folder: epath.Path) -> int:
    """The highest number of a lock; 0 where there is none."""
    if not folder.exists():
        return 0
    numbers = (path.name.removeprefix("lock.") for path in folder.iterdir())
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _holder() -> dict[str, Any]:
    """This process, so that another can tell whether it is there."""
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": os.getpid(),
        "began": _began(os.getpid()),
        "taken": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


@functools.cache
def _machine() -> str:
    """Where numbers of processes mean the same: a boot, and a container in it."""
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return f"{socket.gethostname()} {uuid.getnode():x}"


def _is_alive(process: int, began: str | None) -> bool:
    """Whether the process that began then is there, not another of its number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # Another user's.
    return _began(process) == began


def _began(process: int) -> str | None:
    """When a process of this machine began, in the system's words; None if it ended."""
    if pathlib.Path("/proc/self/stat").exists():
        try:
            text = pathlib.Path(f"/proc/{process}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # After the name, which may hold anything: state, ..., and the 20th, the start.
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    command = ["ps", "-o", "lstart=", "-p", str(process)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
