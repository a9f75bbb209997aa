"""From what a user names - files, folders, patterns - to a list of files to read."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterable, Sequence

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".dcm",
    ".dicom",
    ".ima",
)
_DICOM_AT, _DICOM = 128, b"DICM"


@dataclasses.dataclass(frozen=True)
class Found:
    """What was named.

    Attributes:
      files: Whole paths to read, each once, in order of what was named, then by name.
      left_alone: How many files of the folders look like no picture.
      problems: Names that lead nowhere, with the reason.
    """

    files: tuple[str, ...]
    left_alone: int
    problems: tuple[tuple[str, str], ...]


def find(named: Sequence[str], out: str) -> Found:
    """Finds the pictures.

    Folders are searched to any depth, links to folders not followed (they may lead in
    a circle). Of a folder, files with a picture's suffix count and, among those with
    another or none, DICOM files. A file that is named itself, or matched by a pattern,
    always counts.

    Args:
      named: Files, folders, or patterns with `*`, `**`, `?`, `[...]`.
      out: Where results are written; what lies in it is no input.
    """
    files: dict[str, None] = {}
    results = os.path.join(os.path.abspath(os.path.expanduser(out)), "")
    problems: list[tuple[str, str]] = []
    left_alone = 0
    for name in named:
        expanded = os.path.expanduser(name)
        matches = [expanded]
        if not os.path.lexists(expanded) and glob.has_magic(expanded):
            matches = sorted(glob.glob(expanded, recursive=True))
        if not matches or not os.path.lexists(matches[0]):
            problems.append((name, "no such file, folder or match"))
        for match in matches:
            if os.path.isdir(match):
                inside = [p for p in _walk(match) if not _lies_in(p, results)]
                pictures = [path for path in inside if _is_picture(path)]
                left_alone += len(inside) - len(pictures)
            else:
                pictures = [match] if os.path.lexists(match) else []
            for path in pictures:
                if not _lies_in(path, results):
                    files[os.path.abspath(path)] = None
    return Found(tuple(files), left_alone, tuple(problems))


def _lies_in(path: str, folder: str) -> bool:
    return os.path.abspath(path).startswith(folder)


def _walk(folder: str) -> Iterable[str]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(parent, name) for name in sorted(names))


def _is_picture(path: str) -> bool:
    stem, suffix = os.path.splitext(path)
    if suffix.lower() in SUFFIXES:
        return True
    if os.path.basename(stem).upper() == "DICOMDIR" or not os.path.isfile(path):
        return False  # A table of contents; a pipe would never end.
    try:
        with open(path, "rb") as file:
            file.seek(_DICOM_AT)
            return file.read(len(_DICOM)) == _DICOM
    except OSError:
        return False  # Looks like no picture, and is counted as such.
