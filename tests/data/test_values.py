"""Numbers of a prepared set as a task reads them: scale, targets, shares of labels."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax.data import elements, kinds, sources, subsets
from tfds_builders import phantom_xray

AGE = "bone_age_months"
TASK = schema.TaskConfig(
    kind="regression", dataset="fingers", target=AGE, second_input="sex", image_size=32
)


@pytest.fixture(scope="module")
def fingers(tmp_path_factory: pytest.TempPathFactory) -> sources.Source:
    """Forty fingers of 27 children, for training."""
    config = phantom_xray.Config(
        name="fingers", body="finger", image_size=32, train=40, validation=2, test=0
    )
    folder = tmp_path_factory.mktemp("data")
    builder = phantom_xray.Builder(data_dir=folder, config=config)
    builder.download_and_prepare()
    return sources.open_prepared(builder.data_dir, "train")


def _months(source: sources.Source) -> np.ndarray:
    return np.array([float(row[AGE]) for row in source.index])


def test_the_scale_is_that_of_the_training_split(fingers):
    found = kinds.KINDS["regression"].scale(fingers, TASK)

    assert found == {
        "mean": pytest.approx(_months(fingers).mean()),
        "deviation": pytest.approx(_months(fingers).std()),
        "unit": "months",
        "second": ("F", "M"),
    }


def test_an_element_has_the_number_and_what_is_told_beside_the_image(fingers):
    prepare = elements.TaskElement(fingers, TASK, schema.InputConfig())
    rng = np.random.default_rng(0)

    for record, row in enumerate(fingers.index):
        for element in (prepare(record), prepare.random(record, rng)):
            assert element["value"] == np.float32(row[AGE])
            assert element["second"] == ("F", "M").index(row["sex"])
    assert prepare(-1)["record"] == -1


def test_what_is_not_told_is_unknown(fingers, monkeypatch):
    rows = [{**row, "sex": ""} for row in fingers.index]
    monkeypatch.setattr(fingers, "index", rows)

    second: Any = kinds.KINDS["regression"].second(fingers, TASK)

    assert set(second.tolist()) == {-1}


def test_a_share_of_the_labels_has_alike_of_each_quarter(fingers):
    quarters = np.quantile(_months(fingers), [0.25, 0.5, 0.75])
    small, large = (
        subsets.usable_records(fingers, TASK, subsets.Subset(seed=3, fraction=fraction))
        for fraction in (0.3, 0.6)
    )

    assert set(small) < set(large)
    places = np.searchsorted(quarters, _months(fingers)[small], side="right")
    counts = collections.Counter(places.tolist())
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) <= 2 * min(counts.values())


def test_a_set_without_the_column_says_which_it_has(fingers):
    wrong = schema.TaskConfig(kind="regression", dataset="fingers", target="bone_age")

    with pytest.raises(ValueError, match=r"no value column 'bone_age'.*Did you mean"):
        kinds.usable_records(fingers, wrong)


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ("Sexx", ["F"], r"no label column 'Sexx' \(a task's `second_input`\)"),
        ("sexe", ["F"], r"Did you mean 'sex'\?"),
        ("sex", ["F", "F|M"], r"several classes of 'sex' .*such as 'F\|M'"),
        ("sex", [""], r"no image of split 'train' whose 'sex' .*is known"),
    ],
)
def test_a_second_input_that_tells_nothing_is_refused(
    fingers, monkeypatch, column, cells, said
):
    pairs = zip(fingers.index, itertools.cycle(cells), strict=False)
    monkeypatch.setattr(fingers, "index", [{**row, "sex": sex} for row, sex in pairs])
    task = dataclasses.replace(TASK, second_input=column)

    with pytest.raises(ValueError, match=said):
        kinds.usable_records(fingers, task)


def test_one_value_alone_is_refused(fingers):
    rows = [{**row, AGE: "7.5"} for row in fingers.index]

    refused = kinds.KINDS["regression"].refuse(rows, TASK, "train")

    assert refused == ": every image of split 'train' has the value 7.5."
