"""Splits as data: rules that make them, manifests that hold them, reading by them.

The rules read no pixel and no file: identifiers, groups and labels in, lists of
identifiers out. `data_sources` applies a manifest of a prepared folder.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import numpy as np
from etils import epath

from tfds_builders import cells, prepared, whole

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
SPLITS = tuple(FRACTIONS)
FOLDER = "splits"  # of a prepared folder; holds <name>.csv of each manifest

_INDEX = "index.csv"
_PREPARATION = "preparation.json"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Which image is in which split. An image that is not listed is in none.

    Attributes:
      name: "official", "muscle" or "grouped".
      version: Rises when the rule behind the name changes.
      split_of: Split of each image by its image_id.
    """

    name: str
    version: int
    split_of: Mapping[str, str]

    def text(self) -> str:
        """The manifest as CSV, sorted, so that equal manifests are equal files."""
        text = io.StringIO()
        writer = cells.Writer(text)
        writer.writerow(["image_id", "split"])
        writer.writerows(sorted(self.split_of.items()))
        return text.getvalue()

    def sha256(self) -> str:
        """Digest of the text."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def counts(self) -> dict[str, int]:
        """Images of each split."""
        counts = collections.Counter(self.split_of.values())
        return {split: counts[split] for split in SPLITS}


def manifest(name: str, version: int, shares: Mapping[str, Sequence[str]]) -> Manifest:
    """A manifest from lists of identifiers, as `grouped` and `muscle` return them."""
    split_of = {i: split for split, found in shares.items() for i in found}
    return Manifest(name, version, split_of)


def muscle(
    ids: Sequence[str], strata: Sequence[str], *, seed: int, name: str
) -> dict[str, list[str]]:
    """Splits images as MUSCLE's published counts imply; patients may cross splits.

    Of the n images of each stratum, n // 10 are for testing and a ninth of the others,
    rounded down, for validation. Which ones is not known; here they come in the order
    of sha256 of "seed|name|identifier".

    Args:
      ids: Unique identifier of each image.
      strata: Stratum of each image; one for all if there is only one.
      seed: Another seed gives another split.
      name: Of the set.

    Returns:
      Identifiers of train, validation and test, each sorted.
    """
    result: dict[str, list[str]] = {split: [] for split in SPLITS}
    by_stratum: dict[str, list[str]] = {}
    for identifier, stratum in zip(ids, strata, strict=True):
        by_stratum.setdefault(stratum, []).append(identifier)
    for found in by_stratum.values():
        in_order = sorted(found, key=lambda i: _digest(seed, name, i))
        test = len(found) // 10
        validation = (len(found) - test) // 9
        result["test"].extend(in_order[:test])
        result["validation"].extend(in_order[test : test + validation])
        result["train"].extend(in_order[test + validation :])
    return {split: sorted(found) for split, found in result.items()}


def grouped(
    ids: Sequence[str],
    groups: Sequence[str],
    strata: Sequence[str],
    *,
    seed: int,
    name: str,
) -> dict[str, list[str]]:
    """Splits images 80/10/10, each group as a whole, each label alike where it can.

    A group's stratum is the commonest label of its images. Strata are taken in turn,
    rare ones first; within one, groups come in the order of sha256 of "seed|name|group"
    and each goes to the split that lacks most of its share, measured in images. So the
    result depends on no order of the arguments, and holds for any machine.

    Args:
      ids: Unique identifier of each image.
      groups: Patient, or group of near copies, of each image.
      strata: Label of each image, "" for unknown.
      seed: Another seed gives another split.
      name: Of the set, so that sets with equal group names are shared out differently.

    Returns:
      Identifiers of train, validation and test, each sorted; empty lists where there
      are too few groups.

    Raises:
      ValueError: If the arguments differ in length or an identifier comes twice.
    """
    if not len(ids) == len(groups) == len(strata):
        raise ValueError(
            f"ids, groups and strata must have equal lengths, got {len(ids)}, "
            f"{len(groups)} and {len(strata)}."
        )
    if len(set(ids)) != len(ids):
        twice = [name for name, n in collections.Counter(ids).items() if n > 1]
        raise ValueError(f"Identifiers must be unique; these are not: {twice[:5]}.")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    by_stratum: dict[str, list[str]] = {}
    for group, indices in members.items():
        counts = collections.Counter(strata[i] for i in indices)
        commonest = min(counts, key=lambda stratum: (-counts[stratum], stratum))
        by_stratum.setdefault(commonest, []).append(group)

    result: dict[str, list[str]] = {split: [] for split in FRACTIONS}
    lacking = dict.fromkeys(FRACTIONS, 0.0)
    for stratum in sorted(by_stratum, key=lambda s: (_size(by_stratum[s], members), s)):
        in_order = sorted(by_stratum[stratum], key=lambda g: _digest(seed, name, g))
        # What one stratum leaves over, the next one makes good.
        for split, share in FRACTIONS.items():
            lacking[split] += share * _size(in_order, members)
        for group in in_order:
            split = _neediest(lacking, len(members[group]))
            lacking[split] -= len(members[group])
            result[split].extend(ids[i] for i in members[group])
    return {split: sorted(found) for split, found in result.items()}


def data_sources(
    prepared_folder: str | os.PathLike[str], name: str = ""
) -> dict[str, Sequence[dict[str, Any]]]:
    """Random access to a prepared set in one of its splits; needs TFDS alone.

        from tfds_builders import splits
        found = splits.data_sources("data/mura/full/1.0.0", "grouped")
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
    builder = prepared.open_folder(folder)
    stored = in_order(builder.info.splits)
    if chosen is None:
        return {split: prepared.Records(builder, [split]) for split in stored}
    # One source of everything: the stored splits one after the other.
    first, count = {}, 0
    for part in stored:
        first[part] = count
        count += builder.info.splits[part].num_examples
    everything = prepared.Records(builder, stored)
    positions: dict[str, list[int]] = {}
    for row in cells.rows(_read(folder / _INDEX)):
        split = chosen.split_of.get(row["image_id"])
        if split is not None:
            position = first[row["split"]] + int(row["record"])
            positions.setdefault(split, []).append(position)
    return {
        split: Part(everything, np.asarray(sorted(positions[split]), np.int64))
        for split in in_order(positions)
    }


class Part(Sequence[dict[str, Any]]):
    """Some examples of a source, by their positions in it, int64 [N]."""

    def __init__(self, source: Sequence[Any], positions: np.ndarray) -> None:
        self._source = source
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, record: SupportsIndex) -> Any:
        """One example; see `tfds_builders.xray_features` for what it holds."""
        return self._source[int(self._positions[record])]

    def __getitems__(self, records: Sequence[int]) -> list[dict[str, Any]]:
        """Many examples at once, as PyTorch's DataLoader asks for them."""
        return [self[record] for record in records]


def read_manifest(folder: epath.Path, name: str = "") -> Manifest | None:
    """The manifest of a prepared folder; None if it has none and none is asked for.

    Args:
      folder: Prepared folder.
      name: Of the manifest; "" for the default one.

    Raises:
      FileNotFoundError: If its file is missing.
      ValueError: If there is no such manifest, or its file was changed.
    """
    path = folder / _PREPARATION
    stored = whole.read_json(path) if path.exists() else {}
    known: dict[str, Any] = stored.get("manifests", {})
    if not known and not name:
        return None
    name = name or stored.get("default_manifest", "")
    if name not in known:
        raise ValueError(
            f"{os.fspath(folder)} has no splits {name!r}; it has {sorted(known)}."
        )
    path = folder / FOLDER / f"{name}.csv"
    text = _read(path)
    if hashlib.sha256(text.encode()).hexdigest() != known[name]["sha256"]:
        raise ValueError(
            f"{os.fspath(path)} is not as it was written: its sha256 is not the one in "
            f"{_PREPARATION}. Prepare the set again."
        )
    split_of = {row["image_id"]: row["split"] for row in cells.rows(text)}
    return Manifest(name, int(known[name]["version"]), split_of)


def in_order(found: Iterable[str]) -> list[str]:
    """Names of splits: train, validation, test, then any others by name."""
    rank = {split: place for place, split in enumerate(SPLITS)}
    return sorted(found, key=lambda split: (rank.get(split, len(rank)), split))


def _read(path: epath.Path) -> str:
    if not path.exists():
        raise FileNotFoundError(
            f"No {path.name} in {os.fspath(path.parent)}: expected a prepared folder. "
            "Prepare the set, or prepare it again."
        )
    return path.read_bytes().decode()


def _size(groups: Sequence[str], members: dict[str, list[int]]) -> int:
    """Images of all these groups."""
    return sum(len(members[group]) for group in groups)


def _digest(seed: int, name: str, group: str) -> bytes:
    return hashlib.sha256(f"{seed}|{name}|{group}".encode()).digest()


def _neediest(lacking: dict[str, float], size: int) -> str:
    """The split that lacks most in proportion to its share.

    A split that would overrun its share by more than half the group comes last, so
    that a large patient does not fill a small split.
    """

    def need(split: str) -> tuple[bool, float]:
        return lacking[split] >= size / 2, lacking[split] / FRACTIONS[split]

    return max(FRACTIONS, key=need)
