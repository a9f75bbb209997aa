"""Rules that make splits: which image is for training, for validation, for testing.

They read no pixel and no file: identifiers, groups and labels in, lists of identifiers
out. `prepared.Manifest` holds what they give.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Sequence

FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
SPLITS = tuple(FRACTIONS)


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
      name: Name of the dataset.

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
      name: Name of the dataset, so that datasets with equal group names are split
        differently.

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
