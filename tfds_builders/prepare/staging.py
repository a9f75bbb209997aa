"""The folder in which a preparation grows, until it is finished.

It lies beside its target and is called `<version>.partial`. A process that prepares has
its lock; what is finished in it is found again after a stop.
"""

from __future__ import annotations

import errno
import json
import os
from typing import IO, Any

from etils import epath
from tensorflow_datasets.core import constants, file_adapters

from tfds_builders.prepare import shards

_LOCK = "lock"


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
        for path in self.folder.glob(f"*{shards.TEMPORARY}"):
            path.unlink()

    def path(self, shard: int) -> epath.Path:
        """The file with the records of a shard."""
        return self.folder / f"{shard:05d}.{self.file_format.file_suffix}"

    def is_finished(self, shard: int) -> bool:
        """Whether the shard and its report are there, and whole."""
        if not shards.report_path(self.path(shard)).exists():
            return False
        try:
            size, file = self.report(shard).bytes, self.path(shard)
        except (ValueError, LookupError, TypeError, AttributeError):
            return False  # Empty or cut short, by a crash of the machine, say.
        return not size or (file.exists() and file.stat().length == size)

    def report(self, shard: int) -> shards.Report:
        """What became of a finished shard."""
        content = shards.report_path(self.path(shard)).read_text()
        return shards.Report.from_json(json.loads(content))

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
        shards.report_path(self.path(shard)).unlink(missing_ok=True)

    def release(self) -> None:
        """Lets another process resume this preparation."""
        if self._lock is not None:
            self._lock.close()

    def remove(self) -> None:
        """Deletes the folder and all it holds."""
        self._root.rmtree(missing_ok=True)
        self.release()


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
