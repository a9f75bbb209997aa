"""Where in a download folder releases, parts of them and packed files lie."""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Iterable, Sequence

from etils import epath

from tfds_builders.releases import release
from tfds_builders.sources import folders

DEPTH = 3  # levels below the folder at which a release, or its archive, may lie
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".gz", ".7z", ".rar")
_COMMON = ("images", "masks", "annotations", "train", "test")  # mark nobody's folder


def roots(
    builders: Iterable[type[release.ReleaseBuilder]], folder: epath.Path
) -> set[epath.Path]:
    """Folders of the sets that lie in a folder with all that marks them."""
    found = (folders.find_root(folder, b.MARKERS, depth=DEPTH) for b in builders)
    return {root for root in found if root is not None}


def packed(folder: epath.Path) -> list[str]:
    """Archives in a folder and up to three levels below, as paths below it.

    Those beside a folder of the same name are taken to be unpacked.
    """
    found = []
    for place in folders.walk(folder, DEPTH):
        there = {path.name for path in folders.entries(place)}
        for name in sorted(there):
            if name.lower().endswith(_ARCHIVES) and _stem(name) not in there:
                found.append((place / name).relative_to(folder).as_posix())
    return sorted(found)


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
    best: tuple[list[str], str] = (list(markers), "")
    for place in folders.walk(folder, DEPTH):
        if any(root == place or root in place.parents for root in taken):
            continue
        if folders.lacking(place, forbidden):
            continue
        lacking = folders.lacking(place, markers)
        if len(lacking) < len(best[0]) and folders.lacking(place, telling) != telling:
            best = (lacking, str(place))
    lacking, place = best
    if 2 * len(lacking) > len(markers) or len(lacking) == len(markers):
        return ""
    return f"{place!r} lacks {', '.join(lacking)}."


def belongs(archive: str, name: str, instructions: str) -> bool:
    """Whether the instructions, or the name of the set, speak of an archive."""
    stem = _stem(archive).lower()
    return f"{stem}." in instructions.lower() or stem == name


def _stem(archive: str) -> str:
    """The name of an archive without folders and suffixes."""
    name = pathlib.PurePosixPath(archive).name
    suffixes = [suffix for suffix in _ARCHIVES if name.lower().endswith(suffix)]
    return name[: -len(max(suffixes, key=len))]
