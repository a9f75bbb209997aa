"""Files that are whole or not there, each with its digest, which reading compares.

A folder's digests are lines of its `SHA256SUMS`, as `sha256sum` writes them. A file
that is written again has several lines, the last one its own: a line is added before
the file takes its place, so that a kill in between leaves a file that is known. What is
in no line is of a version before digests, and is read with a warning.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
from etils import epath

SUMS = "SHA256SUMS"
AGAIN = "Restore it from a copy, or do again what made it."
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_QUOTED = re.compile("|".join(map(os.strerror, _FULL)), re.IGNORECASE)
_CHUNK = 1 << 20  # bytes
_LOG = logging.getLogger(__name__)
_told: set[str] = set()
PathLike = str | os.PathLike[str]


class DamagedError(ValueError):
    """A file is not as it was written; the message says which, and what to do."""


def write(path: PathLike, content: bytes | str) -> None:
    """Writes a file, and its digest beside it: a kill or a crash leaves old or new.

    Raises:
      OSError: If there is no room, or it may not be written; it names the file.
    """
    path = epath.Path(path)
    if isinstance(content, str):
        content = content.encode()
    with telling(path):
        note(path.parent, {path.name: hashlib.sha256(content).hexdigest()})
    place(path, content)


def place(path: PathLike, content: bytes) -> None:
    """The same without a digest."""
    with placing(path) as file:
        file.write(content)


@contextlib.contextmanager
def placing(path: PathLike) -> Iterator[IO[bytes]]:
    """An open file that takes the place of `path` in the end, without a digest."""
    path = epath.Path(path)
    new = path.with_name(f"{path.name}.new")
    with telling(path):
        with new.open("wb") as file:
            yield file
            _sync(file)
        new.replace(path)
        sync_folder(path.parent)


@contextlib.contextmanager
def telling(path: PathLike) -> Iterator[None]:
    """Within, an error of writing names the file and says what to do.

    Libraries that write have errors of their own, which quote the system's.
    """
    try:
        yield
    except FileExistsError:
        raise
    except Exception as error:
        full = is_full(error)
        if not full and not isinstance(error, OSError):
            raise
        advice = "Free space there" if full else "See that it may be written"
        said = "no room is left" if full else getattr(error, "strerror", error)
        found = OSError(
            f"{os.fspath(path)} can't be written: {said}. {advice}, then give the same "
            "command again."
        )
        found.errno = errno.ENOSPC if full else None
        raise found from error


def is_full(error: BaseException) -> bool:
    """Whether an error, the system's or one that quotes it, is of a full disk."""
    number = getattr(error, "errno", None)
    return number in _FULL or _QUOTED.search(str(error)) is not None


def write_json(path: PathLike, value: Any) -> None:
    """The same with a plain value as JSON."""
    write(path, json.dumps(value, indent=1) + "\n")


def write_arrays(path: PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """The same with named arrays, compressed, as `np.load` reads them."""
    content, named = io.BytesIO(), dict(arrays)
    np.savez_compressed(content, **named)  # pyright: ignore[reportArgumentType]
    write(path, content.getvalue())


def read(path: PathLike, advice: str = AGAIN) -> bytes:
    """The content of a file, as it was written.

    Args:
      path: The file.
      advice: What to do if it is missing or damaged: a sentence.

    Raises:
      FileNotFoundError: If there is no such file.
      DamagedError: If its digest is not the one that was kept.
    """
    path = epath.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{os.fspath(path)} is missing. {advice}")
    content = path.read_bytes()
    compare(path, hashlib.sha256(content).hexdigest(), advice)
    return content


def read_json(
    path: PathLike, entries: Sequence[str] = (), *, advice: str = AGAIN
) -> dict[str, Any]:
    """A JSON file that holds a table; `read` says the rest.

    Args:
      path: The file.
      entries: That the table must have.
      advice: What to do if it has not, or is damaged: a sentence.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is damaged, holds something else, or lacks an entry.
    """
    where, content = os.fspath(path), read(path, advice)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where}: damaged, not JSON ({error}). {advice}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected a table, got {str(value)[:40]}. {advice}")
    if missing := [name for name in entries if name not in value]:
        raise ValueError(f"{where}: it lacks {', '.join(missing)}. {advice}")
    return value


def read_arrays(path: PathLike, advice: str = AGAIN) -> dict[str, np.ndarray]:
    """The named arrays of a file that `write_arrays` wrote; `read` says the rest."""
    content = read(path, advice)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # NumPy raises almost anything on damaged archives.
        raise DamagedError(
            f"{os.fspath(path)}: damaged, not arrays ({error}). {advice}"
        ) from error


def compare(
    path: PathLike, digest: str, advice: str = AGAIN, *, old: bool = False
) -> None:
    """Compares a file's digest with what was kept of it, or says that nothing was.

    Args:
      path: The file.
      digest: Its SHA-256.
      advice: What to do if it is damaged: a sentence.
      old: Whether it may be as it was at any time before.

    Raises:
      DamagedError: If it is another.
    """
    path = epath.Path(path)
    for folder in path.parents[:3]:
        known = digests(folder).get(path.relative_to(folder).as_posix())
        if known is None:
            continue
        if digest not in (known if old else known[-2:]):
            raise DamagedError(
                f"{os.fspath(path)}: damaged, its SHA-256 is not the one in {SUMS} of "
                f"{os.fspath(folder)}. {advice}"
            )
        return
    _tell(path)


def is_regular(path: PathLike) -> bool:
    """Whether a path, or what it links to, is a file whose reading comes to an end.

    Raises:
      OSError: If there is no such file.
    """
    return stat.S_ISREG(os.stat(path).st_mode)


def seal(folder: PathLike) -> None:
    """Keeps the digests of all files below a folder, which are then on disk, too."""
    folder = epath.Path(folder)
    found = {}
    for path in _sync_all(folder):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = of_stream(file)
    (folder / SUMS).unlink(missing_ok=True)
    note(folder, found)
    sync_folder(folder)


def check(folder: PathLike, advice: str = AGAIN, *, more: bool = False) -> None:
    """Compares all files below a folder with what `seal` kept of them.

    Args:
      folder: That was sealed.
      advice: What to do if a file is missing or damaged: a sentence.
      more: Whether files may lie there that were made later.

    Raises:
      FileNotFoundError: If one is missing.
      DamagedError: If one is not as it was, or new.
    """
    folder = epath.Path(folder)
    known = digests(folder)
    if not (folder / SUMS).exists():
        _tell(folder)
        return
    for path in () if more else _below(folder):
        if path.relative_to(folder).as_posix() not in known:
            raise DamagedError(
                f"{os.fspath(path)}: {SUMS} of {os.fspath(folder)} does not know it; "
                f"one of the two is damaged. {advice}"
            )
    for name, wanted in known.items():
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(f"{os.fspath(path)} is missing. {advice}")
        with path.open("rb") as file:
            if of_stream(file) not in wanted:
                raise DamagedError(
                    f"{os.fspath(path)}: damaged, its SHA-256 is not the one in "
                    f"{SUMS} of {os.fspath(folder)}. {advice}"
                )


def digests(folder: PathLike) -> dict[str, list[str]]:
    """What was kept of the files of a folder, by name; nothing in older ones.

    Of a file that was written again the newest comes last.
    """
    path = epath.Path(folder) / SUMS
    found: dict[str, list[str]] = {}
    if path.exists():
        for line in path.read_bytes().decode(errors="replace").split("\n"):
            if match := _LINE.fullmatch(line):  # Else a kill cut it short.
                found.setdefault(match[2], []).append(match[1])
    return found


def note(folder: PathLike, found: Mapping[str, str]) -> None:
    """Adds lines to a folder's digests, of files by their names below it."""
    path = epath.Path(folder) / SUMS
    # At once, since others may add theirs; what a kill cut short ends here.
    lines = "".join(f"\n{digest}  {name}" for name, digest in found.items())
    old = path.read_text() if path.exists() else ""
    if "://" in os.fspath(path):  # Buckets add to no file.
        path.write_text(f"{old.rstrip()}{lines}\n".lstrip("\n"))
        return
    with path.open("a") as file:
        file.write(f"{lines}\n" if old and not old.endswith("\n") else lines[1:] + "\n")
        _sync(file)


def of_stream(file: Any) -> str:
    """The SHA-256 of an open file, read piece by piece."""
    digest = hashlib.sha256()
    while piece := file.read(_CHUNK):
        digest.update(piece)
    return digest.hexdigest()


def sync_folder(folder: PathLike) -> None:
    """Returns when the names in a folder are on disk; buckets have no such thing."""
    if "://" in os.fspath(folder):
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync(folder: PathLike) -> None:
    """Returns when all files below a folder, and their names, are on disk."""
    for _ in _sync_all(epath.Path(folder)):
        pass


def _sync_all(folder: epath.Path) -> Iterator[epath.Path]:
    """Yields each file below a folder that is not a list of digests, once on disk."""
    parents = {folder}
    for path in _below(folder):
        parents.update(path.parents[: len(path.relative_to(folder).parts)])
        with path.open("rb") as file:
            _sync(file)
        yield path
    for parent in parents:
        sync_folder(parent)


def _below(folder: epath.Path) -> Iterator[epath.Path]:
    """Each file below a folder that is not a list of digests."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _below(path)
        elif path.name != SUMS:
            yield path


def _sync(file: Any) -> None:
    """Returns when what was written to an open file is on disk."""
    if hasattr(file, "fileno"):
        file.flush() if file.writable() else None
        os.fsync(file.fileno())


def _tell(path: epath.Path) -> None:
    """Says once of a process that what it reads has no digest."""
    folder = os.fspath(path.parent) if (path.parent / SUMS).exists() else ""
    if folder not in _told:
        _told.add(folder)
        _LOG.warning(
            "%s is read unchecked: no %s knows it%s.",
            os.fspath(path),
            SUMS,
            "" if folder else ", as before digests were kept; others may be, too",
        )
