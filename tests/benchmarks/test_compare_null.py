"""Encoders that are alike by design, small."""

import numpy as np

from benchmarks import compare_null

SIZE = compare_null.Size(features=5, train=10, validation=6, test=12)


def test_fitted_probes_are_one_where_encoders_differ_on_the_test_split_alone(
    monkeypatch,
):
    monkeypatch.setattr(compare_null, "TRUTH", 20)
    tasks, encoders, _ = compare_null.make(np.random.default_rng(0), SIZE, "same")

    one, other, _ = (
        [known.encoder.features(tasks[0], part) for part in ("train", "test")]
        for known in encoders.values()
    )

    assert one[0].shape == (20, 5)
    np.testing.assert_array_equal(one[0], other[0])
    assert not np.array_equal(one[1], other[1])


def test_a_family_is_judged_and_held_against_the_truth(monkeypatch):
    monkeypatch.setattr(compare_null, "TRUTH", 20)
    monkeypatch.setattr(compare_null, "TASKS", 1)

    found = compare_null.draw(3, seed=0, size=SIZE, null="alike")

    assert list(found) == ["claimed", "value", "difference", "refitted"]
    assert all(0 <= share <= 1 for share in found.values())
