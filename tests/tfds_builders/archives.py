"""Archives in memory, for the tests of fetching and unpacking."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile


def noise(size: int = 50_000) -> bytes:
    """Bytes that no compression shortens, the same ones each time."""
    return b"".join(
        hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(size // 32)
    )


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive of files by name."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    """A gzipped tar archive of files by name."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()
