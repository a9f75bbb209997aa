"""Sets that are known to contain images of other sets, by the names of their builders.

Source: the releases' own pages, and https://lhncbc.nlm.nih.gov for the two TB sets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Nesting:
    """A release that contains images of another.

    Attributes:
      outer: Builder of the set that contains them.
      inner: Builder of the set that they come from.
      extent: Which images.
    """

    outer: str
    inner: str
    extent: str


NESTINGS = (
    Nesting("chest_xray_masks", "shenzhen_cxr", "all of its X-rays that have a mask"),
    Nesting("chest_xray_masks", "montgomery_cxr", "all 138"),
    Nesting("tbx11k", "shenzhen_cxr", "those in imgs/extra"),
    Nesting("tbx11k", "montgomery_cxr", "those in imgs/extra"),
)


def present(builders: Mapping[str, str]) -> list[tuple[str, str, Nesting]]:
    """Nestings among sets, given the builder of each; with the names of both sets."""
    return [
        (outer, inner, nesting)
        for nesting in NESTINGS
        for outer, outer_builder in builders.items()
        for inner, inner_builder in builders.items()
        if (outer_builder, inner_builder) == (nesting.outer, nesting.inner)
    ]
