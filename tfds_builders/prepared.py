"""The tables of a prepared folder: its index, its splits, and what it was made from.

- `index.csv`: a row for each record: split, place in it, labels in words.
- `splits/<name>.csv`: which image is in which split, in each way to split the set.
- `preparation.json`: what the set was made from, its counts, digests of the tables.

All are written and read here alone. A manifest, `splits/<name>.csv`, may differ from
the split in which an image is stored.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from etils import epath

from tfds_builders import prepared_types, storage, whole, xray_features
from tfds_builders.images import reader
from tfds_builders.sources import cells

INDEX = "index.csv"
PREPARATION = "preparation.json"
MANIFESTS = "splits"  # the folder that holds <name>.csv of each manifest
SPLITS = ("train", "validation", "test")
# The columns of index.csv before and after those of labels and values.
INDEX_START = ("split", "record", "image_id", "group")
INDEX_END = (
    "has_mask",
    "n_boxes",
    "n_landmarks",
    *xray_features.ABOUT,
    "looks_inverted",
    "is_blank",
)

Row = dict[str, str]
NewRow = dict[str, str | int | float]  # before it is written


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Which image is in which split. An image that is not listed is in none.

    Attributes:
      name: "official", "muscle" or "grouped", for example.
      version: A number that rises when the rule behind the name changes.
      split_of: Split of each image by its image_id.
      sha256: Digest of the text; made where it is not given.
    """

    name: str
    version: int
    split_of: Mapping[str, str]
    sha256: str = ""

    def __post_init__(self) -> None:
        """Makes the digest."""
        digest = self.sha256 or hashlib.sha256(self.text().encode()).hexdigest()
        object.__setattr__(self, "sha256", digest)

    @classmethod
    def of_lists(
        cls, name: str, version: int, shares: Mapping[str, Sequence[str]]
    ) -> Manifest:
        """A manifest from the identifiers of each split, as `splits` returns them."""
        return cls(name, version, {i: s for s, ids in shares.items() for i in ids})

    def text(self) -> str:
        """The manifest as CSV, sorted, so that equal manifests are equal files."""
        text = io.StringIO()
        writer = cells.Writer(text)
        writer.writerow(["image_id", "split"])
        writer.writerows(sorted(self.split_of.items()))
        return text.getvalue()

    def counts(self) -> dict[str, int]:
        """Number of images of each split."""
        counts = collections.Counter(self.split_of.values())
        return {split: counts[split] for split in SPLITS}


class IndexWriter:
    """Writes index.csv to an open file of text, one shard after the other."""

    def __init__(self, file: Any, own_columns: Iterable[str]) -> None:
        self._columns = [*INDEX_START, *own_columns, *INDEX_END]
        self._rows = cells.Writer(file)
        self._rows.writerow(self._columns)
        self._counts: collections.Counter[str] = collections.Counter()

    def add(self, split: str, rows: Sequence[NewRow]) -> None:
        """Writes the next rows of a split; their records are numbered from 0 on."""
        for record, row in enumerate(rows, start=self._counts[split]):
            numbered = {**row, "record": record}
            self._rows.writerow(numbered[name] for name in self._columns)
        self._counts[split] += len(rows)


def write_preparation(
    folder: epath.Path,
    content: prepared_types.Content,
    manifests: Mapping[str, Manifest],
) -> None:
    """Writes all but the index, which must be there, and the digests of them.

    Args:
      folder: The folder being prepared.
      content: Entries but for those of the tables and the reader.
      manifests: The manifests by name.
    """
    (folder / MANIFESTS).mkdir(exist_ok=True)
    known: dict[str, prepared_types.ManifestEntry] = {}
    for name, one in manifests.items():
        (folder / MANIFESTS / f"{name}.csv").write_text(one.text())
        known[name] = {
            "version": one.version,
            "sha256": one.sha256,
            "images": one.counts(),
        }
    digest = hashlib.sha256((folder / INDEX).read_bytes()).hexdigest()
    whole_content: prepared_types.Preparation = {
        **content,
        "index_sha256": digest,
        "manifests": known,
        "reader": reader.VERSION,
    }
    (folder / PREPARATION).write_text(json.dumps(whole_content, indent=2) + "\n")


def read_preparation(folder: whole.PathLike) -> prepared_types.Preparation:
    """What `preparation.json` of a folder holds; see `read_json`."""
    return cast(prepared_types.Preparation, read_json(epath.Path(folder) / PREPARATION))


def read_json(path: epath.Path) -> dict[str, Any]:
    """What a JSON file of a prepared folder holds.

    Raises:
      FileNotFoundError: If there is none.
      ValueError: If it is damaged.
    """
    return whole.read_json(_there(path), advice=storage.AGAIN)


def read_manifest(folder: epath.Path, name: str = "") -> Manifest | None:
    """Reads a manifest of a prepared folder.

    Args:
      folder: The prepared folder.
      name: Name of the manifest; "" for the set's default one.

    Returns:
      The manifest; None where the folder has none, so that it is read as stored.

    Raises:
      FileNotFoundError: If the manifest's file is missing.
      ValueError: If the folder has no such manifest, or the file was changed.
    """
    preparation = _told(folder)
    known = preparation.get("manifests", {})
    if not known and not name:
        return None
    name = name or preparation.get("default_manifest", "")
    if name not in known:
        there = f"it has {sorted(known)}" if known else "it has one split only"
        raise ValueError(
            f"Dataset {folder.parent.name!r} has no splits {name!r}; {there} (in "
            f"{os.fspath(folder)}). Ask for another, in a config by "
            f"config.datasets.{folder.parent.name}.splits"
            f"{'' if known else ', or prepare the set again with --rebuild'}."
        )
    path = folder / MANIFESTS / f"{name}.csv"
    digest = _digest(path, known[name]["sha256"])
    return Manifest(name, int(known[name]["version"]), _split_of(path, digest), digest)


def read_index(folder: epath.Path) -> list[Row]:
    """All rows of `index.csv` in stored order: split by split, record by record.

    They are shared by all who read the same file; nobody may change them.

    Raises:
      FileNotFoundError: If there is no index.
      ValueError: If it was changed after preparation, or the records of a stored split
        do not count up from 0.
    """
    wanted = _told(folder).get("index_sha256", "")  # older folders do not say it
    return list(_index(folder / INDEX, _digest(folder / INDEX, wanted)))


def damage(folder: epath.Path, preparation: prepared_types.Preparation) -> str:
    """Says which table of a prepared folder is not as prepared; "" if all are."""
    known = preparation.get("manifests", {})
    digests = {f"{MANIFESTS}/{name}.csv": row["sha256"] for name, row in known.items()}
    if "index_sha256" in preparation:
        digests[INDEX] = preparation["index_sha256"]
    try:
        for name, digest in digests.items():
            _digest(folder / name, digest)
    except (FileNotFoundError, ValueError) as error:
        return str(error).strip(". ")
    return ""


def in_order(found: Iterable[str]) -> list[str]:
    """Names of splits: train, validation, test, then any others by name."""
    rank = {split: place for place, split in enumerate(SPLITS)}
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


def describe(manifest: Manifest, rows: Sequence[Row]) -> prepared_types.SplitsInUse:
    """What a report says of a manifest in use."""
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


def data_sources(
    prepared_folder: str | os.PathLike[str], name: str = ""
) -> dict[str, storage.Records]:
    """Random access to a prepared set in one of its splits; needs TFDS alone.

        from tfds_builders import prepared
        found = prepared.data_sources("data/mura/full/1.0.0", "grouped")
        image = found["train"][0]["image"]  # uint8 [H, W, 1]

    Images come in the order in which they are stored. Those that a manifest does not
    list, or that were set aside in preparation, are in no split.

    Args:
      prepared_folder: `<data_dir>/<builder>/<config>/<version>`.
      name: "official", "muscle" or "grouped", as far as the set has it; "" for the
        set's default. A folder without manifests is read as it is stored.

    Returns:
      For each split that has images, a sequence that can be pickled, as PyTorch's
      DataLoader and Grain take it.

    Raises:
      FileNotFoundError: If a file of the folder is missing.
      ValueError: If there is no such manifest, or a file is not as it was written.
    """
    folder = epath.Path(prepared_folder)
    chosen = read_manifest(folder, name)
    builder = storage.open_folder(folder)
    stored = in_order(builder.info.splits)
    if chosen is None:
        return {split: storage.Records(builder, [split]) for split in stored}
    positions: dict[str, list[int]] = {}
    for position, row in enumerate(read_index(folder)):
        split = chosen.split_of.get(row["image_id"])
        if split is not None:
            positions.setdefault(split, []).append(position)
    return {
        split: storage.Records(builder, stored, positions=positions[split])
        for split in in_order(positions)
    }


def _told(folder: epath.Path) -> prepared_types.Preparation:
    """What `preparation.json` holds; nothing where there is none."""
    is_there = (folder / PREPARATION).exists()
    return (
        read_preparation(folder) if is_there else cast(prepared_types.Preparation, {})
    )


def _there(path: epath.Path) -> epath.Path:
    if not path.exists():
        raise FileNotFoundError(
            f"No {path.name} in {os.fspath(path.parent)}: expected a prepared folder. "
            "Prepare the set, or prepare it again with --rebuild."
        )
    return path


def _digest(path: epath.Path, wanted: str) -> str:
    """The SHA-256 of a table, compared with the one that was kept; "" for any."""
    digest = hashlib.sha256(_there(path).read_bytes()).hexdigest()
    if wanted and digest != wanted:
        raise ValueError(
            f"{os.fspath(path)} was changed after preparation: its sha256 is {digest}, "
            f"in {PREPARATION} {wanted}. Prepare the set again with --rebuild."
        )
    return digest


# Each task and split opens its set anew: what is read of a large one is shared.
@functools.lru_cache(maxsize=64)
def _split_of(path: epath.Path, digest: str) -> Mapping[str, str]:
    del digest  # Of the content; another content is read anew.
    rows = cells.rows(path.read_bytes().decode())
    return {row["image_id"]: row["split"] for row in rows}


@functools.lru_cache(maxsize=64)
def _index(path: epath.Path, digest: str) -> Sequence[Row]:
    del digest  # As in `_split_of`.
    stored: dict[str, list[Row]] = {}
    for row in cells.rows(path.read_bytes().decode()):
        stored.setdefault(row["split"], []).append(row)
    for split, rows in stored.items():
        rows.sort(key=lambda row: int(row["record"]))
        if [int(row["record"]) for row in rows] != list(range(len(rows))):
            raise ValueError(
                f"Records of split {split!r} in {os.fspath(path)} do not count up from "
                "0. Prepare the set again with --rebuild."
            )
    return [row for split in in_order(stored) for row in stored[split]]
