"""Digests of what a prepared set depends on; another digest, another set."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from tfds_builders.prepare import records
from tfds_builders.sources import files

_END = 4096  # bytes read at either end of a file
_THREADS = 16  # they wait for disks and networks, not for cores
_AT_ONCE = 256  # files of one task; tasks of all files would fill the memory


def of_records(found: Mapping[str, Sequence[records.Record]]) -> str:
    """A digest of all records of all splits with everything that is known of them."""
    result = hashlib.sha256()
    for split, part in found.items():
        result.update(split.encode())
        for record in part:
            result.update(b"\0".join(_parts(record)))
    return result.hexdigest()


def of_code(builder: type) -> str:
    """A digest of the code of this package, and of a builder beside its own."""
    package = epath.Path(__file__).parents[1]
    rooms = ("", "images", "sources", "prepare", "releases")
    found = [path for room in rooms for path in (package / room).glob("*.py")]
    module = sys.modules[builder.__module__]
    file = getattr(module, "__file__", None)  # None in a notebook
    if file is not None:
        own = epath.Path(file)
        found += own.parent.glob("*.py") if module.__package__ else [own]
    result = hashlib.sha256()
    for path in sorted(found):
        result.update(path.read_bytes())
    return result.hexdigest()


def of_texts(*parts: str) -> str:
    """A digest of texts in their order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def of_file(path: epath.Path) -> str:
    """The SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_files(
    listing: files.Listing, *, is_whole: Callable[[str, int], bool] | None = None
) -> str:
    """A digest of the files below a folder: their names, sizes and both ends.

    It depends neither on the machine nor on where the folder lies, nor on times. Of a
    file, the first and last 4 KiB are read: there are the headers of every format, and
    the checksum over all pixels with which PNG ends. A change in the middle of another
    file that keeps its size and both ends goes unnoticed, such as a few pixels of an
    uncompressed DICOM, TIFF or BMP.

    Args:
      listing: The files.
      is_whole: Whether a file is read whole, by its path below the folder and its
        size in bytes; None for no file.

    Raises:
      files.SourceLost: If a listed file has vanished or may not be read.
      FileNotFoundError: The same of a file that is read whole.
      ValueError: If one that is read whole may not be read.
    """

    def of_some(some: Sequence[tuple[str, int]]) -> list[bytes]:
        return [of_one(name, size) for name, size in some]

    def of_one(name: str, size: int) -> bytes:
        if size < 0:
            return b""
        path = listing.root / name
        if is_whole is not None and is_whole(name, size):
            content = files.read(path)
        else:
            content = _ends(path, size)
        return hashlib.sha256(content).digest()

    result = hashlib.sha256()
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(of_some, _batches(listing.sizes.items(), _AT_ONCE))
        contents = itertools.chain.from_iterable(found)
        for (name, size), content in zip(listing.sizes.items(), contents, strict=True):
            result.update(f"{name}\0{size}\n".encode())
            result.update(content)
    return result.hexdigest()


def of_state(listing: files.Listing) -> str:
    """A digest of the files below a folder that opens none: names, sizes and times.

    While it is the same, so is what `of_files` gives, unless somebody set clocks back;
    where it differs, after a copy say, `of_files` knows. Times are those of content and
    of inodes, in nanoseconds.

    Returns:
      "" where the folder is in a bucket, which has no such times.

    Raises:
      FileNotFoundError: If a listed file has vanished.
    """
    root = os.fspath(listing.root)
    if "://" in root:
        return ""
    result = hashlib.sha256()
    for name in listing.sizes:
        found = os.lstat(os.path.join(root, name))
        if stat.S_ISLNK(found.st_mode) and listing.holds(name):
            found = os.stat(os.path.join(root, name))
        told = f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ctime_ns}\n"
        result.update(told.encode())
    return result.hexdigest()


def _batches(
    items: Iterable[tuple[str, int]], size: int
) -> Iterator[list[tuple[str, int]]]:
    """Yields lists of `size` items, or fewer at the end."""
    left = iter(items)
    while batch := list(itertools.islice(left, size)):
        yield batch


def _ends(path: epath.Path, size: int) -> bytes:
    """The first and last bytes of a file; all of a small one."""
    try:
        with path.open("rb") as file:
            if size <= 2 * _END:
                return file.read(2 * _END)
            start = file.read(_END)
            file.seek(size - _END)
            return start + file.read(_END)
    except OSError as error:
        raise files.SourceLost(
            f"{os.fspath(path)!r} was listed but cannot be read: {error.strerror}. See "
            "that its disk is there and that it may be read, or take it away."
        ) from error


def _parts(value: Any) -> Iterator[bytes]:
    """Yields bytes that are the same for equal values in every process."""
    if dataclasses.is_dataclass(value):
        yield type(value).__qualname__.encode()
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield f"{value.dtype.str}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        yield f"{{{len(value)}".encode()
        for key, entry in value.items():
            yield from _parts(key)
            yield from _parts(entry)
    elif isinstance(value, (list, tuple)):
        yield f"[{len(value)}".encode()
        for entry in value:
            yield from _parts(entry)
    else:
        yield repr(value).encode()
