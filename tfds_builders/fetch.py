"""Fetches the sets that anybody may fetch, and unpacks them.

    python -m tfds_builders.fetch montgomery_cxr --folder DIR

Then `folder` of the set's configuration is DIR. Stopped anywhere, the same command
resumes. The other sets ask for a login or for consent: their README says where they
are.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import http.client
import pathlib
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import tqdm

from tfds_builders import whole
from tfds_builders.sources import folders

ARCHIVES = ".archives"  # holds archives until they are unpacked; builders skip it
_BLOCK = 1 << 20  # bytes read at once
_TIMEOUT = 60.0  # seconds without a byte
_ATTEMPTS = 5  # in a row that bring nothing
_PAUSE = 2.0  # seconds before the next attempt; doubled after each of these
# RuntimeError is an unknown way of packing, or a password.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    EOFError,
    zlib.error,
    RuntimeError,
)
_OPENI = "https://openi.nlm.nih.gov/imgs/collections"
_NLM = "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets"
_RSNA = "https://s3.amazonaws.com/east1.public.rsna.org/AI/2017"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A zip or tar.

    Attributes:
      url: Its address.
      sha256: Its digest, where one was published; "" takes whatever comes.
      inner: Whether it holds zips that must be unpacked too.
    """

    url: str
    sha256: str = ""
    inner: bool = False


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a set is.

    Attributes:
      page: Its address, for people.
      terms: What its makers ask.
      archives: Parts that together are the set.
    """

    page: str
    terms: str
    archives: tuple[Archive, ...]


class FetchError(Exception):
    """A file could not be fetched or unpacked; the message says what to do."""


SETS: Mapping[str, Source] = {
    "montgomery_cxr": Source(
        page=f"{_NLM}/Montgomery-County-CXR-Set/MontgomerySet/index.html",
        terms="Cite Jaeger et al. 2014 and Candemir et al. 2014; do not pass it on.",
        archives=(
            Archive(
                f"{_OPENI}/NLM-MontgomeryCXRSet.zip",
                "54601e952315d8f67383e9202a6e145997ade429f54f7e0af44b4e158714f424",
            ),
        ),
    ),
    "shenzhen_cxr": Source(
        page=f"{_NLM}/Shenzhen-Hospital-CXR-Set/index.html",
        terms="Cite Jaeger et al. 2014 and Candemir et al. 2014; do not pass it on.",
        archives=(Archive(f"{_OPENI}/ChinaSet_AllFiles.zip"),),
    ),
    "indiana_cxr": Source(
        page="https://openi.nlm.nih.gov/faq",
        terms="Licence CC BY-NC-ND 4.0; cite Demner-Fushman et al. 2016.",
        archives=(
            Archive(f"{_OPENI}/NLMCXR_reports.tgz"),
            Archive(f"{_OPENI}/NLMCXR_png.tgz"),
        ),
    ),
    "rsna_bone_age": Source(
        page=f"{_RSNA}/",
        terms="RSNA's terms of use: research and education; cite Halabi et al. 2019.",
        archives=(
            Archive(
                f"{_RSNA}/Bone+Age+Training+Set+Annotations.zip",
                "f6373249b6ec85d182c62ab83f05fa76dff90ba03315e455dd6de332dffc7215",
            ),
            Archive(f"{_RSNA}/Bone+Age+Test+Set.zip"),
            Archive(
                f"{_RSNA}/Bone+Age+Validation+Set.zip",
                "683ea5398dd9d0730af883e673176a5c6817fd35a5a59331a500fa7affcd36f0",
                inner=True,
            ),
            Archive(
                f"{_RSNA}/Bone+Age+Training+Set.zip",
                "9eab917f59bf520b4eb10803d33e7007ea3b3c2bd4df1c55aff45bc339b2736a",
            ),
        ),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetches the set of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tfds_builders.fetch",
        description="Fetches a set that anybody may fetch, and unpacks it.",
    )
    parser.add_argument("name", choices=sorted(SETS), help="the set")
    parser.add_argument(
        "--folder", required=True, type=pathlib.Path, help="where it goes; made if new"
    )
    flags = parser.parse_args(arguments)
    source = SETS[flags.name]
    sys.stdout.write(f"{flags.name}: {source.page}\n{source.terms}\n")
    try:
        for archive in source.archives:
            fetch(archive, flags.folder.expanduser())
    except (FetchError, OSError) as error:
        room = f" Make room in {flags.folder}: the same command resumes."
        said = f"{error}{room * whole.is_full(error)}"
        sys.stderr.write(f"{flags.name}: {said}\nIts page: {source.page}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The same command resumes.\n")
        return 130
    sys.stdout.write(f"{flags.name} lies in {flags.folder}\n")
    return 0


def fetch(archive: Archive, folder: pathlib.Path) -> None:
    """Fetches an archive and unpacks it, unless that was done before.

    Args:
      archive: Where it is.
      folder: Where its content goes; made if new.

    Raises:
      FetchError: If it cannot be fetched or unpacked.
      OSError: If the disk is full, say.
    """
    path = folder / ARCHIVES / pathlib.PurePosixPath(archive.url).name
    path.parent.mkdir(parents=True, exist_ok=True)
    done = path.with_name(f"{path.name}.done")
    if not done.exists():
        if not path.exists():
            download(archive.url, path, sha256=archive.sha256)
        count = unpack(path, folder, inner=archive.inner)
        done.write_text(f"{count} files\n")
        path.unlink()
    sys.stdout.write(f"{path.name}: {done.read_text()}")


def download(url: str, path: pathlib.Path, *, sha256: str = "") -> None:
    """Fetches a file; what an earlier attempt brought is not fetched again.

    Args:
      url: Its address.
      path: Where the file goes; it is there only when it is whole.
      sha256: What its digest must be; "" for whatever it is.

    Raises:
      FetchError: If the address does not lead to a file, the connection keeps breaking,
        or the file is not the one expected.
      OSError: If the disk is full, say.
    """
    with _open(url, method="HEAD") as answer:
        total = int(answer.headers.get("Content-Length") or 0)
        mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    if not total:
        raise FetchError(f"{url} leads to no file: its length is 0, or not said.")
    # Under another name if the file is another one than before.
    key = hashlib.sha256(f"{mark} {total}".encode()).hexdigest()[:8]
    part = path.with_name(f".{path.name}.{key}.part")
    part.touch()
    have, fruitless = part.stat().st_size, 0
    with tqdm.tqdm(
        total=total, unit="B", unit_scale=True, desc=path.name, disable=None
    ) as progress:
        while have < total:
            reason: object = "the connection ended early"
            try:
                _append(url, part, have, progress)
            except (OSError, http.client.HTTPException) as error:
                if whole.is_full(error):
                    raise
                reason = error
            before, have = have, part.stat().st_size
            fruitless = 0 if have > before else fruitless + 1
            if fruitless == _ATTEMPTS:
                raise FetchError(
                    f"{url} cannot be fetched: {reason}. {have} bytes are kept: the "
                    "same command resumes there."
                )
            if have < total:
                time.sleep(_PAUSE * 2**fruitless)
    with part.open("rb") as file:
        digest = whole.of_stream(file)
    if sha256 and digest != sha256:
        wrong = part.replace(path.with_name(f"{path.name}.wrong"))
        raise FetchError(
            f"{url} is not the file expected: sha256 {digest} in place of {sha256}. It "
            f"is kept as {wrong}: try again, or, if the makers released another one, "
            "unpack it by hand."
        )
    part.replace(path)


def _append(url: str, part: pathlib.Path, have: int, progress: tqdm.tqdm) -> None:
    """Fetches what is missing of a file, as far as the connection holds."""
    with _open(url, Range=f"bytes={have}-") as answer:
        resumes = answer.status == http.client.PARTIAL_CONTENT
        progress.update(have * resumes - progress.n)
        with part.open("ab" if resumes else "wb") as out:
            while block := answer.read(_BLOCK):
                out.write(block)
                progress.update(len(block))


def _open(url: str, method: str = "GET", **headers: str) -> Any:
    """Asks a server.

    Raises:
      FetchError: If it says no, or there is none.
    """
    if not url.startswith(("http://", "https://")):
        raise FetchError(f"{url} is not an http or https address.")
    headers["User-Agent"] = "tfds_builders"
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        code = getattr(error, "code", http.client.INTERNAL_SERVER_ERROR)
        if method == "GET" and code >= http.client.INTERNAL_SERVER_ERROR:
            raise  # It may pass.
        raise FetchError(f"{url} cannot be fetched: {error}.") from error


def unpack(archive: pathlib.Path, folder: pathlib.Path, *, inner: bool = False) -> int:
    """Unpacks a zip or tar; nothing changes in the folder unless the archive is sound.

    What macOS adds to archives is passed over, and no name leads out of the folder.

    Args:
      archive: A zip or a tar, compressed or not; removed if it is damaged.
      folder: Where its content goes.
      inner: Whether zips inside are unpacked too, where they lie, and removed.

    Returns:
      Number of files.

    Raises:
      FetchError: If it is damaged.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:
        new = pathlib.Path(name)
        try:
            _extract(archive, new)
            for path in _files(new) if inner else ():
                if path.suffix.lower() == ".zip":
                    _extract(path, path.parent)
                    path.unlink()
        except _DAMAGED as error:
            archive.unlink()
            raise FetchError(
                f"{archive.name} is damaged, or not an archive: {error}. It is "
                "removed: the same command fetches it again."
            ) from error
        found = _files(new)
        for path in found:
            target = folder / path.relative_to(new)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    return len(found)


def _extract(archive: pathlib.Path, folder: pathlib.Path) -> None:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)  # which takes ".." out of names
        return
    if not hasattr(tarfile, "data_filter"):
        raise FetchError(
            f"{archive} can't be unpacked safely by this Python: use 3.11.4 or newer."
        )
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
        # The checksum of a compressed tar lies behind the last member.
        while content.fileobj and content.fileobj.read(_BLOCK):
            pass


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files below a folder but those that systems leave behind."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(folders.is_junk(part) for part in path.relative_to(folder).parts)
    ]


if __name__ == "__main__":
    sys.exit(main())
