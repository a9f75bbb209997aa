"""The audit: which images and patients occur twice, and what follows from it."""

from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax.audit import copies, exclusions, nestings, signatures
from mtpret_jax.data import manifests

REPORT, COPIES = "audit.json", "copies.csv"
TRAIN = "train"
_RANK = {  # the closest reason comes first, then the nearest hash
    exclusions.SAME_PIXELS: 0,
    exclusions.NEAR_COPY: 1,
    exclusions.SAME_PATIENT: 2 + signatures.HASH_BITS,
}
_ALONE = "image:"  # of the group of an image whose patient is not known
_LOG = logging.getLogger(__name__)
_Cell = tuple[str, str]  # set and split


@dataclasses.dataclass(frozen=True)
class Set:
    """A prepared set and the splits that it is read in.

    Attributes:
      folder: The prepared folder.
      splits: Name of its manifest; "" for the default one.
    """

    folder: epath.PathLike
    splits: str = ""


@dataclasses.dataclass(frozen=True)
class Records:
    """Every image of every set that is in a split, one after the other.

    Attributes:
      dataset: Name of the set, of each image.
      split: Likewise.
      image_id: Likewise.
      patient: Likewise, comparable between sets; "" where not known.
    """

    dataset: list[str]
    split: list[str]
    image_id: list[str]
    patient: list[str]

    def cell(self, index: int) -> _Cell:
        """Set and split of an image."""
        return self.dataset[index], self.split[index]


@dataclasses.dataclass(frozen=True)
class Findings:
    """What the audit found.

    Attributes:
      report: Of plain values, as `audit.json` holds it.
      excluded: Training images that are met again in evaluation.
      copies: Rows of `copies.csv`.
    """

    report: dict[str, Any]
    excluded: list[exclusions.Exclusion]
    copies: list[dict[str, Any]]


def key(sets: Mapping[str, Set]) -> str:
    """A digest that changes with the sets, their content, their splits and the rule."""
    rule = [copies.FARTHEST, copies.LEAST_AGREEMENT, copies.LEAST_AGREEMENT_FAINT]
    parts: list[Any] = [rule, copies.FAINT, copies.BLANK]
    for name, one in sets.items():
        manifest = _manifest(one)
        chosen = "" if manifest is None else manifest.sha256
        parts.append([name, signatures.key(one.folder), chosen])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def audit(sets: Mapping[str, Set]) -> Findings:
    """Compares all images of all splits of prepared sets.

    Args:
      sets: By name.

    Raises:
      FileNotFoundError: If a set is not prepared.
      ValueError: If a set has no such splits, or its manifest was changed.
    """
    records, found = _read(sets)
    twins = copies.find(found)
    excluded = _exclusions(records, twins)
    builders = {
        name: _preparation(one).get("builder", "") for name, one in sets.items()
    }
    overlapping = _count(records, twins)
    report = {
        "key": key(sets),
        "rule": {
            "farthest_hash": copies.FARTHEST,
            "hash_bits": signatures.HASH_BITS,
            "least_agreement": copies.LEAST_AGREEMENT,
            "least_agreement_faint": copies.LEAST_AGREEMENT_FAINT,
        },
        "sets": _describe(sets, records, builders),
        "overlaps": overlapping,
        "nestings": [
            {
                "outer": outer,
                "inner": inner,
                "extent": nesting.extent,
                "copies_found": _pairs_between(overlapping, outer, inner),
            }
            for outer, inner, nesting in nestings.present(builders)
        ],
        "excluded": _summarise(excluded),
        "exclusions_sha256": exclusions.digest(excluded),
    }
    return Findings(report, excluded, list(_listed(records, twins)))


def write(folder: epath.Path, findings: Findings) -> None:
    """Writes the list, all copies and, last, the report into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / exclusions.FILE).write_text(exclusions.text(findings.excluded))
    lines = io.StringIO()
    columns = ["dataset", "split", "image_id"]
    columns += [f"other_{name}" for name in columns]
    writer = csv.DictWriter(
        lines, [*columns, "kind", "distance", "agreement"], lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(findings.copies)
    (folder / COPIES).write_text(lines.getvalue())
    (folder / REPORT).write_text(json.dumps(findings.report, indent=1) + "\n")


def _preparation(one: Set) -> dict[str, Any]:
    path = epath.Path(one.folder) / "preparation.json"
    if not path.exists():
        raise FileNotFoundError(
            f"No preparation.json in {one.folder}: expected a prepared folder. Prepare "
            "the set first: python -m mtpret_jax.preparation."
        )
    return json.loads(path.read_text())


def _manifest(one: Set) -> manifests.Manifest | None:
    return manifests.read(epath.Path(one.folder), _preparation(one), one.splits)


def _read(sets: Mapping[str, Set]) -> tuple[Records, signatures.Signatures]:
    """Images that are in a split, and their signatures in the same order."""
    if not sets:
        raise ValueError("The audit needs at least one prepared set.")
    records, parts = Records([], [], [], []), []
    for name, one in sets.items():
        rows = manifests.read_index(epath.Path(one.folder))
        position = {row["image_id"]: i for i, row in enumerate(rows)}
        kept = []
        for split, members in manifests.members(_manifest(one), rows).items():
            for row in members:
                kept.append(position[row["image_id"]])
                records.dataset.append(name)
                records.split.append(split)
                records.image_id.append(row["image_id"])
                records.patient.append(_patient(name, row["group"]))
        parts.append(signatures.open_folder(one.folder).take(np.array(kept, np.int64)))
    return records, signatures.join(parts)


def _patient(dataset: str, group: str) -> str:
    """A group as a name that may be compared between sets.

    Only one with a namespace, such as "nih:13118", means the same in another set.
    """
    if not group or group.startswith(_ALONE):
        return ""
    return group if ":" in group else f"{dataset}/{group}"


def _members(twins: copies.Copies) -> list[np.ndarray]:
    """Images of each number of `Copies.same`."""
    order = np.argsort(twins.same, kind="stable")
    ends = np.cumsum(np.bincount(twins.same, minlength=len(twins.first)))
    return np.split(order, ends[:-1])


def _edges(
    twins: copies.Copies,
) -> Iterator[tuple[str, np.ndarray, np.ndarray, int, float]]:
    """Kind, the images on both sides, unequal bits and agreement of each relation.

    Among equal pictures both sides are the same images.
    """
    members = _members(twins)
    for images in members:
        if len(images) > 1:
            yield exclusions.SAME_PIXELS, images, images, 0, 1.0
    for (one, other), distance, agreement in zip(
        twins.near, twins.distance, twins.agreement, strict=True
    ):
        left, right = members[one], members[other]
        yield exclusions.NEAR_COPY, left, right, int(distance), float(agreement)


def _exclusions(records: Records, twins: copies.Copies) -> list[exclusions.Exclusion]:
    """The closest reason to exclude each training image for which there is one."""
    found: dict[int, tuple[int, exclusions.Exclusion]] = {}

    def exclude(image: int, other: int, reason: str, distance: int | None) -> None:
        rank = _RANK[reason] + (distance or 0)
        if image in found and found[image][0] <= rank:
            return
        row = exclusions.Exclusion(
            records.dataset[image],
            records.image_id[image],
            reason,
            *(records.dataset[other], records.image_id[other], records.split[other]),
            "" if distance is None else str(distance),
        )
        found[image] = (rank, row)

    for reason, one, other, distance, _ in _edges(twins):
        for left, right in (
            [(one, other)] if one is other else [(one, other), (other, one)]
        ):
            evaluated = [i for i in right if records.split[i] != TRAIN]
            for image in left if evaluated else ():
                if records.split[image] == TRAIN:
                    exclude(int(image), int(evaluated[0]), reason, distance)
    for images in _patients(records).values():
        evaluated = [i for i in images if records.split[i] != TRAIN]
        for image in images if evaluated else ():
            if records.split[image] == TRAIN:
                exclude(image, evaluated[0], exclusions.SAME_PATIENT, None)
    return sorted(row for _, row in found.values())


def _patients(records: Records) -> dict[str, list[int]]:
    """Images of each patient."""
    found: dict[str, list[int]] = {}
    for image, patient in enumerate(records.patient):
        if patient:
            found.setdefault(patient, []).append(image)
    return found


def _count(records: Records, twins: copies.Copies) -> list[dict[str, Any]]:
    """How many pairs of images each two splits of sets share, by kind.

    Of patients, only those who are in more than one split or set.
    """
    pairs: collections.Counter[tuple[str, _Cell, _Cell]] = collections.Counter()
    left: dict[Any, set[int]] = collections.defaultdict(set)
    right: dict[Any, set[int]] = collections.defaultdict(set)

    def add(kind: str, one: Any, other: Any, *, apart: bool) -> None:
        ours, theirs = _by_cell(records, one), _by_cell(records, other)
        if one is other:
            cells = itertools.combinations_with_replacement(sorted(ours), 2)
        else:
            cells = itertools.product(ours, theirs)
        for a, b in cells:
            if apart and a == b:
                continue
            inside = one is other and a == b
            count = len(ours[a]) * (len(ours[a]) - 1) // 2 if inside else 0
            count = count or (0 if inside else len(ours[a]) * len(theirs[b]))
            turned = b < a
            place = (kind, b, a) if turned else (kind, a, b)
            if count:
                pairs[place] += count
                left[place].update(theirs[b] if turned else ours[a])
                right[place].update(ours[a] if turned else theirs[b])

    for kind, one, other, _, _ in _edges(twins):
        add(kind, one, other, apart=False)
    for images in _patients(records).values():
        add(exclusions.SAME_PATIENT, images, images, apart=True)
    return [
        {
            "kind": kind,
            "dataset": a[0],
            "split": a[1],
            "other_dataset": b[0],
            "other_split": b[1],
            "pairs": pairs[kind, a, b],
            "images": len(left[kind, a, b]),
            "other_images": len(right[kind, a, b]),
        }
        for kind, a, b in sorted(pairs)
    ]


def _by_cell(records: Records, images: Any) -> dict[_Cell, list[int]]:
    found: dict[_Cell, list[int]] = {}
    for image in images:
        found.setdefault(records.cell(int(image)), []).append(int(image))
    return found


def _pairs_between(overlapping: list[dict[str, Any]], one: str, other: str) -> int:
    return sum(
        row["pairs"]
        for row in overlapping
        if row["kind"] != exclusions.SAME_PATIENT
        and {row["dataset"], row["other_dataset"]} == {one, other}
    )


def _describe(
    sets: Mapping[str, Set], records: Records, builders: Mapping[str, str]
) -> dict[str, Any]:
    counts = collections.Counter(zip(records.dataset, records.split, strict=True))
    found: dict[str, Any] = {}
    for name, one in sets.items():
        manifest = _manifest(one)
        found[name] = {
            "builder": builders[name],
            "splits": "stored" if manifest is None else manifest.name,
            "images": {s: n for (dataset, s), n in counts.items() if dataset == name},
        }
    return found


def _summarise(excluded: list[exclusions.Exclusion]) -> list[dict[str, Any]]:
    """Excluded images of each set, by reason and by the set and split they copy."""
    counts = collections.Counter(
        (row.dataset, row.reason, row.other_dataset, row.other_split)
        for row in excluded
    )
    names = ("dataset", "reason", "other_dataset", "other_split")
    return [
        {**dict(zip(names, place, strict=True)), "images": count}
        for place, count in sorted(counts.items())
    ]


def _listed(records: Records, twins: copies.Copies) -> Iterator[dict[str, Any]]:
    """One row for each relation; equal pictures are each listed with the first."""
    for kind, one, other, distance, agreement in _edges(twins):
        partners = one[1:] if kind == exclusions.SAME_PIXELS else other[:1]
        for image in partners:
            row: dict[str, Any] = {}
            for prefix, index in (("", one[0]), ("other_", image)):
                row[f"{prefix}dataset"] = records.dataset[index]
                row[f"{prefix}split"] = records.split[index]
                row[f"{prefix}image_id"] = records.image_id[index]
            yield {
                **row,
                "kind": kind,
                "distance": distance,
                "agreement": round(agreement, 4),
            }
