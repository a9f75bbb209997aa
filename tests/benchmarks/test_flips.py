"""Damaged files that a command reads again: told by name, never taken for whole."""

import pytest

from benchmarks import flips


@pytest.mark.slow
def test_no_flipped_bit_and_no_cut_goes_unnoticed(tmp_path):
    targets = flips.make(tmp_path)

    found = list(flips.try_all(targets, 20, seed=1))

    wrong = [row for row in found if row[1] in ("silent", "traceback", "unnamed")]
    assert not wrong
    assert sum(row[1] == "refused" for row in found) > 10
