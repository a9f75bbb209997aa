"""A builder whose source is a release that a person put into a folder."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Container, Sequence
from typing import Any, ClassVar, TypeVar

import tensorflow_datasets as tfds
from etils import epath

from tfds_builders import prepared_types
from tfds_builders.prepare import digests, xray_builder
from tfds_builders.sources import files, folders

_TABLES = (".csv", ".json", ".txt", ".xml", ".xlsx")
_SMALL = 1 << 26  # bytes; of larger tables both ends are read, as of images


@dataclasses.dataclass
class ReleaseConfig(tfds.core.BuilderConfig):
    """How a release is prepared.

    Attributes:
      folder: Holds the release, with up to three folders around it; "" for TFDS's
        manual folder.
      image_size: Longest stored side, pixels; 0 as released.
      bit_depth: Bits of a stored pixel, 8 or 16.
      seed: Seed of the splits `grouped` and `muscle`.
      invert: The image_ids, or patterns of them, of images that are the wrong way
        round in the release, dark where rays were stopped; they are turned around.
    """

    folder: str = ""
    image_size: int = 0
    bit_depth: int = 8
    seed: int = 0
    invert: Sequence[str] = ()


Config = TypeVar("Config", bound=ReleaseConfig)


def standard_configs(config: type[Config]) -> list[Config]:
    """The configurations that every set has: as released, and of a handy size."""
    return [
        config(name="full", description="as released"),
        config(name="px512", description="longest side 512 pixels", image_size=512),
    ]


class DownloadBuilder(xray_builder.XrayBuilder, skip_registration=True):
    """Finds a release in its folder, by the files that mark it.

    A subclass sets MARKERS and MANUAL_DOWNLOAD_INSTRUCTIONS.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[Sequence[ReleaseConfig]] = standard_configs(ReleaseConfig)

    # Patterns of names that lie in the root; see `folders.find_root`.
    MARKERS: ClassVar[tuple[str, ...]]
    # Patterns of what in the root belongs to the set, where other sets may lie beside
    # it; empty for all. The rest is neither listed nor part of the fingerprint.
    OWN: ClassVar[tuple[str, ...]] = ()
    builder_config: ReleaseConfig

    def find_files(self, dl_manager: tfds.download.DownloadManager) -> None:
        """See base class: without a `folder`, TFDS's manual folder is searched."""
        if self.builder_config.folder:
            return
        try:
            self.folder = dl_manager.manual_dir
        except AssertionError as error:
            raise FileNotFoundError(f"{self.name}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        """What a worker elsewhere needs to make the same builder."""
        return {**super().__getstate__(), "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Undoes `__getstate__`."""
        super().__setstate__(state)
        self.folder = state["folder"]

    @functools.cached_property
    def folder(self) -> epath.Path:
        """Where the release is looked for."""
        given = self.builder_config.folder
        if given:
            return epath.Path(given).expanduser()
        return epath.Path(self._data_dir_root) / "downloads" / "manual"

    @functools.cached_property
    def release(self) -> files.Listing:
        """The files of the release, listed once.

        Raises:
          FileNotFoundError: If it is not found; says how to get it.
        """
        is_there = self.folder.is_dir()
        root = folders.find_root(self.folder, self.MARKERS) if is_there else None
        if root is None:
            raise FileNotFoundError(
                f"{self.name}: not found in {str(self.folder)!r}, nor up to three "
                f"levels below it: {folders.told(self.MARKERS)}. {self.how_to_get}"
            )
        return files.list_files(root, self.OWN)

    @property
    def how_to_get(self) -> str:
        """MANUAL_DOWNLOAD_INSTRUCTIONS on one line."""
        return " ".join((self.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())

    def require_pictures(
        self, table: str, listed: Collection[str], there: Container[str]
    ) -> None:
        """Refuses a table or list none of whose images is there.

        One may be lost; without any a folder was not fetched, or not unpacked.

        Args:
          table: Its name.
          listed: The images that it names, in any form.
          there: The images that are there, in the same form.

        Raises:
          FileNotFoundError: Says how to get them.
        """
        if listed and not any(name in there for name in listed):
            raise FileNotFoundError(
                f"{self.name}: none of the {len(listed)} images of {table}, such as "
                f"{min(listed)}, is below {str(self.release.root)!r}: their folder is "
                f"missing or not unpacked. {self.how_to_get}"
            )

    def find_file(self, *patterns: str) -> str:
        """Path below the root of the file that fits the first pattern that any fits.

        Raises:
          FileNotFoundError: If there is none; says how to get it.
        """
        found = self.release.matching(*patterns)
        if not found:
            raise FileNotFoundError(
                f"{self.name}: no file {' or '.join(patterns)} below "
                f"{str(self.release.root)!r}; it is part of the release. "
                f"{self.how_to_get}"
            )
        return found[0]

    def content(self, name: str) -> bytes:
        """The content of a file, by its path below the root."""
        return files.read(self.release.root / name)

    def fingerprint(self) -> str:
        """A digest of the files, tables read whole; see `digests.of_files`."""
        return self._fingerprint

    def state(self) -> str:
        """See `digests.of_state`."""
        return digests.of_state(self.release)

    @functools.cached_property
    def _fingerprint(self) -> str:
        return digests.of_files(self.release, is_whole=_is_whole)

    def options(self) -> dict[str, prepared_types.Json]:
        """The configuration's own fields but for the folder, which may be moved."""
        return {k: v for k, v in super().options().items() if k != "folder"}


def _is_whole(name: str, size: int) -> bool:
    return name.lower().endswith(_TABLES) and size < _SMALL
