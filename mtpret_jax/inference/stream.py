"""Many files through a network: read on threads, in batches, in order, bounded memory.

While the accelerator computes one batch, threads read the next ones. Files that cannot
be read are handed on with their reason and take no place in a batch.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from mtpret_jax.inference import model as model_lib
from mtpret_jax.inference import preprocessing
from mtpret_jax.training import sharding
from tfds_builders.images import limits

READERS = 16  # threads at most


@dataclasses.dataclass(frozen=True)
class Item:
    """A file that has been through.

    Attributes:
      file: Its path.
      radiograph: None where it could not be read.
      outputs: The network's, without the batch axis; empty where it was not read.
      problem: Why it could not be read; "" where it was.
      bare: Why it lacks DICOM objects that were asked for; "" where it has them.
    """

    file: str
    radiograph: preprocessing.Radiograph | None
    outputs: dict[str, np.ndarray]
    problem: str
    bare: str = ""


def run(
    model: model_lib.Model,
    files: Sequence[str],
    *,
    batch_size: int,
    wanted: Sequence[str] = (),
    second: Mapping[str, int] | None = None,
) -> Iterator[Item]:
    """Gives every file in order, read or not.

    Args:
      model: The network.
      files: Paths.
      batch_size: Images computed at once.
      wanted: Outputs to fetch; all of them without.
      second: What is told beside files, index of the class; others are not known.
    """
    waiting: collections.deque[tuple[list[Item], Any]] = collections.deque()
    read = _read(model, files, second or {}, ahead=2 * batch_size)
    for items in _batches(read, batch_size):
        radiographs = [item.radiograph for item in items if item.radiograph]
        outputs: Any = {}
        if radiographs:
            outputs = model.dispatch(radiographs, batch_size)
            outputs = {name: outputs[name] for name in wanted or outputs}
        waiting.append((items, outputs))
        if len(waiting) > 1:
            yield from _finish(*waiting.popleft())
    while waiting:
        yield from _finish(*waiting.popleft())


def _read(
    model: model_lib.Model,
    files: Sequence[str],
    second: Mapping[str, int],
    *,
    ahead: int,
) -> Iterator[Item]:
    """Reads files on threads, `ahead` of them at most before they are asked for."""

    def read(file: str) -> Item:
        try:
            radiograph = preprocessing.read(file, model.preparation)
            told = dataclasses.replace(radiograph, second=second.get(file, -1))
            return Item(file, told, {}, "")
        except preprocessing.ERRORS as error:
            return missed(file, error)
        except ImportError:  # A decoder that can be installed: no fault of the file.
            raise
        except Exception as error:  # Decoders raise almost anything on damaged files.
            return missed(file, ValueError(f"{type(error).__name__}: {error}"))

    pending: collections.deque[futures.Future[Item]] = collections.deque()
    threads = min(READERS, os.cpu_count() or 1)
    with futures.ThreadPoolExecutor(threads) as pool:
        try:
            for file in files:
                pending.append(pool.submit(read, file))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def missed(file: str, error: Exception) -> Item:
    """A file that cannot be read; of an operating system's message without the path."""
    text = error.strerror if isinstance(error, OSError) else str(error)
    return Item(file, None, {}, limits.printable(str(text or error)))


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items in groups with at most `size` readable ones, however few are readable."""
    group, readable = [], 0
    for item in items:
        group.append(item)
        readable += item.radiograph is not None
        if readable == size or len(group) == 4 * size:
            yield group
            group, readable = [], 0
    if group:
        yield group


def _finish(items: list[Item], outputs: Any) -> Iterator[Item]:
    outputs = sharding.fetch(outputs)
    place = 0
    for item in items:
        if item.radiograph is not None:
            row = {name: value[place] for name, value in outputs.items()}
            item = dataclasses.replace(item, outputs=row)
            place += 1
        yield item
