"""Feature tables: those of `embed` and those made elsewhere, checked and matched.

A table is a `.npz` or `.parquet` with a row for each image: `feature` [N, D] and
`image_id` [N], as the prepared set's index has it or with `<dataset>/` before it. What
`embed` writes has `embedding` and `path` instead: an image is found by the end of its
path, with or without the file's suffix. `about` may hold JSON, a table with
`parameters`, `images` (different ones learnt from) and `updates`, as far as known.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pyarrow import parquet

FORMS = (".npz", ".parquet")
_COLUMNS = (("image_id", "feature"), ("path", "embedding"))
_ABOUT = ("about", "model")
_MAKE = (
    "Give one row for each image of the splits train, validation and test, named by "
    "its image_id or '<dataset>/<image_id>'"
)


@dataclasses.dataclass(frozen=True)
class Table:
    """Features of images, as a file has them.

    Attributes:
      where: Name of the encoder and its file, for messages.
      names: What the images are called, [N].
      are_paths: Whether these are paths of files.
      feature: float32 [N, D].
      about: What the file says of its encoder; often nothing.
      sha256: SHA-256 of the file.
    """

    where: str
    names: Sequence[str]
    are_paths: bool
    feature: np.ndarray
    about: Mapping[str, Any]
    sha256: str

    def rows(self, dataset: str, wanted: Sequence[str]) -> np.ndarray:
        """The row of each image, int64 [wanted].

        Args:
          dataset: Name of the set.
          wanted: The `image_id` of images of this set.

        Raises:
          ValueError: If one is not there, or there twice.
        """
        place: dict[str, int] = {}
        known, twice = set(wanted), []
        for row, name in enumerate(self.names):
            keys = tails(name) if self.are_paths else _ids(name, dataset)
            found = next((key for key in keys if key in known), None)
            if found in place:
                twice.append(found)
            elif found is not None:
                place[found] = row
        if twice:
            raise ValueError(
                f"{self.where}: {len(twice)} images of dataset '{dataset}' are there "
                f"more than once, such as '{twice[0]}'. {_MAKE}, once."
            )
        missing = [name for name in wanted if name not in place]
        if missing:
            raise ValueError(
                f"{self.where}: {len(missing)} of the {len(wanted)} images that are "
                f"used of dataset '{dataset}' are not there, such as '{missing[0]}' "
                f"(the first of its {len(self.names)} rows is '{self.names[0]}'). "
                f"{_MAKE}."
            )
        return np.array([place[name] for name in wanted], np.int64)


def read(name: str, path: pathlib.Path) -> Table:
    """Reads a table and checks it.

    Args:
      name: Name of its encoder, for messages.
      path: A file of one of `FORMS`.

    Raises:
      FileNotFoundError: If it is not there.
      ValueError: If it has another form, names twice, or numbers that are not finite.
    """
    where = f"Encoder '{name}' ({path})"
    content = path.read_bytes()
    read_file = _read_npz if path.suffix == ".npz" else _read_parquet
    try:
        found = read_file(path)
    except Exception as error:  # Both libraries raise almost anything.
        raise ValueError(f"{where}: damaged, or no {path.suffix} ({error}).") from error
    columns = next((both for both in _COLUMNS if {*both} <= {*found}), None)
    if columns is None:
        raise ValueError(
            f"{where}: expected 'image_id' and 'feature', or 'path' and 'embedding' as "
            f"`embed` writes, got {sorted(found)}. {_MAKE}."
        )
    names, feature = (np.asarray(found[column]) for column in columns)
    if feature.ndim != 2 or feature.dtype.kind not in "fiu" or not feature.size:
        raise ValueError(
            f"{where}: '{columns[1]}' must hold numbers [N, D], got {feature.dtype} "
            f"{list(feature.shape)}."
        )
    if names.shape != (len(feature),):
        raise ValueError(
            f"{where}: {list(names.shape)} names of {len(feature)} rows of features. "
            f"{_MAKE}."
        )
    names = [str(each) for each in names.tolist()]
    often, count = collections.Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{where}: {count} rows are called '{often}'. {_MAKE}, once.")
    with np.errstate(over="ignore"):
        feature = feature.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(feature).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{where}: {len(wrong)} of {len(feature)} rows hold NaN or infinity, such "
            f"as that of '{names[wrong[0]]}'. Compute them again, in float32."
        )
    about = _about(where, found)
    digest = hashlib.sha256(content).hexdigest()
    return Table(where, names, columns[0] == "path", feature, about, digest)


def tails(path: str) -> Iterator[str]:
    """Every end of a path, the longest first, with and without the file's suffix."""
    parts = path.replace("\\", "/").split("/")
    for first in range(len(parts)):
        tail = "/".join(parts[first:])
        yield tail
        stem, dot, suffix = tail.rpartition(".")
        if stem and dot and "/" not in suffix:
            yield stem


def _ids(name: str, dataset: str) -> Iterator[str]:
    """What a name without a path may mean in a set."""
    yield name
    if name.startswith(f"{dataset}/"):
        yield name.removeprefix(f"{dataset}/")


def _read_npz(path: pathlib.Path) -> dict[str, Any]:
    """The arrays that are asked for, of those that are there."""
    names = {name for both in _COLUMNS for name in both} | {*_ABOUT}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files if name in names}


def _read_parquet(path: pathlib.Path) -> dict[str, Any]:
    """The columns that are asked for, lists as arrays [N, D], and the metadata."""
    names = [name for both in _COLUMNS for name in both]
    table = parquet.read_table(path)
    found: dict[str, Any] = {}
    for name in (name for name in names if name in table.column_names):
        values = table.column(name).to_pylist()
        found[name] = np.array(values) if values else np.empty(0)
    told = table.schema.metadata or {}
    return found | {n: told[n.encode()].decode() for n in _ABOUT if n.encode() in told}


def _about(where: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of its encoder, as a table."""
    said = next((str(found[name]) for name in _ABOUT if name in found), "{}")
    try:
        about = json.loads(said)
    except ValueError as error:
        raise ValueError(f"{where}: 'about' holds no JSON ({error}).") from error
    if not isinstance(about, dict):
        raise ValueError(f"{where}: 'about' must hold a table in JSON, got {said!r}.")
    return about
