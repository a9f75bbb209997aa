"""Draws of a cell are made once, and again when what they depend on has changed."""

import numpy as np
import pytest

from mtpret_jax.metrics import intervals, segmentation
from mtpret_jax.report import contents, measured

METRIC = segmentation.SegmentationMetric(("background", "lung"))
OPTIONS = {"resamples": 20, "seed": 1}


@pytest.fixture
def cell():
    counts = np.random.default_rng(0).integers(1, 99, (3, 12, 2))
    records = dict(zip(("tp", "fp", "fn"), counts, strict=True))
    summary = METRIC.summarise(records | {"record": np.arange(12)})
    return summary, np.array([f"patient {i // 2}" for i in range(12)])


@pytest.fixture
def drawn(monkeypatch):
    """How often draws were made."""
    calls, plain = [], intervals.draws

    def counting(*arguments, **options):
        calls.append(options)
        return plain(*arguments, **options)

    monkeypatch.setattr(intervals, "draws", counting)
    return calls


def test_a_second_report_draws_nothing(folder, config, metrics, drawn):
    first = contents.build(folder, config, metrics, {})
    made = len(drawn)

    second = contents.build(folder, config, metrics, {})

    # Three tasks by three arms, for intervals and, since six comparisons need more
    # resamples than the config asks for, for verdicts.
    assert made == 18
    assert len(drawn) == made
    assert contents.plain(second.values) == contents.plain(first.values)


def test_whatever_changes_the_draws_makes_them_anew(tmp_path, cell, drawn):
    summary, groups = cell
    other = {**summary, "tp": summary["tp"] + 1}
    names = segmentation.SegmentationMetric(("background", "heart"))
    alone = np.arange(len(groups)).astype(str)

    for arguments, options in (
        ((METRIC, summary, groups), OPTIONS),
        ((METRIC, summary, groups), OPTIONS | {"resamples": 30}),
        ((METRIC, summary, groups), OPTIONS | {"seed": 2}),
        ((METRIC, summary, alone), OPTIONS),
        ((METRIC, other, groups), OPTIONS),
        ((names, summary, groups), OPTIONS),
    ):
        made = len(drawn)
        found = measured.draws(tmp_path, *arguments, **options)
        again = measured.draws(tmp_path, *arguments, **options)

        assert len(drawn) == made + 1
        expected = intervals.draws(*arguments, **options)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
            np.testing.assert_array_equal(again[name], values)
        drawn.pop()


def test_a_damaged_file_of_draws_is_made_again(tmp_path, cell):
    expected = measured.draws(tmp_path, METRIC, *cell, **OPTIONS)
    (path,) = (tmp_path / "draws").iterdir()
    whole = path.read_bytes()

    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found = measured.draws(tmp_path, METRIC, *cell, **OPTIONS)

        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
