"""The audit: which images and patients occur twice, and what follows from it."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax.audit import copies, exclusions, findings, relations, signatures
from tfds_builders import prepared, whole
from tfds_builders.sources import identities

REPORT, COPIES = "audit.json", "copies.csv"
TRAIN = "train"
_RANK = {  # the closest reason comes first, then the nearest hash
    exclusions.SAME_PIXELS: 0,
    exclusions.NEAR_COPY: 1,
    exclusions.TURNED_COPY: 1 + signatures.HASH_BITS,
    exclusions.CROPPED_COPY: 1 + 2 * signatures.HASH_BITS,
    exclusions.SAME_PATIENT: 1 + 3 * signatures.HASH_BITS,
}
_ALONE = "image:"  # of the group of an image whose patient is not known
_LOG = logging.getLogger(__name__)


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
class Findings:
    """What the audit found.

    Attributes:
      report: Counts, as `audit.json` holds them.
      excluded: Training images that are met again in evaluation.
      copies: Rows of `copies.csv`.
    """

    report: findings.Report
    excluded: list[exclusions.Exclusion]
    copies: list[relations.Copy]


def key(sets: Mapping[str, Set]) -> str:
    """A digest that changes with the sets, their content, their splits and the rule."""
    parts: list[Any] = [copies.RULE]
    for name, one in sets.items():
        manifest = prepared.read_manifest(epath.Path(one.folder), one.splits)
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
    twins = relations.of_copies(copies.find(found))
    everything = [*twins, *relations.of_patients(records)]
    excluded = _exclusions(records, everything)
    builders = {
        name: prepared.read_preparation(one.folder).get("builder", "")
        for name, one in sets.items()
    }
    overlapping = relations.count(records, everything)
    report = findings.Report(
        key=key(sets),
        rule=copies.RULE,
        sets=_describe(sets, records, builders),
        overlaps=overlapping,
        nestings=[
            findings.Nesting(
                outer, inner, extent, _pairs_between(overlapping, outer, inner)
            )
            for outer, inner, extent in exclusions.nestings(builders)
        ],
        excluded=_summarise(excluded),
        exclusions_sha256=exclusions.digest(excluded),
    )
    return Findings(report, excluded, relations.listed(records, twins))


def read(folder: epath.Path) -> Findings | None:
    """What `write` wrote, but for the rows of all copies; None where there is nothing.

    Raises:
      ValueError: If the list was changed since.
    """
    path = folder / exclusions.FILE
    if not (folder / REPORT).exists():
        return None
    report = findings.Report.of_json(whole.read_json(folder / REPORT))
    excluded = exclusions.parse(whole.read(path).decode()) if path.exists() else []
    if exclusions.digest(excluded) != report.exclusions_sha256:
        raise ValueError(
            f"{path} was changed after the audit; its sha256 is not the one in "
            f"{REPORT}. Restore it, or use another --workdir."
        )
    return Findings(report, excluded, [])


def write(folder: epath.Path, found: Findings) -> None:
    """Writes the list, all copies and, last, the report into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    whole.write(folder / exclusions.FILE, exclusions.text(found.excluded))
    whole.write(folder / COPIES, exclusions.table(relations.Copy, found.copies))
    whole.write_json(folder / REPORT, dataclasses.asdict(found.report))


def _read(sets: Mapping[str, Set]) -> tuple[relations.Records, signatures.Signatures]:
    """Images that are in a split, and their signatures in the same order."""
    if not sets:
        raise ValueError("The audit needs at least one prepared set.")
    records, parts = relations.Records([], [], [], []), []
    for name, one in sets.items():
        folder = epath.Path(one.folder)
        rows = prepared.read_index(folder)
        chosen = prepared.read_manifest(folder, one.splits)
        preparation = prepared.read_preparation(folder)
        has_namespace = bool(preparation.get("has_patient_namespace"))
        position = {row["image_id"]: i for i, row in enumerate(rows)}
        kept = []
        for split, members in prepared.members(chosen, rows).items():
            for row in members:
                kept.append(position[row["image_id"]])
                records.dataset.append(name)
                records.split.append(split)
                records.image_id.append(row["image_id"])
                records.patient.append(
                    _patient(name, row["group"], has_namespace=has_namespace)
                )
        parts.append(signatures.open_folder(one.folder).take(np.array(kept, np.int64)))
    return records, signatures.join(parts)


def _patient(dataset: str, group: str, *, has_namespace: bool) -> str:
    """A group as a name that may be compared between sets.

    Only one with a namespace, such as "nih:13118", means the same in another set; that
    a group has one is for the set to say, since a colon may stand for anything.
    """
    if not group or group.startswith(_ALONE):
        return ""
    if has_namespace and ":" in group:
        return identities.canonical(group)  # Another set may write 7 as 007.
    return f"{dataset}/{group}"


def _exclusions(
    records: relations.Records, found: Sequence[relations.Relation]
) -> list[exclusions.Exclusion]:
    """The closest reason to exclude each training image for which there is one.

    First what is related to an image of evaluation, then what is related to an
    excluded image, and so on until nothing is added.
    """
    left = {i for i, split in enumerate(records.split) if split == TRAIN}
    reached = set(range(len(records.split))) - left
    excluded: list[exclusions.Exclusion] = []
    while reached:
        added = _related(records, found, left, reached)
        excluded += added.values()
        reached = set(added)
        left -= reached
        found = [r for r in found if not left.isdisjoint((*r.one, *r.other))]
    return sorted(excluded)


def _related(
    records: relations.Records,
    found: Sequence[relations.Relation],
    left: Collection[int],
    reached: Collection[int],
) -> dict[int, exclusions.Exclusion]:
    """The closest reason for each image in `left` related to one in `reached`."""
    best: dict[int, tuple[int, exclusions.Exclusion]] = {}
    for relation in found:
        rank = _RANK[relation.kind] + (relation.distance or 0)
        distance = "" if relation.distance is None else str(relation.distance)
        sides = ((relation.one, relation.other), (relation.other, relation.one))
        for images, others in sides:
            other = next((i for i in others if i in reached), None)
            if other is None:
                continue
            for image in images:
                is_closer = image not in best or rank < best[image][0]
                if image in left and is_closer:
                    row = exclusions.Exclusion(
                        records.dataset[image],
                        records.image_id[image],
                        relation.kind,
                        records.dataset[other],
                        records.image_id[other],
                        records.split[other],
                        distance,
                    )
                    best[image] = (rank, row)
    return {image: row for image, (_, row) in best.items()}


def _pairs_between(found: Sequence[findings.Overlap], one: str, other: str) -> int:
    return sum(
        row.pairs
        for row in found
        if row.kind != exclusions.SAME_PATIENT
        and {row.dataset, row.other_dataset} == {one, other}
    )


def _describe(
    sets: Mapping[str, Set], records: relations.Records, builders: Mapping[str, str]
) -> dict[str, findings.SetCounts]:
    counts = collections.Counter(zip(records.dataset, records.split, strict=True))
    found = {}
    for name, one in sets.items():
        manifest = prepared.read_manifest(epath.Path(one.folder), one.splits)
        found[name] = findings.SetCounts(
            builder=builders[name],
            splits="stored" if manifest is None else manifest.name,
            images={s: n for (dataset, s), n in counts.items() if dataset == name},
        )
    return found


def _summarise(excluded: list[exclusions.Exclusion]) -> list[findings.Excluded]:
    """Excluded images of each set, by reason and by the set and split they copy."""
    counts = collections.Counter(
        (row.dataset, row.reason, row.other_dataset, row.other_split)
        for row in excluded
    )
    return [
        findings.Excluded(*place, images) for place, images in sorted(counts.items())
    ]
