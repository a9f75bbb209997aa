"""The folder in which a preparation grows, until it is finished.

It lies beside its target and is called `<version>.partial`. A process that prepares has
its lock; what is finished in it is found again after a stop.
"""

from __future__ import annotations

import errno
import os

import filelock
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
        self.file_format = file_format
        self._root = target.parent / f"{target.name}.partial"
        self.folder = self._root / key[:32]
        self._root.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._root)
        left = [
            path
            for path in self._root.iterdir()
            if path.name not in (self.folder.name, _LOCK)
        ]
        if self._lock is not None:
            # The set is there now, or who made it took mine for one of the dead.
            is_late = target.exists() or not (target.parent / keep).exists()
            if keep and is_late:
                self.remove()
                raise _busy("another process has just prepared this set", target)
            # TFDS leaves folders behind when it is killed; nobody else is at work here.
            name = f"{constants.INCOMPLETE_PREFIX}*_{target.name}"
            left += [path for path in target.parent.glob(name) if path.name != keep]
        for path in left:
            path.rmtree()
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.glob(f"*{shards.TEMPORARY}"):
            path.unlink()

    def path(self, shard: int) -> epath.Path:
        """The file with the records of a shard."""
        return self.folder / f"{shard:05d}.{self.file_format.file_suffix}"

    def is_finished(self, shard: int) -> bool:
        """Whether the shard and its report are there, and whole."""
        try:
            size, file = self.report(shard).bytes, self.path(shard)
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            return False  # Absent, empty or cut short, by a crash of the machine, say.
        return not size or (file.exists() and file.stat().length == size)

    def report(self, shard: int) -> shards.Report:
        """What became of a finished shard."""
        return shards.Report.from_json(shards.report_path(self.path(shard)).read_text())

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
            self._lock.release()

    def remove(self) -> None:
        """Deletes the folder and all it holds."""
        self._root.rmtree(missing_ok=True)
        self.release()


def _busy(reason: str, path: epath.Path) -> BlockingIOError:
    said = f"{reason}; wait until it is done, then run the same again"
    return BlockingIOError(errno.EAGAIN, said, os.fspath(path))


def _lock(folder: epath.Path) -> filelock.FileLock | None:
    """Locks a folder until the process ends; buckets have no such thing."""
    if "://" in os.fspath(folder):
        return None
    lock = filelock.FileLock(os.fspath(folder / _LOCK))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise _busy("another process is preparing this set", folder) from error
    return lock
