"""When two names, or ids of patients, are one, however tables write them."""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Iterable, Mapping

_WHOLE = re.compile(r"(\d+)\.0+")  # a number that a spreadsheet made a fraction
_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")  # before a number


def folded(name: str) -> str:
    """A name without case, without blanks at its ends, and with accents coded once."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def canonical(identifier: str) -> str:
    """An id without what programs change when they write it: 7, 7.0, 007; P1, p1.

    Case, blanks at the ends, coding of accents, zeros before a number and a fraction
    of zeros after it do not count.
    """
    text = folded(identifier)
    whole = _WHOLE.fullmatch(text)
    return _ZEROS.sub("", whole[1] if whole else text)


def spellings(identifiers: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """The ways in which each id is written, sorted, by its canonical form."""
    found: dict[str, set[str]] = collections.defaultdict(set)
    for identifier in identifiers:
        found[canonical(identifier)].add(identifier)
    return {key: tuple(sorted(written)) for key, written in found.items()}
