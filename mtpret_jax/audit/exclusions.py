"""The list of training images that stage 1 must not read, and its file.

Also which releases are known to contain images of others.

Source: the releases' own pages, and https://lhncbc.nlm.nih.gov for the two TB sets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfds_builders.sources import cells

FILE = "exclusions.csv"
SAME_PIXELS, SAME_PATIENT = "same pixels", "same patient"
NEAR_COPY, TURNED_COPY, CROPPED_COPY = "near copy", "turned copy", "cropped copy"
# Builder of the set that contains images, of the set they come from, and which ones.
NESTINGS = (
    ("chest_xray_masks", "shenzhen_cxr", "all of its X-rays that have a mask"),
    ("chest_xray_masks", "montgomery_cxr", "all 138"),
    ("tbx11k", "shenzhen_cxr", "those in imgs/extra"),
    ("tbx11k", "montgomery_cxr", "those in imgs/extra"),
)


@dataclasses.dataclass(frozen=True, order=True)
class Exclusion:
    """A training image that an evaluation would meet again, itself or by a detour.

    A copy, or another image of the patient, of an excluded training image is excluded
    too, with that one as its reason.

    Attributes:
      dataset: Name of the row in `config.datasets`.
      image_id: Identifier of the training image.
      reason: One of the five above.
      other_dataset: Set of the image for evaluation, or of the excluded one.
      other_image_id: Identifier of that image; of several the nearest.
      other_split: Split of that image: train for an excluded one.
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
    return table(Exclusion, sorted(found))


def table(row: type, rows: Iterable[Any]) -> str:
    """Instances of a dataclass as CSV, a column for each field."""
    lines = io.StringIO()
    writer = cells.Writer(lines)
    writer.writerow([field.name for field in dataclasses.fields(row)])
    writer.writerows(dataclasses.astuple(each) for each in rows)
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


def nestings(builders: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Sets that contain images of others, by name, and which images.

    Args:
      builders: Name of the builder of each set.
    """
    return [
        (outer, inner, extent)
        for outer_builder, inner_builder, extent in NESTINGS
        for outer, one in builders.items()
        for inner, other in builders.items()
        if (one, other) == (outer_builder, inner_builder)
    ]
