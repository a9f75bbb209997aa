"""Weights of classes by the labels that are used, against scikit-learn and by hand."""

import dataclasses

import numpy as np
import pytest
from sklearn.utils import class_weight

from mtpret_jax import config
from mtpret_jax.data import balance, pipeline, subsets

TASK = config.TaskConfig(
    dataset="tiny", image_size=32, batch_size=4, class_weights="balanced"
)
MANY = dataclasses.replace(TASK, target="finding", exclusive=False)


def test_weights_of_exclusive_classes_are_scikit_learns(tiny):
    source = tiny.open("train")
    records = subsets.usable_records(source, TASK)[:-2]
    known = [tiny.annotate("train", record)["label"] for record in records]

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
