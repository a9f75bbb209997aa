"""Batches read ahead, by threads or by processes of their own, in one budget of memory.

All streams of a process share its readers, and only the stream that was asked last is
read ahead: what lies there of another is dropped, and read again when its turn comes.
A batch is a pure function of its index, so nothing else changes by that.

Processes are spawned, not forked. They import JAX as far as Grain does, and never start
it; signals are their parent's to obey, and they end when it does, however it ends.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import functools
import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import process
from multiprocessing import shared_memory
from typing import Any

import cv2
import grain
import numpy as np

Arrays = dict[str, np.ndarray]
# Name, type, shape and first byte of each array of a batch in a block of memory.
Layout = list[tuple[str, str, tuple[int, ...], int]]
_ALIGNMENT = 64  # bytes
_DATASETS_KEPT = 16  # by a worker: a stage of seven tasks, and their evaluations
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Ahead(Iterator[Arrays]):
    """The elements of a dataset in their order, read before they are asked for.

    Attributes:
      readers: Threads or processes that read.
      batches: Read ahead at most.
    """

    def __init__(
        self, dataset: grain.MapDataset, *, threads: int, workers: int, batches: int
    ) -> None:
        """Reads nothing yet.

        Args:
          dataset: Batches, dictionaries of arrays.
          threads: That read where there are no workers.
          workers: Processes that read; 0: threads instead.
          batches: To read ahead; at least one for each reader.
        """
        # Readers already use the cores; OpenCV's own threads would only fight them.
        cv2.setNumThreads(0)
        self.readers = workers or threads
        self.batches = max(batches, self.readers)
        self._length = len(dataset)
        self._task: _Threads | _Processes
        self._task = (
            _Processes(dataset, workers) if workers else _Threads(dataset, threads)
        )
        self._given = 0  # Index of the next batch to hand out.
        self._pending: collections.deque[Any] = collections.deque()

    def __next__(self) -> Arrays:
        _take_turn(self)
        self._fill()
        if not self._pending:
            raise StopIteration
        try:
            found = self._pending[0].result()
        except process.BrokenProcessPool as error:
            raise RuntimeError(
                "A process that reads ahead has ended, perhaps for want of memory. Set "
                "config.input.workers or config.input.buffer lower; workers=0 reads in "
                "threads."
            ) from error
        self._pending.popleft()
        self._given += 1
        self._fill()
        return found

    def _fill(self) -> None:
        while len(self._pending) < self.batches:
            index = self._given + len(self._pending)
            if index >= self._length:
                return
            self._pending.append(self._task.submit(index))

    def drop(self) -> None:
        """Forgets what was read ahead; it is read again when it is asked for."""
        while self._pending:
            self._pending.pop().cancel()

    def close(self) -> None:
        """Stops reading ahead; must not be used afterwards."""
        self.drop()
        self._length = 0
        self._task.close()


_turn: Ahead | None = None


def _take_turn(stream: Ahead) -> None:
    global _turn
    if _turn is not stream:
        if _turn is not None:
            _turn.drop()
        _turn = stream


class _Threads:
    """Reads batches of a dataset in threads."""

    def __init__(self, dataset: grain.MapDataset, count: int) -> None:
        self._dataset = dataset
        self._executor = _threads(count)

    def submit(self, index: int) -> concurrent.futures.Future[Any]:
        return self._executor.submit(self._dataset.__getitem__, index)

    def close(self) -> None:
        pass


@functools.cache
def _threads(count: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(count, "reader")


class _Processes:
    """Reads batches of a dataset in processes, and takes them over in shared memory."""

    def __init__(self, dataset: grain.MapDataset, count: int) -> None:
        self._pool = _Pool.join(count)
        content = pickle.dumps(dataset)
        # Each worker gets it from here when it reads the first of its batches.
        self._dataset = shared_memory.SharedMemory(create=True, size=len(content))
        view: Any = self._dataset.buf
        view[: len(content)] = content

    def submit(self, index: int) -> _Placed:
        return _Placed(self._pool, self._dataset.name, index)

    def close(self) -> None:
        self._dataset.close()
        self._dataset.unlink()
        self._pool.leave()


class _Pool:
    """Workers and the memory they write to, while a stream is open that needs them."""

    def __init__(self, count: int) -> None:
        self.executor = process.ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), _begin
        )
        self._count = count
        self._streams = 0
        self._blocks: dict[str, shared_memory.SharedMemory] = {}
        self._free: list[str] = []
        self._lock = threading.Lock()
        for _ in range(count):  # They start while steps are compiled.
            self.submit(os.getpid)

    @classmethod
    def join(cls, count: int) -> _Pool:
        """The one with this number of workers, for one more stream."""
        pool = _pools[count] = _pools.get(count) or cls(count)
        pool._streams += 1
        return pool

    def leave(self) -> None:
        """Ends the workers with the last stream."""
        self._streams -= 1
        if self._streams:
            return
        del _pools[self._count]
        self.executor.shutdown(cancel_futures=True)
        for name in self._free:
            self._unlink(name)

    def submit(self, call: Any, *arguments: Any) -> concurrent.futures.Future[Any]:
        """Calls something in a worker."""
        # A worker that starts inherits what is blocked: Ctrl-C is not for it.
        with _without_signals():
            return self.executor.submit(call, *arguments)

    def free_block(self) -> str:
        """A block to write to; "" where there is none yet."""
        with self._lock:
            return self._free.pop() if self._free else ""

    def release(self, name: str, instead_of: str = "") -> None:
        """Lets a block be written to again; another was too small, and is deleted."""
        with self._lock:
            if name:
                self._free.append(name)
        if instead_of not in ("", name):
            self._unlink(instead_of)

    def take(self, name: str, layout: Layout) -> Arrays:
        """Copies a batch out of its block: what was handed out must not change."""
        block = self._blocks.get(name)
        if block is None:
            block = self._blocks[name] = shared_memory.SharedMemory(name)
        return {
            key: np.ndarray(shape, dtype, block.buf, first).copy()
            for key, dtype, shape, first in layout
        }

    def _unlink(self, name: str) -> None:
        block = self._blocks.pop(name, None) or shared_memory.SharedMemory(name)
        block.close()
        block.unlink()


_pools: dict[int, _Pool] = {}  # that are open, by their number of workers


class _Placed:
    """A batch that a worker puts, or has put, into a block of shared memory."""

    def __init__(self, pool: _Pool, dataset: str, index: int) -> None:
        self._pool, self._block = pool, pool.free_block()
        self._future = pool.submit(_read, dataset, index, self._block)

    def result(self) -> Arrays:
        """Waits for it."""
        name, layout = self._future.result()
        arrays = self._pool.take(name, layout)
        self._pool.release(name, instead_of=self._block)
        return arrays

    def cancel(self) -> None:
        """Its block is free when no worker writes to it any more."""
        self._future.cancel()
        self._future.add_done_callback(self._release)

    def _release(self, future: concurrent.futures.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._pool.release(self._block)
        else:
            self._pool.release(future.result()[0], instead_of=self._block)


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """The first thing a worker does."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    cv2.setNumThreads(0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


@functools.lru_cache(maxsize=_DATASETS_KEPT)
def _dataset(name: str) -> grain.MapDataset:
    """What `_Processes` put into shared memory; in a worker."""
    block = shared_memory.SharedMemory(name)
    content: Any = block.buf
    try:
        return pickle.loads(content)
    finally:
        block.close()


@functools.lru_cache(maxsize=256)
def _attach(name: str) -> shared_memory.SharedMemory:
    return shared_memory.SharedMemory(name)


def _read(dataset: str, index: int, name: str) -> tuple[str, Layout]:
    """Reads a batch into a block; in a worker.

    Args:
      dataset: Where it lies.
      index: The batch's index.
      name: A block to write to; "", or too small a one: a new one.

    Returns:
      The name of the block, and where in it the arrays lie.
    """
    arrays: Any = _dataset(dataset)[index]
    layout: Layout = []
    size = 0
    for key, array in arrays.items():
        layout.append((key, array.dtype.str, array.shape, size))
        size += math.ceil(array.nbytes / _ALIGNMENT) * _ALIGNMENT
    block = _attach(name) if name else None
    if block is None or block.size < size:
        block = shared_memory.SharedMemory(create=True, size=size)
    for (_, dtype, shape, first), array in zip(layout, arrays.values(), strict=True):
        np.ndarray(shape, dtype, block.buf, first)[...] = array
    return block.name, layout
