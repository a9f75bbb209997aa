"""Ids that are written in several ways."""

import pytest

from tfds_builders.sources import identities


@pytest.mark.parametrize(
    "written",
    [
        ("7", "7.0", "007", " 7 ", "7.00"),
        ("P1", "p1", "P001", "p01"),
        ("nih:13118", "NIH:00013118"),
        ("Jos\u00e9", "jose\u0301"),
    ],
)
def test_ways_to_write_an_id_are_one(written: tuple[str, ...]):
    assert len({identities.canonical(one) for one in written}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "70"),
        ("7", "7.5"),
        ("P1", "P10"),
        ("1.2.05", "1.2.5"),
        ("0", "00a"),
        ("a", ""),
    ],
)
def test_other_ids_stay_apart(one: str, other: str):
    assert identities.canonical(one) != identities.canonical(other)


def test_spellings_are_listed():
    found = identities.spellings(["7", "8", "007", "7"])

    assert found == {"7": ("007", "7"), "8": ("8",)}
