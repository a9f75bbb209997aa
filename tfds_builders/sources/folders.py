"""Folders of downloads: what lies in them, and which one holds a release."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterable, Iterator, Sequence

from etils import epath

_MANY = 1000  # folders in one that holds patients or studies, not releases
_PICTURES = (".png", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff", ".bmp")
_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


def find_root(
    folder: epath.Path, markers: Sequence[str], *, depth: int = 3
) -> epath.Path | None:
    """The folder, at most `depth` levels down, in which every marker lies.

    Archives are unpacked with one, two or no folders around their content. Of several
    such folders the highest is taken, then the first by name: mirrors nest copies.

    Args:
      folder: Where to look; it may be the root itself.
      markers: Patterns (`*`, `?`; case does not matter) of names of files or folders,
        or of paths such as "train/normal"; alternatives are separated by "|". One that
        starts with "!" must not lie there.
      depth: Levels to go down.
    """
    for candidate in walk(folder, depth):
        if not lacking(candidate, markers):
            return candidate
    return None


def walk(folder: epath.Path, depth: int) -> Iterator[epath.Path]:
    """Yields a folder and those below it, at most `depth` levels down, highest first.

    What has the suffix of an image is not a folder. Below a folder of very many
    folders, which hold studies, nothing is looked for.
    """
    level = [folder]
    for remaining in range(depth, -1, -1):
        below: list[epath.Path] = []
        for candidate in level:
            yield candidate
            there = [
                path
                for path in (entries(candidate) if remaining else [])
                if path.suffix.lower() not in _PICTURES and path.is_dir()
            ]
            if len(there) <= _MANY:
                below.extend(there)
        level = below


def lacking(folder: epath.Path, markers: Sequence[str]) -> list[str]:
    """The markers, as those of `find_root`, that do not lie in a folder."""
    there = entries(folder)
    return [
        marker
        for marker in markers
        if marker.startswith("!")
        == any(
            _holds(there, pattern)
            for pattern in marker.removeprefix("!").lower().split("|")
        )
    ]


def told(markers: Iterable[str]) -> str:
    """Markers, as those of `find_root`, for people to read."""
    return ", ".join(
        f"no {marker[1:]}" if marker.startswith("!") else marker for marker in markers
    )


def entries(folder: epath.Path) -> list[epath.Path]:
    """What lies in a folder, by name, without what systems leave behind.

    Raises:
      ValueError: If the folder may not be read.
    """
    with readable(folder):
        there = sorted(folder.iterdir())
    return [path for path in there if not is_junk(path.name)]


@contextlib.contextmanager
def readable(folder: epath.Path) -> Iterator[None]:
    """Within, a folder is read; an error says whose permission is missing."""
    try:
        yield
    except PermissionError as error:
        raise ValueError(
            f"The folder {str(folder)!r} may not be read: {error.strerror}. Change who "
            "may, or move it away."
        ) from error


def _holds(there: Sequence[epath.Path], pattern: str) -> bool:
    """Whether one of the paths, or what lies below it, fits a pattern."""
    first, _, rest = pattern.partition("/")
    fitting = [path for path in there if fnmatch.fnmatch(path.name.lower(), first)]
    if not rest:
        return bool(fitting)
    return any(path.is_dir() and _holds(entries(path), rest) for path in fitting)


def is_junk(name: str) -> bool:
    """Whether systems leave such a file or folder behind."""
    return name.startswith(".") or name in _JUNK
