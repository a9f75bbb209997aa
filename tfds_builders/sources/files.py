"""The files below a folder: what there is, and which one a name means."""

from __future__ import annotations

import dataclasses
import difflib
import errno
import fnmatch
import functools
import logging
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from etils import epath

from tfds_builders import whole
from tfds_builders.sources import folders, identities

NOT_REGULAR = -2  # in place of the size of a pipe, a device or a socket


class SourceLost(OSError):
    """A file that was listed has vanished since, or may not be read.

    Nothing is wrong with the file: its disk is gone, or somebody moved it.
    """


@dataclasses.dataclass(frozen=True)
class Listing:
    """All files below a folder.

    Attributes:
      sizes: Size in bytes of each file by its path below the folder, in order; below
        0 where a link leads nowhere, and of pipes and devices, which are not read.
      by_stem: Paths of the files whose path without the suffix is the key.
      misnamed: Printable names of the files that are not listed, since their names
        are not UTF-8.
    """

    root: epath.Path
    sizes: Mapping[str, int]
    by_stem: Mapping[str, tuple[str, ...]]
    misnamed: tuple[str, ...] = ()

    def holds(self, name: str) -> bool:
        """Whether a file was there when the folder was listed; no dangling link."""
        return self.sizes.get(name, -1) >= 0

    def find(self, name: str) -> str | None:
        """The file that a table or JSON means: its path, or its path without suffix.

        Paths may start at the folder or at the one that holds it. Where no name is
        the same to the letter, one is taken that differs in case, in blanks round it
        or in how accents are coded, if there is only one.
        """
        path = pathlib.PurePosixPath(name.strip().replace("\\", "/"))
        candidates = [path]
        if path.parts[:1] == (self.root.name,):
            candidates.insert(0, path.relative_to(self.root.name))
        for candidate in candidates:
            if candidate.as_posix() in self.sizes:
                return candidate.as_posix()
        for candidate in candidates:
            found = self.of_stem(candidate.as_posix())
            if len(found) == 1:
                return found[0]
        for candidate in candidates:
            found = self._alike.get(identities.folded(candidate.as_posix()), ())
            if len(found) == 1:
                return found[0]
        return None

    def of_stem(self, stem: str) -> tuple[str, ...]:
        """Paths that are `stem` without their suffix, else like it; see `find`."""
        return self.by_stem.get(stem) or self._alike_stems.get(
            identities.folded(stem), ()
        )

    @functools.cached_property
    def _alike(self) -> Mapping[str, tuple[str, ...]]:
        return _grouped((identities.folded(name), name) for name in self.sizes)

    @functools.cached_property
    def _alike_stems(self) -> Mapping[str, tuple[str, ...]]:
        return _grouped(
            (identities.folded(stem), name)
            for stem, names in self.by_stem.items()
            for name in names
        )

    def matching(self, *patterns: str) -> list[str]:
        """Paths whose last part fits a pattern (`*`, `?`; case does not matter).

        Returns:
          Those of the first pattern that any file fits, those nearest the root first.
        """
        for pattern in patterns:
            found = [
                name
                for name in self.sizes
                if fnmatch.fnmatchcase(_last(name), pattern.lower())
            ]
            if found:
                return sorted(found, key=lambda name: (name.count("/"), name))
        return []


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known name most like this one; "" if none is."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def brief(names: Iterable[str], limit: int = 12) -> str:
    """Names joined by commas, the rest of a long list as a count."""
    names = list(names)
    text = ", ".join(names[:limit]) or "nothing"
    return text + (f" and {len(names) - limit} more" if len(names) > limit else "")


def read(path: epath.Path) -> bytes:
    """The content of a file.

    Raises:
      FileNotFoundError: If there is none, or a folder of that name.
      ValueError: If it may not be read.
    """
    try:
        return path.read_bytes()
    except (IsADirectoryError, NotADirectoryError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"No file {str(path)!r}: {error.strerror}. Get it again."
        ) from error
    except PermissionError as error:
        raise ValueError(
            f"{str(path)!r} may not be read: {error.strerror}. Change who may."
        ) from error


def list_files(root: epath.Path, own: Sequence[str] = ()) -> Listing:
    """Lists all files below a folder but those that systems leave behind.

    Args:
      root: The folder.
      own: Patterns (`*`, `?`, `[...]`; case does not matter) of what lies right in it
        and is listed, with all that is below; empty for everything.
    """
    found = dict(sorted(_walk(root, "", own)))
    # Tables, JSON and TFDS want text, where a file system may hold any bytes.
    wrong = [name for name in found if not _is_text(name)]
    misnamed = tuple(ascii(os.fsencode(name))[2:-1] for name in wrong)
    if misnamed:
        logging.getLogger(__name__).warning(
            "%s: %d files have names that are not UTF-8 and are left out, for example "
            "%s. Rename them.",
            os.fspath(root),
            len(misnamed),
            misnamed[0],
        )
    sizes = {name: size for name, size in found.items() if name not in set(wrong)}
    by_stem = _grouped(
        (pathlib.PurePosixPath(name).with_suffix("").as_posix(), name) for name in sizes
    )
    return Listing(root, sizes, by_stem, misnamed)


def _is_text(name: str) -> bool:
    return name.encode(errors="ignore").decode() == name


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The second values by the first, in their order."""
    found: dict[str, list[str]] = {}
    for key, name in pairs:
        found.setdefault(key, []).append(name)
    return {key: tuple(names) for key, names in found.items()}


def _last(name: str) -> str:
    return name.rsplit("/", maxsplit=1)[-1].lower()


def by_name(
    listing: Listing,
    suffixes: Sequence[str],
    *,
    under: str = "",
    holders: Sequence[str] = (),
) -> dict[str, str]:
    """Path of each file by its name without suffix, wherever it lies.

    Of several files with one name that which is not empty, then the one nearest to the
    root, then the first by path is taken: mirrors nest copies.

    Args:
      listing: Files of the release.
      suffixes: Lower case, with the dot; case of the files does not matter.
      under: Start of the paths to look at, as "images/"; case does not matter.
      holders: Names, lower case, of the folder in which the file lies; empty for any.
    """
    found: dict[str, list[tuple[bool, int, str]]] = {}
    for name, size in listing.sizes.items():
        path = pathlib.PurePosixPath(name)
        if holders and path.parent.name.lower() not in holders:
            continue
        if path.suffix.lower() in suffixes and name.lower().startswith(under.lower()):
            order = (size <= 0, len(path.parts), name)
            found.setdefault(path.stem, []).append(order)
    return {stem: min(orders)[-1] for stem, orders in found.items()}


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name fits any of the patterns; case does not matter."""
    return any(fnmatch.fnmatchcase(name.lower(), p.lower()) for p in patterns)


def _walk(
    folder: epath.Path, prefix: str, own: Sequence[str] = ()
) -> Iterable[tuple[str, int]]:
    """Yields path and size of each file, without what systems leave behind."""
    for entry, is_folder, size in _there(folder):
        name = f"{prefix}{entry}"
        if own and not fits(entry, own):
            continue
        if is_folder:
            yield from _walk(folder / entry, f"{name}/")
        else:
            yield name, size()


def _there(
    folder: epath.Path,
) -> Iterator[tuple[str, bool, Callable[[], int]]]:
    """Yields name, whether it is a folder, and size of what lies in a folder."""
    if "://" in os.fspath(folder):
        for path in folders.entries(folder):
            yield path.name, path.is_dir(), functools.partial(_size, path)
        return
    # A path object for each of a hundred thousand files would take ten seconds.
    with folders.readable(folder), os.scandir(folder) as found:
        for entry in found:
            if not folders.is_junk(entry.name):
                size = functools.partial(_local_size, entry)
                yield entry.name, _is_folder(entry), size


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads in a circle; `_size` says what it is.
        return False


def _local_size(entry: os.DirEntry[str]) -> int:
    """The same as `_size`."""
    try:
        found = entry.stat()
        return found.st_size if stat.S_ISREG(found.st_mode) else NOT_REGULAR
    except OSError:
        return _size(epath.Path(entry.path))


def _size(path: epath.Path) -> int:
    """Size in bytes; below 0 of a link that leads nowhere, of a pipe, of a device.

    Raises:
      SourceLost: If it cannot be told.
    """
    try:
        if "://" not in os.fspath(path) and not whole.is_regular(path):
            return NOT_REGULAR
        return path.stat().length
    except OSError as error:
        nowhere = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        if error.errno in nowhere and os.path.islink(path):
            return -1
        raise SourceLost(
            f"The size of {os.fspath(path)!r} cannot be told: {error.strerror}. See "
            "that its disk is there and that it may be read."
        ) from error
