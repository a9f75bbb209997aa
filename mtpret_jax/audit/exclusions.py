"""The list of training images that stage 1 must not read, and its file."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence

from tfds_builders.sources import cells

FILE = "exclusions.csv"
SAME_PIXELS, SAME_PATIENT = "same pixels", "same patient"
NEAR_COPY, TURNED_COPY, CROPPED_COPY = "near copy", "turned copy", "cropped copy"


@dataclasses.dataclass(frozen=True, order=True)
class Exclusion:
    """A training image that an evaluation would meet again, itself or by a detour.

    A copy, or another image of the patient, of an excluded training image is excluded
    too, with that one as its reason.

    Attributes:
      dataset: Row of `config.datasets`.
      image_id: Of the training image.
      reason: One of the five above.
      other_dataset: Of the image for evaluation, or the excluded one.
      other_image_id: Likewise; of several the nearest.
      other_split: Likewise: validation or test, or train for an excluded one.
      distance: Unequal bits of the two hashes; "" for a patient.
    """

    dataset: str
    image_id: str
    reason: str
    other_dataset: str
    other_image_id: str
    other_split: str
    distance: str


def text(found: Iterable[Exclusion]) -> str:
    """The list as CSV, sorted, so that equal lists are equal files."""
    lines = io.StringIO()
    columns = [field.name for field in dataclasses.fields(Exclusion)]
    writer = cells.Writer(lines)
    writer.writerow(columns)
    writer.writerows(dataclasses.astuple(row) for row in sorted(found))
    return lines.getvalue()


def parse(content: str) -> list[Exclusion]:
    """Reads what `text` wrote."""
    return [Exclusion(**row) for row in cells.rows(content)]


def digest(found: Iterable[Exclusion]) -> str:
    """sha256 of the list's text."""
    return hashlib.sha256(text(found).encode()).hexdigest()


def by_dataset(found: Sequence[Exclusion]) -> Mapping[str, frozenset[str]]:
    """Identifiers of the excluded images of each set that has any."""
    names = {row.dataset for row in found}
    return {
        name: frozenset(row.image_id for row in found if row.dataset == name)
        for name in names
    }
