"""Weights of classes and chances of images, against scikit-learn and by hand."""

import dataclasses

import numpy as np
import pytest
from sklearn.utils import class_weight

from mtpret_jax import config
from mtpret_jax.data import balance, kinds, mixing, pipeline, sources, subsets

TASK = config.TaskConfig(
    dataset="tiny", image_size=32, batch_size=4, class_weights="balanced"
)
MANY = dataclasses.replace(TASK, target="finding", exclusive=False)


def labels(tiny, records):
    return [tiny.annotate("train", record)["label"] for record in records]


def test_weights_of_exclusive_classes_are_scikit_learns(tiny):
    source = tiny.open("train")
    records = subsets.usable_records(source, TASK)[:-2]
    known = labels(tiny, records)

    found = balance.class_weights(source, TASK, records)

    expected = class_weight.compute_class_weight(
        "balanced", classes=np.arange(2), y=np.array(known)
    )
    assert known.count(0) != known.count(1)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_weights_of_many_findings_are_negatives_over_positives(tiny):
    source = tiny.open("train")
    records = np.array([0, 1, 3, 4, 5], np.int32)

    found = balance.class_weights(source, MANY, records)

    # Effusion in 1, 3 and 5; nodule in 3; of the third nobody knows.
    np.testing.assert_allclose(found, [2 / 3, 4 / 1, 1.0], rtol=1e-7)


class Readings:
    """A split of which the index tells less than the records."""

    def __init__(self, labels):
        self.labels = np.array(labels, np.int8)
        self.metadata = sources.Metadata({"finding": ("one", "two")}, (), ())
        names = np.array(self.metadata.label_names["finding"])
        self.index = [
            {"finding": "|".join(names[row == 1]) or "(none)"} for row in self.labels
        ]

    def __getitem__(self, record):
        return {"labels/finding": self.labels[record]}


@pytest.mark.parametrize("looked_up", [1000, 4])
def test_labels_that_nobody_knows_are_no_negatives(monkeypatch, looked_up):
    monkeypatch.setattr(balance, "LOOKED_UP", looked_up)
    source = Readings([[1, 1], [0, 0], [-1, 0], [-1, 0]] * 4)

    found = balance.class_weights(source, MANY, np.arange(16))

    # Of the first a half is unknown, in the records 0, 5, 10 and 15, too.
    np.testing.assert_allclose(found, [4 / 4, 12 / 4], rtol=1e-7)


def test_a_class_that_all_have_weighs_one(tiny):
    records = np.array([1, 3, 5], np.int32)

    found = balance.class_weights(tiny.open("train"), MANY, records)

    np.testing.assert_allclose(found, [1.0, 2.0, 1.0], rtol=1e-7)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_batches_carry_the_weights_of_the_labels_in_use(tiny, fraction):
    source, subset = tiny.open("train"), subsets.Subset(0, fraction)
    records = subsets.usable_records(source, MANY, subset)

    with pipeline.train_stream(
        "one", MANY, config.InputConfig(threads=1), source, seed=0, subset=subset
    ) as stream:
        batch = next(stream).arrays

    wanted = balance.class_weights(source, MANY, records)
    np.testing.assert_array_equal(batch["label_weight"], np.tile(wanted, (4, 1)))


def test_chances_of_exclusive_classes_are_scikit_learns(tiny):
    source = tiny.open("train")
    records = subsets.usable_records(source, TASK)[:-2]

    found = balance.chances(source, TASK, records)

    # A half for each class; PyTorch's WeightedRandomSampler draws by the same.
    expected = class_weight.compute_sample_weight("balanced", labels(tiny, records))
    np.testing.assert_allclose(found / found.sum(), expected / len(records), rtol=1e-12)


def test_of_many_findings_one_is_drawn_and_an_image_that_has_it(tiny):
    records = np.array([0, 1, 3, 4, 5], np.int32)

    found = balance.chances(tiny.open("train"), MANY, records)

    # Two have none, three effusion, one of them also nodule.
    np.testing.assert_allclose(found, [1 / 2, 1 / 3, 4 / 3, 1 / 2, 1 / 3], rtol=1e-12)


def test_pictures_with_boxes_and_without_are_drawn_as_often(tiny):
    task = dataclasses.replace(TASK, kind="detection", class_weights="")
    source = tiny.open("train")
    rows = [{**row, "n_boxes": str(int(n < 2))} for n, row in enumerate(source.index)]
    source.index = rows

    found = balance.chances(source, task, np.arange(len(rows)))

    np.testing.assert_allclose(found, [1 / 2] * 2 + [1 / 10] * 10, rtol=1e-12)


def test_records_are_drawn_by_their_weights():
    weights = np.array([1.0, 4.0, 0.5, 2.5])
    drawn = mixing.Draws(np.array([7, 3, 5, 9]), weights, seed=1)

    found = [drawn[index] for index in range(8000)]

    counts = [found.count(record) for record in (7, 3, 5, 9)]
    np.testing.assert_allclose(counts, 1000 * weights, atol=5 * 45)  # five deviations
    assert found[100:200] == [drawn[index] for index in range(100, 200)]
    other = mixing.Draws(np.array([7, 3, 5, 9]), weights, seed=2)
    assert found[:100] != [other[index] for index in range(100)]


def test_balance_is_refused_where_every_picture_has_a_box():
    task = dataclasses.replace(TASK, kind="detection", balanced_sampling=True)
    rows = [{"n_boxes": "1"}, {"n_boxes": "2"}]

    refused = kinds.KINDS["detection"].refuse(rows, task, "train")

    assert refused.startswith(".balanced_sampling: every picture of split 'train' has")
    assert not kinds.KINDS["detection"].refuse(rows, task, "validation")
    assert not kinds.KINDS["detection"].refuse([*rows, {"n_boxes": "0"}], task, "train")
