"""Which images belong together, as copies or by their patient, and how many.

Knows images by their place in one long table; opens no file.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from mtpret_jax.audit import copies, exclusions, findings

_Cell = tuple[str, str]  # set and split


@dataclasses.dataclass(frozen=True)
class Records:
    """Every image of every set that is in a split, one after the other.

    Attributes:
      dataset: Set of each image.
      split: Split of each image.
      image_id: Identifier of each image.
      patient: Patient of each image, comparable between sets; "" where not known.
    """

    dataset: list[str]
    split: list[str]
    image_id: list[str]
    patient: list[str]

    def cell(self, index: int) -> _Cell:
        """Set and split of an image."""
        return self.dataset[index], self.split[index]


@dataclasses.dataclass(frozen=True)
class Relation:
    """Images that show the same.

    Attributes:
      kind: As the reasons in `exclusions`.
      one: Images, rising.
      other: Images, each of which belongs to each of `one`; the same ones where all
        images of the relation belong together.
      distance: Unequal bits of the hashes; None for a patient.
      agreement: Correlation of the details; 1 for equal pixels.
    """

    kind: str
    one: tuple[int, ...]
    other: tuple[int, ...]
    distance: int | None = None
    agreement: float = 1.0

    @property
    def together(self) -> bool:
        """Whether all its images belong together."""
        return self.one == self.other


@dataclasses.dataclass(frozen=True)
class Copy:
    """A row of `copies.csv`: two images that are copies, and how alike they are."""

    dataset: str
    split: str
    image_id: str
    other_dataset: str
    other_split: str
    other_image_id: str
    kind: str
    distance: int | None
    agreement: float


def of_copies(twins: copies.Copies) -> list[Relation]:
    """Groups of images with equal pixels, then pairs of groups that are copies."""
    members: list[list[int]] = [[] for _ in twins.first]
    for image, number in enumerate(twins.same.tolist()):
        members[number].append(image)
    groups = [tuple(images) for images in members]
    found = [
        Relation(exclusions.SAME_PIXELS, images, images, 0)
        for images in groups
        if len(images) > 1
    ]
    for (one, other), kind, distance, agreement in zip(
        twins.near.tolist(),
        twins.kind,
        twins.distance.tolist(),
        twins.agreement.tolist(),
        strict=True,
    ):
        found.append(Relation(kind, groups[one], groups[other], distance, agreement))
    return found


def of_patients(records: Records) -> list[Relation]:
    """Images of each patient who has more than one."""
    found: dict[str, list[int]] = {}
    for image, patient in enumerate(records.patient):
        if patient:
            found.setdefault(patient, []).append(image)
    return [
        Relation(exclusions.SAME_PATIENT, tuple(images), tuple(images))
        for images in found.values()
        if len(images) > 1
    ]


def count(records: Records, relations: Sequence[Relation]) -> list[findings.Overlap]:
    """How many pairs of images each two splits of sets share, by kind.

    Images of one patient in one split of one set are not counted.
    """
    pairs: collections.Counter[tuple[str, _Cell, _Cell]] = collections.Counter()
    images: dict[tuple[str, _Cell, _Cell], tuple[set[int], set[int]]] = {}
    for relation in relations:
        for a, b, ours, theirs in _between(records, relation):
            if a != b or not relation.together:
                number = len(ours) * len(theirs)
            elif relation.kind == exclusions.SAME_PATIENT:
                continue
            else:
                number = len(ours) * (len(ours) - 1) // 2
            if number:
                place = (relation.kind, a, b)
                pairs[place] += number
                left, right = images.setdefault(place, (set(), set()))
                # Within one split every image is on both sides.
                left.update(ours, theirs if a == b else ())
                right.update(theirs, ours if a == b else ())
    return [
        findings.Overlap(kind, *a, *b, number, *map(len, images[kind, a, b]))
        for (kind, a, b), number in sorted(pairs.items())
    ]


def _between(
    records: Records, relation: Relation
) -> Iterator[tuple[_Cell, _Cell, list[int], list[int]]]:
    """Each two splits that a relation joins, the lower name first, and its images."""
    ours, theirs = _by_cell(records, relation.one), _by_cell(records, relation.other)
    if relation.together:
        cells = itertools.combinations_with_replacement(sorted(ours), 2)
    else:
        cells = itertools.product(ours, theirs)
    for a, b in cells:
        if a <= b:
            yield a, b, ours[a], theirs[b]
        else:
            yield b, a, theirs[b], ours[a]


def _by_cell(records: Records, images: Sequence[int]) -> dict[_Cell, list[int]]:
    found: dict[_Cell, list[int]] = {}
    for image in images:
        found.setdefault(records.cell(image), []).append(image)
    return found


def listed(records: Records, relations: Sequence[Relation]) -> list[Copy]:
    """One row for each relation; equal images are each listed with the first."""
    rows = []
    for relation in relations:
        partners = relation.one[1:] if relation.together else relation.other[:1]
        for image in partners:
            sides = (
                (records.dataset[i], records.split[i], records.image_id[i])
                for i in (relation.one[0], image)
            )
            agreement = round(relation.agreement, 4)
            one, other = sides
            rows.append(Copy(*one, *other, relation.kind, relation.distance, agreement))
    return rows
