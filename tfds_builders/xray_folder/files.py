"""The files of a folder of X-rays: what there is, and which one a name means."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import pathlib
from collections.abc import Iterable, Mapping

from etils import epath

IMAGES = "images"
MASKS = "masks"
_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclasses.dataclass(frozen=True)
class Listing:
    """All files below a folder.

    Attributes:
      sizes: Size in bytes of each file by its path below the folder, in order; -1
        where a link leads nowhere.
      by_stem: Paths of the files whose path without the suffix is the key.
    """

    root: epath.Path
    sizes: Mapping[str, int]
    by_stem: Mapping[str, tuple[str, ...]]

    def find(self, name: str) -> str | None:
        """The file that a table or JSON means: its path, or its path without suffix.

        Paths may start at the folder or at the one that holds it.
        """
        path = pathlib.PurePosixPath(name.replace("\\", "/"))
        candidates = [path]
        if path.parts[:1] == (self.root.name,):
            candidates.insert(0, path.relative_to(self.root.name))
        for candidate in candidates:
            if candidate.as_posix() in self.sizes:
                return candidate.as_posix()
        for candidate in candidates:
            found = self.by_stem.get(candidate.as_posix(), ())
            if len(found) == 1:
                return found[0]
        return None


@dataclasses.dataclass(frozen=True)
class Source:
    """What is read from a folder before any picture is opened.

    Attributes:
      folder: The folder itself.
      images: Files of `images/`.
      masks: Files of `masks/`; empty if masks are not asked for.
      table: Content of the table; None without one.
      annotations: Content of the annotations; None if they are not asked for.
    """

    folder: epath.Path
    images: Listing
    masks: Listing
    table: bytes | None
    annotations: bytes | None

    def fingerprint(self) -> str:
        """Hash over names and sizes of pictures and the content of the other files."""
        digest = hashlib.sha256()
        for listing in (self.images, self.masks):
            for name, size in listing.sizes.items():
                digest.update(f"{name}\0{size}\n".encode())
            digest.update(b"\0")
        for content in (self.table, self.annotations):
            digest.update(b"" if content is None else hashlib.sha256(content).digest())
            digest.update(b"\0")
        return digest.hexdigest()


def read_source(
    folder: epath.Path,
    *,
    table: str,
    table_may_be_absent: bool,
    masks: bool,
    annotations: str,
) -> Source:
    """Lists a folder and reads its table and annotations.

    Raises:
      FileNotFoundError: If something that is needed is not there; lists what is.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No folder {str(folder)!r}. Set the option `folder` to the one that holds "
            f"`{IMAGES}/`."
        )
    there = sorted(path.name for path in folder.iterdir())
    for name, wanted in ((IMAGES, True), (MASKS, masks)):
        if wanted and name not in there:
            raise FileNotFoundError(
                f"No folder {name!r} in {str(folder)!r}, which holds: {brief(there)}."
            )
    return Source(
        folder=folder,
        images=_listing(folder / IMAGES),
        masks=_listing(folder / MASKS) if masks else Listing(folder / MASKS, {}, {}),
        table=_read(folder, table, there, may_be_absent=table_may_be_absent),
        annotations=_read(folder, annotations, there, may_be_absent=False),
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known name most like this one; "" if none is."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def brief(names: Iterable[str], limit: int = 12) -> str:
    """Names joined by commas, the rest of a long list as a count."""
    names = list(names)
    text = ", ".join(names[:limit]) or "nothing"
    return text + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _read(
    folder: epath.Path, name: str, there: list[str], *, may_be_absent: bool
) -> bytes | None:
    if not name:
        return None
    path = folder / name
    if path.is_file():
        return path.read_bytes()
    if may_be_absent:
        return None
    raise FileNotFoundError(
        f"No file {name!r} in {str(folder)!r}, which holds: {brief(there)}."
        f"{nearest(name, there)}"
    )


def _listing(root: epath.Path) -> Listing:
    sizes = dict(sorted(_walk(root, "")))
    by_stem: dict[str, tuple[str, ...]] = {}
    for name in sizes:
        stem = pathlib.PurePosixPath(name).with_suffix("").as_posix()
        by_stem[stem] = (*by_stem.get(stem, ()), name)
    return Listing(root, sizes, by_stem)


def _walk(folder: epath.Path, prefix: str) -> Iterable[tuple[str, int]]:
    """Yields path and size of each file, without what systems leave behind."""
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in _JUNK:
            continue
        name = f"{prefix}{path.name}"
        if path.is_dir():
            yield from _walk(path, f"{name}/")
        else:
            yield name, path.stat().length if path.exists() else -1
