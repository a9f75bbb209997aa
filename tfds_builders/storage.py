"""Opens a prepared folder: what describes it is compared with its digests first.

Records are not hashed at every opening: ArrayRecord keeps a digest of each and compares
it whenever it reads one. It names no file, and finds no missing end; here both is done.
"""

from __future__ import annotations

import bisect
import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import tensorflow_datasets as tfds
from etils import epath

from tfds_builders import whole
from tfds_builders.images import reader

AGAIN = "Restore it from a copy, or prepare the set again with --rebuild."
_DESCRIBED = ("dataset_info.json", "features.json", "metadata.json")
_CLASS = ("pythonClassName", "python_class_name", "type")  # the last in old folders
_OURS = "tensorflow_datasets.core.features."
_LOG = logging.getLogger(__name__)
_told: set[str] = set()


class Info(tfds.core.DatasetInfo):
    """What TFDS knows of a set; writing it, last of all, seals the folder."""

    def __init__(self, builder: Any, **options: Any) -> None:
        """As `builder.dataset_info_from_configs` makes it."""
        about = builder.get_metadata()
        told = {"description": about.description, "citation": about.citation}
        super().__init__(builder=builder, **told, **options)

    def write_to_directory(
        self, dataset_info_dir: Any, *given: Any, **named: Any
    ) -> None:
        """Keeps the digests of all that is in the folder then, records included."""
        super().write_to_directory(dataset_info_dir, *given, **named)
        whole.seal(dataset_info_dir)


class Records(Sequence[Any]):
    """The examples of some splits, one split after the other; it can be pickled."""

    def __init__(
        self,
        builder: Any,
        splits: Sequence[str],
        *,
        positions: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        """Opens no file yet.

        Args:
          builder: As `open_folder` gives it.
          splits: Their names.
          positions: Those of the examples to keep, in this order; None for all.
          **options: Those of `as_data_source` of TFDS.
        """
        self._source = builder.as_data_source("+".join(splits), **options)
        found = [builder.info.splits[split] for split in splits]
        lengths = (length for split in found for length in split.shard_lengths)
        self._ends = list(itertools.accumulate(lengths))
        self._paths = [os.fspath(path) for split in found for path in split.filepaths]
        count = self._ends[-1] if self._ends else 0
        self._positions = range(count) if positions is None else positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: SupportsIndex) -> Any:
        """One example; see `tfds_builders.xray_features` for what it holds.

        Raises:
          DamagedError: If it can't be read.
        """
        place = int(self._positions[int(index)])
        try:
            return self._source[place]
        except Exception as error:  # Readers and decoders raise almost anything.
            path = self._paths[bisect.bisect_right(self._ends, place)]
            told = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
            raise whole.DamagedError(f"{path}: damaged ({told}). {AGAIN}") from error

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Many examples at once, as PyTorch's DataLoader asks for them."""
        return [self[index] for index in indices]


def open_folder(folder: whole.PathLike) -> Any:
    """What TFDS makes of a prepared folder.

    Raises:
      FileNotFoundError: If a file that describes it is missing.
      DamagedError: If one is not as it was written, or asks for classes that are not
        TFDS's own; if a file of records is cut short.
    """
    folder = epath.Path(folder)
    for name in _DESCRIBED:
        if name != "metadata.json" or (folder / name).exists():
            _check_classes(folder / name, whole.read(folder / name, AGAIN))
    try:
        builder: Any = tfds.builder_from_directory(os.fspath(folder))
        splits = dict(builder.info.splits)
    except Exception as error:  # Of a folder from before digests.
        told = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise whole.DamagedError(f"{folder}: damaged ({told}). {AGAIN}") from error
    for split in splits.values():
        _check_sizes(split)
    return builder


def _check_sizes(split: Any) -> None:
    """Finds a file that was cut short: reading a record would tell of others."""
    paths = [epath.Path(path) for path in split.filepaths]
    there = {path: path.exists() and path.stat().length for path in paths}
    if sum(there.values()) == split.num_bytes:
        return
    for path, size in there.items():
        if not size:
            raise whole.DamagedError(f"{path}: missing, or empty. {AGAIN}")
        with path.open("rb") as file:
            whole.compare(path, whole.of_stream(file), AGAIN)


def _check_classes(path: epath.Path, content: bytes) -> None:
    """Refuses a description by which TFDS would import what is not its own."""
    if path.name != "features.json":
        return
    names: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        names.extend(str(value) for key, value in pairs if key in _CLASS)

    try:
        json.loads(content, object_pairs_hook=look)
    except (ValueError, RecursionError) as error:
        raise whole.DamagedError(f"{path}: damaged ({error}). {AGAIN}") from error
    if strangers := [name for name in names if not name.startswith(_OURS)]:
        raise whole.DamagedError(
            f"{path}: asks for {strangers[0][:80]!r}, which is not TFDS's own and is "
            f"not imported. {AGAIN}"
        )


def tell_reader(where: str, made: Mapping[str, Any]) -> None:
    """Says, once, if images were read otherwise than they are now.

    Args:
      where: What was made of them, for people.
      made: What describes it; `reader` is the version of what read the images.
    """
    then = made.get("reader", "1")
    if then != reader.VERSION and then not in _told:
        _told.add(then)
        _LOG.warning(
            "%s: made of images as reader %s reads them; this version has reader %s, "
            "which may give other pixels for some files.",
            where,
            then,
            reader.VERSION,
        )
