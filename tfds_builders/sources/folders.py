"""Folders of downloads: what lies in them, and which one holds a release."""

from __future__ import annotations

import contextlib
import fnmatch
import pathlib
from collections.abc import Collection, Iterable, Iterator, Sequence

from etils import epath

DEPTH = 3  # levels below a folder at which a release, or its archive, may lie
_MANY = 1000  # folders in one that holds patients or studies, not releases
_PICTURES = (".png", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff", ".bmp")
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".gz", ".7z", ".rar")
_COMMON = ("images", "masks", "annotations", "train", "test")  # mark nobody's folder
_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


def find_root(
    folder: epath.Path, markers: Sequence[str], *, depth: int = DEPTH
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


def packed(folder: epath.Path, depth: int = DEPTH) -> list[str]:
    """Archives in a folder and at most `depth` levels below, as paths below it.

    Those beside a folder of the same name are taken to be unpacked.
    """
    found = []
    for place in walk(folder, depth):
        there = {path.name.lower(): path for path in entries(place)}
        found += [
            path.relative_to(folder).as_posix()
            for name, path in there.items()
            if name.endswith(_ARCHIVES) and stem(name) not in there
        ]
    return sorted(found)


def stem(archive: str) -> str:
    """The name of an archive in lower case without folders and suffixes."""
    name = pathlib.PurePosixPath(archive).name.lower()
    suffixes = [suffix for suffix in _ARCHIVES if name.endswith(suffix)]
    return name.removesuffix(max(suffixes, key=len))


def partial(
    folder: epath.Path, markers: Sequence[str], taken: Collection[epath.Path]
) -> str:
    """Where most of several markers lie, and which lack; "" where few do."""
    forbidden = [marker for marker in markers if marker.startswith("!")]
    markers = [marker for marker in markers if marker not in forbidden]
    telling = [
        "|".join(other for other in marker.split("|") if other not in _COMMON)
        for marker in markers
    ]
    telling = [marker for marker in telling if marker]
    least, found = list(markers), ""
    for place in walk(folder, DEPTH):
        is_taken = any(root == place or root in place.parents for root in taken)
        if is_taken or lacking(place, forbidden):
            continue
        absent = lacking(place, markers)
        if len(absent) < len(least) and lacking(place, telling) != telling:
            least, found = absent, str(place)
    if 2 * len(least) > len(markers) or len(least) == len(markers):
        return ""
    return f"{found!r} lacks {', '.join(least)}."


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
