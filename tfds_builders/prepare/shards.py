"""One file of examples: written whole or not at all, and found again after a stop.

A set is prepared shard by shard in a folder beside its target, `<version>.partial`. A
shard is two files there: the records, and beside them what the reports say about them.
The second is written last, so a shard that has both is finished.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import pickle
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from array_record.python import (
    array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
)
from etils import epath
from tensorflow_datasets.core import constants, file_adapters

from tfds_builders.prepare import records, statistics

_LOCK = "lock"
_TEMPORARY = ".tmp"
# Pixels of X-rays are noise to a compressor: it would save a seventh of the disk and
# make a record four times as dear to read.
_ARRAY_RECORD = "group_size:1,uncompressed"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A record ready to be written, with what the reports say about it.

    Attributes:
      example: The serialized example.
      row: Row of index.csv, but for its position.
      tally: What it adds to the counts of the set.
    """

    example: bytes
    row: Mapping[str, Any]
    tally: statistics.Tally


# Of the split's name and a record.
Encode = Callable[[str, records.Record], Encoded | records.Quarantined]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of a split that goes to one file.

    Attributes:
      number: Its place among all shards of the set.
      split: Name of the split.
      records: In the order in which they are written.
    """

    number: int
    split: str
    records: Sequence[records.Record]


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a shard.

    Attributes:
      bytes: Size of its file; 0 if nothing could be read and there is none.
      sha256: Digest of its examples, whatever file they are in.
      rows: A row of index.csv for each example, but for its position.
      quarantined: Files that could not be read.
      tally: Counts of the shard.
    """

    bytes: int
    sha256: str
    rows: Sequence[Mapping[str, Any]]
    quarantined: Sequence[records.Quarantined]
    tally: statistics.Tally


def plan(
    found: Mapping[str, Sequence[records.Record]], *, size: int
) -> Sequence[Shard]:
    """Shares the records of each split out to shards of `size` images or fewer."""
    parts = [
        (split, list_[start : start + size])
        for split, list_ in found.items()
        for start in range(0, len(list_), size)
    ]
    return [Shard(number, split, part) for number, (split, part) in enumerate(parts)]


class Staging:
    """The folder in which a preparation grows, until it is finished.

    Attributes:
      folder: Holds the shards of the preparation with this key; those with another
        key are deleted.
      file_format: Format of the files with records.
    """

    def __init__(
        self,
        target: epath.Path,
        *,
        key: str,
        file_format: file_adapters.FileFormat,
        keep: str = "",
    ) -> None:
        """Locks the folder; what is left of other preparations is thrown away.

        Args:
          target: Where the finished set is going to be.
          key: Digest of everything that the content of the shards depends on.
          file_format: Format of the files with records.
          keep: Name of TFDS's own unfinished folder for this target.

        Raises:
          BlockingIOError: If another process is preparing the same set.
        """
        self._root = target.parent / f"{target.name}.partial"
        self.file_format = file_format
        self.folder = self._root / key[:32]
        self._root.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._root)
        if self._lock is not None and keep and _is_overtaken(target, keep):
            self._root.rmtree()
            self._lock.close()
            raise BlockingIOError(
                errno.EAGAIN,
                "another process has just prepared this set; run the same again",
                os.fspath(target),
            )
        for path in self._root.iterdir():
            if path.name not in (self.folder.name, _LOCK):
                path.rmtree()
        if self._lock is not None:
            # TFDS leaves folders behind when it is killed; nobody else is at work here.
            name = f"{constants.INCOMPLETE_PREFIX}*_{target.name}"
            for path in target.parent.glob(name):
                if path.name != keep:
                    path.rmtree()
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.glob(f"*{_TEMPORARY}"):
            path.unlink()

    def path(self, shard: int) -> epath.Path:
        """The file with the records of a shard."""
        return self.folder / f"{shard:05d}.{self.file_format.file_suffix}"

    def is_finished(self, shard: int) -> bool:
        """Whether the shard and its report are there, and whole."""
        if not _report_path(self.path(shard)).exists():
            return False
        try:
            size, file = self.report(shard).bytes, self.path(shard)
        except (ValueError, LookupError, TypeError, AttributeError):
            return False  # Empty or cut short, by a crash of the machine, say.
        return not size or (file.exists() and file.stat().length == size)

    def report(self, shard: int) -> Report:
        """What became of a finished shard."""
        values = json.loads(_report_path(self.path(shard)).read_text())
        return Report(
            bytes=values["bytes"],
            sha256=values["sha256"],
            rows=values["rows"],
            quarantined=[records.Quarantined(*pair) for pair in values["quarantined"]],
            tally=statistics.Tally.from_json(values["tally"]),
        )

    def save_plan(self, shard: Shard) -> None:
        """Puts a shard's records beside it, for another machine to write it."""
        with _whole_file(_plan_path(self.path(shard.number))) as unfinished:
            unfinished.write_bytes(pickle.dumps(shard))

    def place(self, shard: int, target: epath.Path) -> None:
        """Puts the records of a finished shard where they belong.

        They stay here as well, as a link where the disk knows links, so that nothing
        is lost if what comes after fails.
        """
        path = self.path(shard)
        try:
            os.link(path, target)
        except OSError:  # In a bucket, on another disk, on one without links.
            path.copy(target)

    def forget(self, shard: int) -> None:
        """Makes a shard unfinished."""
        _report_path(self.path(shard)).unlink(missing_ok=True)

    def release(self) -> None:
        """Lets another process resume this preparation."""
        if self._lock is not None:
            self._lock.close()

    def remove(self) -> None:
        """Deletes the folder and all it holds."""
        self._root.rmtree(missing_ok=True)
        self.release()


def write(
    path: epath.Path,
    shard: Shard,
    encode: Encode,
    *,
    file_format: file_adapters.FileFormat,
    done: Callable[[], Any] = lambda: None,
    pool: concurrent.futures.Executor | None = None,
    look_ahead: int = 1,
) -> None:
    """Writes a shard and its report; neither is there if it fails.

    Memory holds `look_ahead` examples, however many the shard has.

    Args:
      path: Where the records go; the report goes beside it.
      shard: What is written.
      encode: Loads and encodes a record; called on the pool.
      file_format: Format of the records.
      done: Called after each record, written or set aside.
      pool: Threads that encode; None to do so here.
      look_ahead: Records encoded but not yet written, at most.

    Raises:
      OSError: If the disk is full or the source has gone, say.
    """
    rows: list[Mapping[str, Any]] = []
    quarantined: list[records.Quarantined] = []
    tally = statistics.Tally()
    digest = hashlib.sha256()

    def examples() -> Iterator[tuple[int, bytes]]:
        for result in _in_order(
            functools.partial(encode, shard.split), shard.records, pool, look_ahead
        ):
            if isinstance(result, records.Quarantined):
                quarantined.append(result)
            else:
                yield len(rows), result.example
                digest.update(len(result.example).to_bytes(8, "little"))
                digest.update(result.example)
                rows.append(result.row)
                tally.merge(result.tally)
            done()

    with _whole_file(path) as unfinished:
        try:
            write_records(unfinished, examples(), file_format)
        except RuntimeError as error:  # So ArrayRecord tells of a full disk.
            raise OSError(f"{path}: cannot be written: {error}") from error
    size = path.stat().length
    if not rows:
        path.unlink()
        size = 0
    content = {
        "bytes": size,
        "sha256": digest.hexdigest(),
        "rows": rows,
        "quarantined": [[item.file, item.reason] for item in quarantined],
        "tally": tally.as_json(),
    }
    with _whole_file(_report_path(path)) as unfinished:
        unfinished.write_text(json.dumps(content))


def write_records(
    path: epath.Path,
    examples: Iterable[tuple[int, bytes]],
    file_format: file_adapters.FileFormat,
) -> None:
    """Writes numbered examples to a file, in their order."""
    if file_format is not file_adapters.FileFormat.ARRAY_RECORD:
        adapter = file_adapters.ADAPTER_FOR_FORMAT[file_format]
        adapter.write_examples(path, examples)
        return
    writer = array_record_module.ArrayRecordWriter(os.fspath(path), _ARRAY_RECORD)
    for _, example in examples:
        writer.write(example)
    writer.close()


def load_plan(path: epath.Path) -> Shard:
    """Reads what `save_plan` wrote.

    Args:
      path: Where the records of the shard go.
    """
    return pickle.loads(_plan_path(path).read_bytes())


def _report_path(path: epath.Path) -> epath.Path:
    return path.with_suffix(".json")


def _plan_path(path: epath.Path) -> epath.Path:
    return path.with_suffix(".pickle")


def _in_order(
    encode: Callable[[records.Record], Encoded | records.Quarantined],
    found: Sequence[records.Record],
    pool: concurrent.futures.Executor | None,
    look_ahead: int,
) -> Iterator[Encoded | records.Quarantined]:
    """Encodes on a pool, a bounded number ahead, and keeps the order."""
    if pool is None:
        yield from map(encode, found)
        return
    waiting: collections.deque[
        concurrent.futures.Future[Encoded | records.Quarantined]
    ] = collections.deque()
    upcoming = iter(found)
    try:
        while True:
            for record in upcoming:
                waiting.append(pool.submit(encode, record))
                if len(waiting) >= look_ahead:
                    break
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextlib.contextmanager
def _whole_file(path: epath.Path) -> Iterator[epath.Path]:
    """Yields a name to write to, which becomes `path` if all goes well."""
    unfinished = path.parent / f"{path.name}.{uuid.uuid4().hex}{_TEMPORARY}"
    try:
        if "://" in os.fspath(path):  # Libraries that write records know no buckets.
            with tempfile.TemporaryDirectory() as folder:
                local = epath.Path(folder) / path.name
                yield local
                local.copy(unfinished)
        else:
            yield unfinished
            with unfinished.open("ab") as file:
                os.fsync(file.fileno())  # Or a crash leaves a name without content.
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _is_overtaken(target: epath.Path, keep: str) -> bool:
    """Whether another process made a set after this one had begun to."""
    mine = target.parent / keep
    if not mine.exists():  # Who had the lock took it for one of the dead.
        return True
    return target.exists() and os.stat(target).st_mtime_ns > os.stat(mine).st_mtime_ns


def _lock(folder: epath.Path) -> IO[Any] | None:
    """Holds a lock on a folder until the file is closed or the process ends.

    Returns:
      None where there is no such thing: buckets, and systems without POSIX locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    if "://" in os.fspath(folder):
        return None
    file = (folder / _LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise BlockingIOError(
            error.errno,
            "another process is preparing this set; wait until it is done",
            os.fspath(folder),
        ) from error
    return file
