"""Which image is in which split: a prepared folder's manifests, and its index.

A manifest, `splits/<name>.csv`, says the split of each image and may differ from the
split in which the image is stored. Written in preparation; here they are only read.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from tfds_builders import cells, whole

Row = dict[str, str]
INDEX = "index.csv"
PREPARATION = "preparation.json"
_INDEX_DIGEST = "index_sha256"  # its name in preparation.json
_ORDER = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Which image is in which split. An image that is not listed is in none.

    Attributes:
      name: For example "official", "muscle" or "grouped".
      version: Of the rule behind the name.
      sha256: Digest of the file.
      split_of: Split of each image by its image_id.
    """

    name: str
    version: int
    sha256: str
    split_of: Mapping[str, str]


def read(
    folder: epath.Path, preparation: Mapping[str, Any], name: str = ""
) -> Manifest | None:
    """Reads a manifest of a prepared folder.

    Args:
      folder: The prepared folder.
      preparation: What its `preparation.json` holds.
      name: Of the manifest; "" for the set's default one.

    Returns:
      The manifest; None where the folder has none, so that it is read as stored.

    Raises:
      FileNotFoundError: If the manifest's file is missing.
      ValueError: If the folder has no such manifest, or the file was changed.
    """
    known = preparation.get("manifests", {})
    if not known and not name:
        return None
    name = name or preparation.get("default_manifest", "")
    if name not in known:
        there = f"it has {sorted(known)}" if known else "it has one split only"
        raise ValueError(
            f"Dataset {folder.parent.name!r} has no splits {name!r}; {there} (in "
            f"{os.fspath(folder)}). Correct config.datasets.{folder.parent.name}.splits"
            f"{'' if known else ', or prepare the set again with --rebuild'}."
        )
    path = folder / "splits" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(
            f"No {path.name} in {os.fspath(path.parent)}, which preparation.json "
            "names. Prepare the set again with --rebuild."
        )
    content = path.read_bytes()
    digest, wanted = hashlib.sha256(content).hexdigest(), known[name]["sha256"]
    if digest != wanted:
        raise ValueError(
            f"{os.fspath(path)} was changed after preparation: its sha256 is {digest}, "
            f"in preparation.json {wanted}. Prepare the set again with --rebuild."
        )
    split_of = _split_of(path, digest)
    return Manifest(name, int(known[name]["version"]), digest, split_of)


# Each task and split opens its set anew: what is read of a large one is shared.
@functools.lru_cache(maxsize=64)
def _split_of(path: epath.Path, digest: str) -> Mapping[str, str]:
    del digest  # Of the content; another content is read anew.
    return {row["image_id"]: row["split"] for row in _rows(path)}


def _rows(path: epath.Path) -> Iterator[Row]:
    return cells.rows(path.read_bytes().decode())


def damage(folder: epath.Path, preparation: Mapping[str, Any]) -> str:
    """Says which table of a prepared folder is not as prepared; "" if all are."""
    wanted = {f"splits/{n}.csv": m for n, m in preparation.get("manifests", {}).items()}
    digests = {name: row["sha256"] for name, row in wanted.items()}
    if preparation.get(_INDEX_DIGEST):  # Older folders do not say it.
        digests[INDEX] = preparation[_INDEX_DIGEST]
    for name, digest in digests.items():
        path = folder / name
        if not path.exists():
            return f"it has no {name}"
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return f"its {name} was changed after preparation"
    return ""


def read_index(folder: epath.Path) -> list[Row]:
    """All rows of `index.csv` in stored order: split by split, record by record.

    They are shared by all who read the same file; nobody may change them.

    Raises:
      FileNotFoundError: If there is no index.
      ValueError: If it was changed after preparation, or the records of a stored split
        do not count up from 0.
    """
    path = folder / INDEX
    if not path.exists():
        raise FileNotFoundError(
            f"No {INDEX} in {os.fspath(folder)}: expected a prepared folder. "
            "Prepare the set again with --rebuild."
        )
    content = path.read_bytes()
    digest, wanted = hashlib.sha256(content).hexdigest(), _index_digest(folder)
    if wanted and digest != wanted:
        raise ValueError(
            f"{os.fspath(path)} was changed after preparation: its sha256 is {digest}, "
            f"in {PREPARATION} {wanted}. Prepare the set again with --rebuild."
        )
    return list(_index(path, digest))


@functools.lru_cache(maxsize=64)
def _index(path: epath.Path, digest: str) -> Sequence[Row]:
    del digest  # As in `_split_of`.
    stored: dict[str, list[Row]] = {}
    for row in _rows(path):
        stored.setdefault(row["split"], []).append(row)
    for split, rows in stored.items():
        rows.sort(key=lambda row: int(row["record"]))
        if [int(row["record"]) for row in rows] != list(range(len(rows))):
            raise ValueError(
                f"Records of split {split!r} in {os.fspath(path)} do not count up from "
                "0. Prepare the set again with --rebuild."
            )
    return [row for split in in_order(stored) for row in stored[split]]


def _index_digest(folder: epath.Path) -> str:
    """The index's sha256 as prepared; "" in a folder that does not say it."""
    path = folder / PREPARATION
    if not path.exists():
        return ""
    return whole.read_json(path).get(_INDEX_DIGEST, "")


def in_order(found: Iterable[str]) -> list[str]:
    """Names of splits: train, validation, test, then any others by name."""
    rank = {split: place for place, split in enumerate(_ORDER)}
    return sorted(found, key=lambda split: (rank.get(split, len(rank)), split))


def members(manifest: Manifest | None, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each split, in their order; without a manifest the stored splits."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        split = row["split"]
        if manifest is not None:
            split = manifest.split_of.get(row["image_id"], "")
        if split:
            found.setdefault(split, []).append(row)
    return {split: found[split] for split in in_order(found)}


def describe(manifest: Manifest, rows: Sequence[Row]) -> dict[str, Any]:
    """What a report says of a manifest in use, as plain values.

    Returns:
      `name`, `version` and `sha256`; `images`: those there are of each split;
      `groups_in_several_splits`: patients whose images are not all in one.
    """
    found = members(manifest, rows)
    places = collections.Counter(
        group for part in found.values() for group in {row["group"] for row in part}
    )
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": manifest.sha256,
        "images": {split: len(part) for split, part in found.items()},
        "groups_in_several_splits": sum(count > 1 for count in places.values()),
    }
