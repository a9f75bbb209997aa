"""Grouped splits: shares, strata, groups kept whole, the same everywhere."""

import numpy as np
import pytest

from tfds_builders import prepared
from tfds_builders.sources import splits


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


# Changes only if a rule does; its version must rise then.
PINNED = [
    "9d36c6cddde93f7582bdc7dfcf29a7fe15a395833f6ae43efbd35f2f8a7df5d9",
    "1e52f102a162dc81a3a5d4086407511b49211882062bea54468b14308f862423",
]

# Positive and negative images of train and of validation, by body part.
MURA = {
    "elbow": (2006, 2925, 230, 235),
    "finger": (1968, 3138, 247, 214),
    "forearm": (661, 1164, 151, 150),
    "hand": (1484, 4059, 189, 271),
    "humerus": (599, 673, 140, 148),
    "shoulder": (4168, 4211, 278, 285),
    "wrist": (3987, 5765, 295, 364),
}


def _counts(sizes: dict[str, int]) -> tuple[int, int, int]:
    """Images of each split by MUSCLE's rule, for strata of these sizes."""
    strata = [stratum for stratum, size in sizes.items() for _ in range(size)]
    ids = [f"image{i}" for i in range(len(strata))]
    found = splits.muscle(ids, strata, seed=0, name="x")
    assert sorted(i for part in found.values() for i in part) == sorted(ids)
    return len(found["train"]), len(found["validation"]), len(found["test"])


def test_mura_s_published_counts_follow_from_part_and_label():
    sizes = {}
    for part, (train_ill, train_well, ill, well) in MURA.items():
        sizes[f"{part}|positive"] = train_ill + ill
        sizes[f"{part}|negative"] = train_well + well

    assert sum(sizes.values()) == 40_005
    assert _counts(sizes) == (32_013, 3_997, 3_995)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"pneumonia": 4273, "normal": 1583}, (4686, 585, 585)),
        ({"": 896}, (718, 89, 89)),
        ({"": 800}, (640, 80, 80)),
        ({"": 704}, (564, 70, 70)),
        ({"": 9}, (8, 1, 0)),
        ({"": 0}, (0, 0, 0)),
    ],
)
def test_other_published_counts_follow_from_the_rule(sizes, expected):
    assert _counts(sizes) == expected


def test_the_rule_takes_kermany_s_test_images_as_published():
    """427 with pneumonia and 158 normal."""
    strata = ["pneumonia"] * 4273 + ["normal"] * 1583
    ids = [str(i) for i in range(len(strata))]

    found = splits.muscle(ids, strata, seed=0, name="kermany_pneumonia")

    ill = sum(strata[int(i)] == "pneumonia" for i in found["test"])
    assert (ill, len(found["test"]) - ill) == (427, 158)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_groups_none_crosses_and_the_order_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 120))
    # Some groups are huge, some images are alone, labels disagree within groups.
    shares = rng.dirichlet(
        np.full(int(rng.integers(1, count + 1)), rng.choice([0.1, 5]))
    )
    groups = [f"p{i}" for i in rng.choice(len(shares), size=count, p=shares)]
    strata = [str(i) for i in rng.integers(rng.integers(1, 20), size=count)]
    ids = [f"i{i}" for i in rng.permutation(count)]

    found = splits.grouped(ids, groups, strata, seed=seed, name="x")

    split_of = prepared.Manifest.of_lists("grouped", 1, found).split_of
    assert set(split_of) == set(ids)
    where: dict[str, set[str]] = {}
    for identifier, group in zip(ids, groups, strict=True):
        where.setdefault(group, set()).add(split_of[identifier])
    assert all(len(places) == 1 for places in where.values())
    order = rng.permutation(count)
    shuffled = [[column[i] for i in order] for column in (ids, groups, strata)]
    assert splits.grouped(*shuffled, seed=seed, name="x") == found


def test_a_manifest_is_the_same_file_on_every_machine():
    ids = [f"image{i}" for i in range(100)]
    groups = [f"patient{i // 3}" for i in range(100)]
    strata = ["ill" if i % 5 == 0 else "well" for i in range(100)]
    muscle = splits.muscle(ids, strata, seed=0, name="x")
    grouped = splits.grouped(ids, groups, strata, seed=0, name="x")

    both = [prepared.Manifest.of_lists("a", 1, found) for found in (muscle, grouped)]

    assert [found.sha256 for found in both] == PINNED
    assert both[0].counts() == {"train": 80, "validation": 10, "test": 10}
    backwards = dict(reversed(both[0].split_of.items()))
    assert prepared.Manifest("a", 1, backwards).sha256 == PINNED[0]


def test_a_manifest_s_text_is_a_sorted_table():
    found = prepared.Manifest("a", 1, {"b,c": "test", "a": "train"})

    assert found.text() == 'image_id,split\na,train\n"b,c",test\n'
