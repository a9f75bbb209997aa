"""What a folder of X-rays holds, before any image is opened."""

from __future__ import annotations

import dataclasses
import hashlib

from etils import epath

from tfds_builders.prepare import digests
from tfds_builders.sources import files

IMAGES = "images"
MASKS = "masks"


@dataclasses.dataclass(frozen=True)
class Source:
    """What is read from a folder before any image is opened.

    Attributes:
      folder: The folder itself.
      images: Files of `images/`.
      masks: Files of `masks/`; empty if masks are not asked for.
      table: Content of the table; None without one.
      annotations: Content of the annotations; None if they are not asked for.
      keypoints: Content of the landmarks' file; None if they are not asked for.
    """

    folder: epath.Path
    images: files.Listing
    masks: files.Listing
    table: bytes | None
    annotations: bytes | None
    keypoints: bytes | None

    def fingerprint(self) -> str:
        """A digest of the images, see `digests.of_files`, and of the other files.

        Table, annotations and landmarks count with their whole content.
        """
        digest = hashlib.sha256()
        for listing in (self.images, self.masks):
            digest.update(digests.of_files(listing).encode())
        for content in self._tables():
            digest.update(b"" if content is None else hashlib.sha256(content).digest())
            digest.update(b"\0")
        return digest.hexdigest()

    def state(self) -> str:
        """As `fingerprint`, of names, sizes and times instead of images."""
        parts = [digests.of_state(part) for part in (self.images, self.masks)]
        if not parts[0]:
            return ""
        for content in self._tables():
            parts.append("" if content is None else hashlib.sha256(content).hexdigest())
        return digests.of_texts(*parts)

    def _tables(self) -> list[bytes | None]:
        """What is read besides images and masks."""
        found = [self.table, self.annotations]
        # Sets of versions without landmarks keep their digest.
        return found if self.keypoints is None else [*found, self.keypoints]


def read_source(
    folder: epath.Path,
    *,
    table: str,
    table_may_be_absent: bool,
    masks: bool,
    annotations: str,
    keypoints: str,
) -> Source:
    """Lists a folder and reads its table, annotations and landmarks.

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
        if wanted and not (folder / name).is_dir():
            raise FileNotFoundError(
                f"No folder {name!r} in {str(folder)!r}, which holds: "
                f"{files.brief(there)}."
            )
    return Source(
        folder=folder,
        images=files.list_files(folder / IMAGES),
        masks=files.list_files(folder / MASKS)
        if masks
        else files.Listing(folder / MASKS, {}, {}),
        table=_read(folder, table, there, may_be_absent=table_may_be_absent),
        annotations=_read(folder, annotations, there, may_be_absent=False),
        keypoints=_read(folder, keypoints, there, may_be_absent=False),
    )


def _read(
    folder: epath.Path, name: str, there: list[str], *, may_be_absent: bool
) -> bytes | None:
    if not name:
        return None
    path = folder / name
    if path.is_file():
        return files.read(path)
    if may_be_absent:
        return None
    raise FileNotFoundError(
        f"No file {name!r} in {str(folder)!r}, which holds: {files.brief(there)}."
        f"{files.nearest(name, there)}"
    )
