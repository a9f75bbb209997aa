"""Label fractions: whole groups, nested, stratified, drawn anew by each seed."""

import hashlib
import itertools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import kinds, pipeline, subsets

pytestmark = pytest.mark.smoke

REPOSITORY = pathlib.Path(__file__).parents[2]
FRACTIONS = (0.01, 0.1, 0.25, 0.5, 0.9)


def rows_of_patients(count: int = 200, *, ill: int = 9) -> list[dict[str, str]]:
    """Patients of one to four images; of every `ill`-th all but the first are ill."""
    rows = []
    for patient in range(count):
        for image in range(1 + patient % 4):
            sick = patient % ill == 0 and (image > 0 or patient % 4 == 0)
            rows.append(
                {
                    "image_id": f"{patient}-{image}",
                    "group": f"p{patient}",
                    "finding": "ill" if sick else "normal",
                    "has_mask": "1",
                    "n_boxes": "2" if sick else "0",
                }
            )
    return rows


def make_task(kind: str = "classification", **options) -> config.TaskConfig:
    return config.TaskConfig(kind=kind, dataset="chest", target="finding", **options)


def choose(rows, fraction, *, seed=0, kind="classification") -> list[int]:
    everything = np.arange(len(rows), dtype=np.int32)
    part = subsets.Subset(seed, fraction)
    return subsets.choose(rows, everything, make_task(kind), part).tolist()


def groups(rows, records) -> set[str]:
    return {rows[record]["group"] for record in records}


@pytest.mark.parametrize("kind", ["classification", "segmentation", "detection"])
def test_a_part_has_whole_groups_and_holds_every_smaller_one(kind):
    rows = rows_of_patients()
    smaller: set[int] = set()

    for fraction in FRACTIONS:
        part = choose(rows, fraction, kind=kind)
        assert part == sorted(set(part))
        members = groups(rows, part)
        whole = [i for i, row in enumerate(rows) if row["group"] in members]
        assert part == whole
        assert smaller <= set(part)
        smaller = set(part)
        # Rounded up in each of at most two strata.
        assert fraction * 200 <= len(members) < fraction * 200 + 2


def test_all_labels_are_the_records_themselves():
    rows = rows_of_patients()
    known = np.arange(0, len(rows), 3, dtype=np.int32)

    found = subsets.choose(rows, known, make_task(), subsets.ALL)

    np.testing.assert_array_equal(found, known)


def test_records_that_cannot_be_used_are_in_no_part():
    rows = rows_of_patients()
    known = np.arange(0, len(rows), 3, dtype=np.int32)

    found = subsets.choose(rows, known, make_task(), subsets.Subset(0, 0.5))

    assert set(found.tolist()) < set(known.tolist())
    assert found.dtype == np.int32


@pytest.mark.parametrize("seed", range(20))
def test_the_smallest_part_has_every_class_and_boxes(seed):
    rows = rows_of_patients(ill=67)  # Three patients are.

    labelled = choose(rows, 0.001, seed=seed)
    boxes = choose(rows, 0.001, seed=seed, kind="detection")

    assert len(groups(rows, labelled)) == 2
    assert {rows[record]["finding"] for record in labelled} == {"ill", "normal"}
    assert {rows[record]["n_boxes"] for record in boxes} == {"2", "0"}


def test_rare_findings_of_many_labels_do_not_swell_the_part():
    """Hundreds of combinations occur once each: one stratum for each label."""
    rng = np.random.default_rng(0)
    names = [f"finding{index}" for index in range(14)]
    rows = []
    for patient in range(2000):
        found = [n for n, p in zip(names, rng.random(14), strict=True) if p < 0.2]
        rows.append(
            {
                "image_id": str(patient),
                "group": str(patient),
                "finding": "|".join(found) or "(none)",
            }
        )
    assert len({row["finding"] for row in rows}) > 700

    part = choose(rows, 0.01)

    assert 20 <= len(part) <= 20 + 15
    assert {n for r in part for n in rows[r]["finding"].split("|")} >= set(names)


@pytest.mark.parametrize("seed", range(10))
def test_a_rare_finding_that_never_comes_alone_is_in_the_smallest_part(seed):
    rows = [
        {
            "image_id": str(patient),
            "group": str(patient),
            "finding": "common|rare" if patient % 100 == 0 else "common",
        }
        for patient in range(500)
    ]

    part = choose(rows, 0.01, seed=seed)

    assert {rows[record]["finding"] for record in part} == {"common", "common|rare"}


def test_another_seed_or_set_draws_other_groups():
    rows = rows_of_patients()
    everything = np.arange(len(rows), dtype=np.int32)
    parts = {tuple(choose(rows, 0.1, seed=seed)) for seed in range(5)}

    other = config.TaskConfig(dataset="hand", target="finding")
    other_set = subsets.choose(rows, everything, other, subsets.Subset(0, 0.1))

    assert len(parts) == 5
    assert choose(rows, 0.1) != other_set.tolist()


def test_seeds_share_no_more_groups_than_chance():
    """Of 20 of 200 groups two draws share 2 on average; 19 pairs, so 1 to 3.5."""
    rows = rows_of_patients()
    parts = [groups(rows, choose(rows, 0.1, seed=seed)) for seed in range(20)]

    shared = [len(one & other) for one, other in itertools.pairwise(parts)]

    assert 1 < np.mean(shared) < 3.5


def test_images_of_nobody_known_are_drawn_one_by_one():
    rows = [{**row, "group": ""} for row in rows_of_patients()]

    part = choose(rows, 0.1, kind="segmentation")

    assert len(part) == np.ceil(0.1 * len(rows))


def test_a_fraction_is_not_rounded_up_by_a_binary_rest():
    rows = [{**row, "group": str(i)} for i, row in enumerate(rows_of_patients())][:100]

    assert len(choose(rows, 0.07, kind="segmentation")) == 7  # 0.07 * 100 > 7


PROGRAM = """
import json, sys
import numpy as np
from mtpret_jax import config
from mtpret_jax.data import subsets
rows = json.load(sys.stdin)
task = config.TaskConfig(dataset="chest", target="finding")
every = np.arange(len(rows), dtype=np.int32)
found = subsets.choose(rows, every, task, subsets.Subset(4, 0.1))
print(json.dumps(found.tolist()))
"""


def test_every_process_finds_the_same_part():
    """Python's own hashes differ between these processes."""
    rows = rows_of_patients()
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        environment["PYTHONPATH"] = str(REPOSITORY)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(rows),
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout))

    assert found == [choose(rows, 0.1, seed=4)] * 2


def test_positives_are_the_images_of_what_is_rarest():
    rows = rows_of_patients()
    ill = sum(row["finding"] == "ill" for row in rows)
    names = ("normal", "ill")

    def count(kind, names=names):
        return kinds.KINDS[kind].positives(rows, make_task(kind), names)

    assert count("classification") == ill
    assert count("classification", ("normal", "ill", "never")) == 0
    assert count("detection") == ill
    assert count("segmentation") == len(rows)


def settings() -> config.InputConfig:
    return config.InputConfig(threads=1, buffer=1)


def tiny_task(**options) -> config.TaskConfig:
    return config.TaskConfig(
        dataset="tiny", target="label", image_size=32, batch_size=4, **options
    )


def test_streams_read_the_part_and_no_more(tiny):
    task, part = tiny_task(), subsets.Subset(1, 0.4)
    read: set[int] = set()

    with pipeline.train_stream(
        "one", task, settings(), tiny.open("train"), seed=0, subset=part
    ) as stream:
        for _ in range(12):
            read |= set(next(stream).arrays["record"].tolist())
    validated = []
    for index in range(2):
        shard = pipeline.Shard(index, 2)
        with pipeline.eval_batches(
            "one", task, settings(), tiny.open("validation"), subset=part, shard=shard
        ) as stream:
            for batch in stream:
                valid = batch.arrays["example_valid"]
                validated += batch.arrays["record"][valid].tolist()

    for split, found in (("train", read), ("validation", set(validated))):
        source = tiny.open(split)
        wanted = subsets.usable_records(source, task, part)
        assert found == set(wanted.tolist())
        assert 0 < len(wanted) < len(subsets.usable_records(source, task))
        said = subsets.describe(source, task, part)
        lines = "".join(f"{split}-{record}\n" for record in wanted)
        assert said == {
            "fraction": 0.4,
            "records": len(wanted),
            "groups": len(wanted),
            "positives": min(
                sum(record % 2 == label for record in wanted) for label in (0, 1)
            ),
            "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        }


@pytest.mark.parametrize("kind", ["classification", "segmentation", "detection"])
def test_a_part_of_so_many_images_is_even_and_the_same_for_every_seed(kind):
    rows = rows_of_patients()
    everything, task = np.arange(len(rows), dtype=np.int32), make_task(kind)
    ill = np.array([row["finding"] == "ill" for row in rows])
    smaller: set[int] = set()

    for most in (2, 10, 101, len(rows) - 1):
        part = subsets.choose(rows, everything, task, subsets.Subset(0, most=most))
        other = subsets.choose(rows, everything, task, subsets.Subset(7, most=most))
        np.testing.assert_array_equal(part, other)
        assert part.tolist() == sorted(set(part.tolist()))
        assert len(part) == most
        assert smaller <= set(part.tolist())
        smaller = set(part.tolist())
        if kind != "segmentation":
            assert abs(ill[part].sum() - most * ill.mean()) <= 1

    for most in (0, len(rows), len(rows) + 5):
        whole = subsets.choose(rows, everything, task, subsets.Subset(0, most=most))
        np.testing.assert_array_equal(whole, everything)
    few = subsets.choose(rows, everything, task, subsets.Subset(3, 0.5, most=10))
    assert set(few.tolist()) <= set(choose(rows, 0.5, seed=3, kind=kind))
    assert len(few) == 10
