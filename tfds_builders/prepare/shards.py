"""One file of examples: written whole or not at all, and found again after a stop.

A set is prepared shard by shard in a folder beside its target, see `staging`. A shard
is two files there: the records, and beside them what the reports say about them. The
second is written last, so a shard that has both is finished.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from array_record.python import (
    array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
)
from etils import epath
from tensorflow_datasets.core import file_adapters

from tfds_builders import prepared
from tfds_builders.prepare import records, statistics

TEMPORARY = ".tmp"
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
    row: prepared.NewRow
    tally: statistics.Tally


# Loads and encodes a record of a split with this name.
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
    rows: Sequence[prepared.NewRow]
    quarantined: Sequence[records.Quarantined]
    tally: statistics.Tally

    def to_json(self) -> str:
        """The report as text."""
        return json.dumps(vars(self), default=vars)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Undoes `to_json`."""
        values = json.loads(text)
        quarantined = [records.Quarantined(**one) for one in values["quarantined"]]
        tally = statistics.Tally(values["tally"])
        return cls(**{**values, "quarantined": quarantined, "tally": tally})


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


def write(
    path: epath.Path,
    shard: Shard,
    encode: Encode,
    *,
    file_format: file_adapters.FileFormat,
    done: Callable[[], object] = lambda: None,
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
    rows: list[prepared.NewRow] = []
    quarantined: list[records.Quarantined] = []
    tally, digest = statistics.Tally(), hashlib.sha256()
    encode_one = functools.partial(encode, shard.split)

    def examples() -> Iterator[tuple[int, bytes]]:
        for result in _in_order(encode_one, shard.records, pool, look_ahead):
            if isinstance(result, records.Quarantined):
                quarantined.append(result)
            else:
                yield len(rows), result.example
                digest.update(len(result.example).to_bytes(8, "little"))
                digest.update(result.example)
                rows.append(result.row)
                tally.update(result.tally)
            done()

    with whole_file(path) as unfinished:
        try:
            write_records(unfinished, examples(), file_format)
        except RuntimeError as error:  # So ArrayRecord tells of a full disk.
            raise OSError(f"{path}: cannot be written: {error}") from error
    size = path.stat().length
    if not rows:
        path.unlink()
        size = 0
    report = Report(size, digest.hexdigest(), rows, quarantined, tally)
    with whole_file(report_path(path)) as unfinished:
        unfinished.write_text(report.to_json())


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


def report_path(path: epath.Path) -> epath.Path:
    """Where the report on a shard goes; `path` is that of its records."""
    return path.with_suffix(".json")


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
    try:
        for record in found:
            waiting.append(pool.submit(encode, record))
            if len(waiting) >= look_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextlib.contextmanager
def whole_file(path: epath.Path) -> Iterator[epath.Path]:
    """Yields a name to write to, which becomes `path` if all goes well."""
    # Another name each time: Beam may write one shard twice at once.
    unfinished = path.parent / f"{path.name}.{uuid.uuid4().hex}{TEMPORARY}"
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
