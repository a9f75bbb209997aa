"""The worst examples of a split are kept, whatever the batches they came in."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from mtpret_jax import types
from mtpret_jax.metrics import classification, detection, segmentation
from mtpret_jax.training import evaluation

METRIC = classification.ClassificationMetric(("normal", "opacity"), exclusive=True)
COUNT = 30


def _batches(probability: np.ndarray, size: int) -> list[types.Batch]:
    """Every example shows an opacity, but for the last label, which is not known."""
    label = np.tile(np.array([[0.0, 1.0]], np.float32), (COUNT, 1))
    known = np.ones((COUNT, 2), bool)
    known[-1] = False
    arrays = {
        "image": np.arange(COUNT, dtype=np.float32)[:, None],
        "label": label,
        "label_known": known,
        "record": np.arange(COUNT, dtype=np.int32),
        "example_valid": np.arange(COUNT) != 3,
        "said": probability,
    }
    return [
        types.Batch({n: a[start : start + size] for n, a in arrays.items()}, "chests")
        for start in range(0, COUNT, size)
    ]


def _predict(batch: types.Batch) -> types.Tree:
    said = batch.arrays["said"]
    return {"probability": jnp.stack([1 - said, said], axis=1)}


def test_the_worst_are_those_that_an_ordered_list_begins_with():
    said = np.random.default_rng(0).random(COUNT).astype(np.float32)
    said[[3, COUNT - 1]] = 0.0  # the worst of all: padding, and of unknown label
    order = [i for i in np.argsort(said, kind="stable") if i not in (3, COUNT - 1)]

    for size in (4, COUNT):
        worst = evaluation.Worst(METRIC, 5)
        _, kept = evaluation.evaluate(
            _predict,
            _batches(said, size),
            METRIC,
            put=lambda batch: batch,
            samples=2,
            worst=worst,
        )

        np.testing.assert_array_equal(worst.arrays["record"], order[:5])
        np.testing.assert_array_equal(worst.arrays["image"][:, 0], order[:5])
        probability = worst.arrays["probability"]
        np.testing.assert_array_equal(probability[:, 1], said[order[:5]])
        np.testing.assert_array_equal(kept["record"], [0, 1])


def test_fewer_examples_than_asked_for_are_all_kept():
    worst = evaluation.Worst(METRIC, 100)
    said = np.full(COUNT, 0.5, np.float32)

    evaluation.evaluate(
        _predict, _batches(said, 8), METRIC, put=lambda batch: batch, worst=worst
    )

    assert len(worst.arrays["record"]) == COUNT - 2


def test_errors_of_masks_are_what_is_missing_to_dice():
    metric = segmentation.SegmentationMetric(("background", "lung"))
    truth = np.zeros((3, 2, 2), np.int32)
    truth[:2, 0] = 1
    found = truth.copy()
    found[1, 0, 0] = 0  # one of two pixels: Dice 2 / 3
    batch = {"segmentation": truth, "pixel_known": truth >= 0, "record": np.arange(3)}

    error = metric.error(metric.records({"segmentation": found}, batch))

    np.testing.assert_allclose(error, [0, 1 / 3, np.nan])


def test_errors_of_boxes_are_what_is_missed_and_what_is_made_up():
    metric = detection.DetectionMetric(1)
    box = np.array([0.1, 0.1, 0.5, 0.5], np.float32)
    other = box + 0.45
    batch = {
        "box": np.tile(box, (4, 1, 1)),
        "box_class": np.zeros((4, 1), np.int32),
        "box_valid": np.array([[True], [True], [True], [False]]),
        "record": np.arange(4),
    }
    outputs = {
        # Found; found beside one made up; missed; made up where there is none.
        "box": np.stack([[box, other], [box, other], [other, other], [box, other]]),
        "score": np.array([[0.9, 0], [0.9, 0.4], [0.7, 0], [0.6, 0.2]], np.float32),
        "class": np.zeros((4, 2), np.int32),
        "valid": np.array([[True, False], [True] * 2, [True, False], [True] * 2]),
    }

    error = metric.error(metric.records(outputs, batch))

    np.testing.assert_allclose(error, [0.1, 0.5, 1.7, 0.6], rtol=1e-6)
