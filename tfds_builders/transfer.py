"""Fetches files over HTTP and unpacks archives, both so that they can go on.

The standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.client
import io
import pathlib
import re
import shutil
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

_BLOCK = 1 << 20  # bytes read at once
_TIMEOUT = 60.0  # seconds without a byte
_ATTEMPTS = 5  # in a row that bring nothing
_PAUSE = 2.0  # seconds before the second attempt; doubled for each further one
_SPARE = 1 << 26  # bytes left free on a disk
_GONE = (403, 404, 410)
_DROPPED = (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
)


class FetchError(Exception):
    """A file could not be fetched or unpacked; the message says what to do."""


class GoneError(FetchError):
    """There is nothing, or nobody answers, at an address."""


class Progress:
    """One line about a long piece of work, on the standard error output.

    Attributes:
      total: Bytes; 0 where unknown.
    """

    def __init__(self, label: str, total: int = 0) -> None:
        """Starts at 0; a terminal's line is rewritten, elsewhere it comes rarely."""
        self.total = total
        self._label, self._done = label, 0
        self._period = 0.5 if sys.stderr.isatty() else 30.0
        self._shown = time.monotonic()

    def add(self, size: int) -> None:
        """Counts bytes, and shows the line if it is time to."""
        self._done += size
        if time.monotonic() - self._shown >= self._period:
            self.show("\r" if sys.stderr.isatty() else "\n")

    def show(self, end: str = "\n") -> None:
        """Writes the line."""
        of = f" of {self.total / 1e6:.1f}" if self.total else ""
        sys.stderr.write(f"{self._label}: {self._done / 1e6:.1f}{of} MB{end}")
        sys.stderr.flush()
        self._shown = time.monotonic()


def download(url: str, path: pathlib.Path, *, sha256: str = "") -> str:
    """Fetches a file; what an earlier attempt brought is not fetched again.

    Args:
      url: Address, http or https.
      path: Where the file goes; it is there only when it is whole.
      sha256: What its digest must be; "" for whatever it is.

    Returns:
      Its sha256.

    Raises:
      GoneError: If the address does not lead to a file.
      FetchError: If the connection keeps breaking, the disk is full, or the file is
        not the one expected.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    progress = Progress(path.name)
    failures, have = 0, part.stat().st_size if part.exists() else 0
    progress.add(have)
    while True:
        try:
            if _continue(url, part, progress):
                break
            reason = "the connection ended early"
        except (*_DROPPED, urllib.error.URLError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise FetchError(
                    f"{url} answers {error.code} {error.reason}."
                ) from error
            reason = str(error) or type(error).__name__
        now = part.stat().st_size if part.exists() else 0
        failures = 0 if now > have else failures + 1
        have = now
        if failures >= _ATTEMPTS:
            kind = FetchError if have else GoneError
            raise kind(
                f"{url} cannot be fetched: {reason}. {have} bytes are kept; try again "
                "later, and it goes on from there."
            )
        pause = _PAUSE * 2.0 ** max(0, failures - 1)
        sys.stderr.write(f"{path.name}: {reason}; again in {pause:.0f} s\n")
        time.sleep(pause)
    progress.show()
    digest = _sha256(part)
    if sha256 and digest != sha256:
        wrong = path.with_name(f".{path.name}.wrong")
        part.replace(wrong)
        raise FetchError(
            f"{url} is not the file expected: sha256 {digest} in place of {sha256}. It "
            f"is kept as {wrong}; try again, or, if the makers released another one, "
            "unpack it by hand."
        )
    part.replace(path)
    _tag(part).unlink(missing_ok=True)
    return digest


def read(url: str) -> bytes:
    """The content of a small file.

    Raises:
      GoneError: If there is none, or nobody answers.
    """
    try:
        with _open(urllib.request.Request(url)) as answer:
            return answer.read()
    except (urllib.error.URLError, *_DROPPED) as error:
        raise GoneError(f"{url} cannot be read: {error}.") from error


def require_archive(path: pathlib.Path, url: str) -> None:
    """Removes a file that is no archive: some servers send a page for what is gone.

    Raises:
      GoneError: If it is neither a zip nor a tar.
    """
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return
    with path.open("rb") as file:
        start = file.read(40)
    path.unlink()
    raise GoneError(f"{url} leads to no archive, but to what begins with {start!r}.")


def unpack(
    archive: pathlib.Path, folder: pathlib.Path, *, inner: bool = False
) -> list[pathlib.Path]:
    """Unpacks a zip or tar into a folder; files that are there already stay.

    Those of another size are replaced, once the whole archive turned out sound.
    What macOS adds to archives is passed over.

    Args:
      archive: A zip or a tar, compressed or not.
      folder: Where its content goes.
      inner: Whether zips inside are unpacked too, where they lie, and removed.

    Returns:
      The files.

    Raises:
      FetchError: If it is damaged, holds a path that leads out of the folder, or the
        disk is full.
    """
    found, written, top = [], [], folder.resolve()
    waiting: dict[pathlib.Path, pathlib.Path] = {}
    progress = Progress(f"unpacking {archive.name}")
    try:
        for name, size, open_member in _members(archive):
            progress.add(size)
            if _is_junk(name):
                continue
            target = (top / name).resolve()
            if not target.is_relative_to(top):
                raise FetchError(f"{archive}: {name!r} leads out of the folder.")
            found.append(target)
            if target.is_file() and target.stat().st_size == size:
                continue
            part = target.with_name(f".{target.name}.part")
            written.append(part)
            _write(part, size, open_member)
            if target.exists():
                waiting[target] = part
            else:
                part.replace(target)
                written.append(target)
    # The last is an unknown way of packing, or a password.
    except (*_DAMAGED, RuntimeError) as error:
        # A tar's damage may show at its end alone.
        for path in written:
            path.unlink(missing_ok=True)
        raise FetchError(
            f"{archive} is damaged: {error}. Remove it and fetch it again."
        ) from error
    progress.show()
    for target, part in waiting.items():
        part.replace(target)
    found = list(dict.fromkeys(found))  # a tar may hold a name twice
    for path in [p for p in found if inner and p.suffix.lower() == ".zip"]:
        found.remove(path)
        found.extend(unpack(path, path.parent, inner=True))
        path.unlink()
    return found


@contextlib.contextmanager
def room(folder: pathlib.Path, needed: int) -> Iterator[None]:
    """Says what to do where a disk is too small, before and while it is written.

    Raises:
      FetchError: If so.
    """
    free = shutil.disk_usage(folder).free
    full = FetchError(
        f"The disk of {folder} is full: {needed / 1e9:.2f} GB more are needed, "
        f"{free / 1e9:.2f} GB are free. Make room, or name another --folder; what was "
        "fetched stays."
    )
    if needed + _SPARE > free:
        raise full
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full from error
        raise


def _continue(url: str, part: pathlib.Path, progress: Progress) -> bool:
    """Fetches what is missing of a file, as far as the connection holds.

    Returns:
      Whether the file is whole.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url)
    tag = _tag(part)
    if have and tag.exists():
        request.add_header("Range", f"bytes={have}-")
        # Another file under the same address is sent from its start.
        request.add_header("If-Range", tag.read_text())
    try:
        answer = _open(request)
    except urllib.error.HTTPError as error:
        if error.code in _GONE:
            raise GoneError(f"{url} is gone ({error.code} {error.reason}).") from error
        if error.code != 416:  # nothing is left to send, or the file is another
            raise
        whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if whole and int(whole[1]) == have:
            return True
        part.unlink()
        return False
    with answer:
        if answer.status != 206:
            progress.add(-have)
            have = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise FetchError(f"{url} sends another part than bytes {have} and on.")
        left = answer.headers.get("Content-Length")
        progress.total = have + int(left) if left else 0
        mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if mark and not mark.startswith("W/"):
            tag.write_text(mark)
        with (
            room(part.parent, int(left or 0)),
            part.open("ab" if have else "wb") as out,
        ):
            while block := answer.read(_BLOCK):
                out.write(block)
                have += len(block)
                progress.add(len(block))
        return not progress.total or have == progress.total


def _open(request: urllib.request.Request) -> Any:
    if urllib.parse.urlsplit(request.full_url).scheme not in ("http", "https"):
        raise FetchError(f"{request.full_url} is no http or https address.")
    request.add_header("User-Agent", "tfds_builders")
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _tag(part: pathlib.Path) -> pathlib.Path:
    """Holds what tells a file from another one of the same address."""
    return part.with_suffix(".tag")


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _members(
    archive: pathlib.Path,
) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    """Yields name, size and a way to open each file in an archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as content:
            for info in content.infolist():
                if not info.is_dir():
                    yield info.filename, info.file_size, _opener(content.open, info)
        return
    with tarfile.open(archive) as content:
        for member in content:
            # Links and devices are none of a release's files.
            if member.isfile():
                yield member.name, member.size, _opener(content.extractfile, member)
        # The checksum of a compressed tar lies behind the last member.
        while content.fileobj and content.fileobj.read(_BLOCK):
            pass


def _opener(function: Callable[[Any], Any], what: Any) -> Callable[[], IO[bytes]]:
    return lambda: function(what) or io.BytesIO()


def _is_junk(name: str) -> bool:
    """Whether macOS left a member of an archive behind."""
    parts = pathlib.PurePosixPath(name).parts
    return any(part == "__MACOSX" or part.startswith("._") for part in parts)


def _write(part: pathlib.Path, size: int, open_member: Callable[[], IO[bytes]]) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    with room(part.parent, size), open_member() as source, part.open("wb") as out:
        shutil.copyfileobj(source, out, _BLOCK)
