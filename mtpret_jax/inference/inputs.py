"""From what a user names - files, folders, patterns - to a list of files to read."""

from __future__ import annotations

import dataclasses
import glob
import os
import pathlib
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
      left_alone: How many files of the folders do not look like an image, or are links
        to other folders.
      results: How many images lie in the folder of results.
      problems: Names that lead nowhere, or cannot be looked into, with the reason.
    """

    files: tuple[str, ...]
    left_alone: int
    results: int
    problems: tuple[tuple[str, str], ...]


def find(named: Sequence[str], out: str) -> Found:
    """Finds the image files.

    Folders are searched to any depth, and so is `**`; links to folders are not followed
    (they may lead in a circle). In a folder, files with an image's suffix count and,
    among those with another or none, DICOM files. A file that is named itself, or
    matched by a pattern, always counts.

    Args:
      named: Files, folders, or patterns with `*`, `**`, `?`, `[...]`.
      out: Where results are written; what lies in it is not read.
    """
    files: dict[str, None] = {}
    results = os.path.join(os.path.abspath(os.path.expanduser(out)), "")
    problems: list[tuple[str, str]] = []
    left_alone = in_results = 0
    for name in named:
        expanded = os.path.expanduser(name)
        matches = [expanded]
        if not os.path.lexists(expanded) and glob.has_magic(expanded):
            matches = _matches(expanded)
        if not matches or not os.path.lexists(matches[0]):
            problems.append((name, "no such file, folder or match"))
        for match in matches:
            images = [match] if os.path.lexists(match) else []
            if os.path.isdir(match):
                inside = list(_walk(match, problems))
                images = [path for path in inside if _is_image(path)]
                others = set(inside).difference(images)
                left_alone += sum(not _lies_in(path, results) for path in others)
            for path in images:
                if _lies_in(path, results):
                    in_results += 1
                else:
                    files[os.path.abspath(path)] = None
    return Found(tuple(files), left_alone, in_results, tuple(problems))


def _matches(pattern: str) -> list[str]:
    """What a pattern matches, sorted; unlike that of `glob`, `**` follows no link."""
    parts = pathlib.PurePath(pattern).parts
    first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    found = pathlib.Path(*parts[:first]).glob(os.path.join(*parts[first:]))
    return sorted(map(os.fspath, found))


def _lies_in(path: str, folder: str) -> bool:
    return os.path.abspath(path).startswith(folder)


def _walk(folder: str, problems: list[tuple[str, str]]) -> Iterable[str]:
    """All files and links to folders; `problems` gets what can't be looked into."""

    def note(error: OSError) -> None:
        problems.append((str(error.filename), str(error.strerror)))

    for parent, folders, names in os.walk(folder, onerror=note):
        folders.sort()
        links = [n for n in folders if os.path.islink(os.path.join(parent, n))]
        yield from (os.path.join(parent, name) for name in sorted(names + links))


def _is_image(path: str) -> bool:
    stem, suffix = os.path.splitext(path)
    if suffix.lower() in SUFFIXES and not os.path.isdir(path):
        return True
    if os.path.basename(stem).upper() == "DICOMDIR" or not os.path.isfile(path):
        return False  # A table of contents; a pipe would never end.
    try:
        with open(path, "rb") as file:
            file.seek(_DICOM_AT)
            return file.read(len(_DICOM)) == _DICOM
    except OSError:
        return False  # Does not look like one, and is counted as such.
