"""Grouped splits: shares, strata, groups kept whole, the same everywhere."""

import numpy as np
import pytest

from tfds_builders import splits


def _set(count: int, group_count: int) -> tuple[list[str], list[str], list[str]]:
    rng = np.random.default_rng(0)
    ids = [f"image{i}" for i in range(count)]
    groups = [f"patient{i}" for i in rng.integers(group_count, size=count)]
    strata = list(rng.choice(["sick", "well", "well"], size=count))
    return ids, groups, strata


def test_shares_are_80_10_10_by_images_within_one_group():
    ids, groups, strata = _set(1000, 400)

    found = splits.grouped(ids, groups, strata, seed=0, name="x")

    assert sorted(i for part in found.values() for i in part) == sorted(ids)
    assert abs(len(found["validation"]) - 100) <= 5
    assert abs(len(found["test"]) - 100) <= 5


def test_no_group_is_parted():
    ids, groups, strata = _set(300, 90)
    group_of = dict(zip(ids, groups, strict=True))

    found = splits.grouped(ids, groups, strata, seed=3, name="x")

    parts = [{group_of[i] for i in part} for part in found.values()]
    assert sum(map(len, parts)) == len(set(groups))


def test_labels_are_alike_in_every_split():
    ids, _, strata = _set(1000, 1)
    label_of = dict(zip(ids, strata, strict=True))

    found = splits.grouped(ids, ids, strata, seed=0, name="x")

    rate = {k: np.mean([label_of[i] == "sick" for i in v]) for k, v in found.items()}
    np.testing.assert_allclose(rate["test"], rate["train"], atol=0.02)
    np.testing.assert_allclose(rate["validation"], rate["train"], atol=0.02)


def test_many_rare_strata_still_fill_every_split():
    ids = [f"image{i}" for i in range(30)]

    found = splits.grouped(ids, ids, [str(i % 15) for i in range(30)], seed=0, name="x")

    assert {split: len(v) for split, v in found.items()} == {
        "train": 24,
        "validation": 3,
        "test": 3,
    }


def test_order_of_the_arguments_does_not_matter_but_seed_and_name_do():
    ids, groups, strata = _set(200, 100)
    found = splits.grouped(ids, groups, strata, seed=0, name="x")

    assert found == splits.grouped(
        ids[::-1], groups[::-1], strata[::-1], seed=0, name="x"
    )
    assert found != splits.grouped(ids, groups, strata, seed=1, name="x")
    assert found != splits.grouped(ids, groups, strata, seed=0, name="y")


def test_repeated_identifiers_and_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match=r"unique; these are not: \['a'\]"):
        splits.grouped(["a", "a"], ["g", "h"], ["", ""], seed=0, name="x")
    with pytest.raises(ValueError, match="equal lengths, got 1, 2 and 1"):
        splits.grouped(["a"], ["g", "h"], [""], seed=0, name="x")
