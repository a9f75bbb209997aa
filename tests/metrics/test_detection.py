"""Tests of average precision."""

import contextlib
import io

import numpy as np
import pytest

from mtpret_jax.metrics import detection


def _records(found, truth, *, slots=6):
    """Padded records from lists of (box, score, class) and (box, class) per image."""
    images = len(found)
    records = {
        "box": np.zeros((images, slots, 4), np.float32),
        "score": np.zeros((images, slots), np.float32),
        "class": np.zeros((images, slots), np.int32),
        "valid": np.zeros((images, slots), bool),
        "truth_box": np.zeros((images, slots, 4), np.float32),
        "truth_class": np.zeros((images, slots), np.int32),
        "truth_valid": np.zeros((images, slots), bool),
        "record": np.arange(images, dtype=np.int32),
    }
    for i in range(images):
        for j, (box, score, label) in enumerate(found[i]):
            records["box"][i, j], records["score"][i, j] = box, score
            records["class"][i, j], records["valid"][i, j] = label, True
        for j, (box, label) in enumerate(truth[i]):
            records["truth_box"][i, j], records["truth_class"][i, j] = box, label
            records["truth_valid"][i, j] = True
    return records


def _values(metric, records):
    return metric.compute(metric.summarise(records))


A, B, FAR = (0.1, 0.1, 0.3, 0.3), (0.5, 0.5, 0.9, 0.9), (0.0, 0.6, 0.1, 0.8)


def test_all_found_is_one():
    records = _records([[(A, 0.9, 0), (B, 0.8, 0)], []], [[(A, 0), (B, 0)], []])

    values = _values(detection.DetectionMetric(1), records)

    assert values == {"ap50": 1.0, "coco_ap": 1.0}


def test_nothing_found_is_zero():
    records = _records([[], []], [[(A, 0)], []])

    assert _values(detection.DetectionMetric(1), records)["ap50"] == 0.0


def test_no_ground_truth_is_undefined():
    records = _records([[(A, 0.9, 0)]], [[]])

    values = _values(detection.DetectionMetric(1), records)

    assert np.isnan(values["ap50"])
    assert np.isnan(values["coco_ap"])


@pytest.mark.smoke
def test_a_false_alarm_above_a_hit_by_hand():
    """False, hit: precision 1/2 up to recall 1/2, of two boxes: 51 of 101 recalls."""
    records = _records([[(FAR, 0.9, 0), (A, 0.8, 0)]], [[(A, 0), (B, 0)]])

    value = _values(detection.DetectionMetric(1), records)["ap50"]

    assert value == pytest.approx(51 * 0.5 / 101)


def test_a_second_detection_of_one_box_is_false():
    """Hit, false, hit: 51 recalls at precision 1, 50 at 2/3."""
    found = [[(A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0)]]
    records = _records(found, [[(A, 0), (B, 0)]])

    value = _values(detection.DetectionMetric(1), records)["ap50"]

    assert value == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_overlap_of_two_thirds_counts_up_to_its_threshold():
    """Found half as long again: IoU 2/3 passes 0.50 to 0.65, four of ten."""
    records = _records(
        [[((0.0, 0.0, 0.2, 0.3), 0.9, 0)]], [[((0.0, 0.0, 0.2, 0.2), 0)]]
    )

    values = _values(detection.DetectionMetric(1), records)

    assert values == {"ap50": 1.0, "coco_ap": pytest.approx(0.4)}


def test_classes_are_averaged_where_they_occur():
    records = _records([[(A, 0.9, 0), (B, 0.8, 2)]], [[(A, 0), (B, 1)]])

    values = _values(detection.DetectionMetric(3, ("x", "y", "z")), records)

    assert values["ap50"] == pytest.approx(0.5)
    assert (values["ap50/x"], values["ap50/y"]) == (1.0, 0.0)
    assert np.isnan(values["ap50/z"])


def _random_records(seed, images=30, slots=12, classes=3):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(size=(images, slots, 2, 2))
    truth = np.concatenate([corner.min(2), corner.max(2) + 0.05], axis=-1)
    label = rng.integers(classes, size=(images, slots))
    return {
        "box": (truth + rng.normal(scale=0.03, size=truth.shape)).astype(np.float32),
        # Few distinct scores, so that ties are met.
        "score": rng.integers(1, 20, (images, slots)).astype(np.float32) / 20,
        "class": np.where(rng.uniform(size=label.shape) < 0.8, label, 0),
        "valid": rng.uniform(size=label.shape) < 0.8,
        "truth_box": truth.astype(np.float32),
        "truth_class": label,
        "truth_valid": rng.uniform(size=label.shape) < 0.4,
        "record": np.arange(images),
    }


@pytest.mark.smoke
@pytest.mark.parametrize("seed", range(4))
def test_values_equal_cocos_own_accumulation(seed):
    records = _random_records(seed)

    values = _values(detection.DetectionMetric(3, ("x", "y", "z")), records)

    evaluation = detection.evaluate(records, num_classes=3)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    assert 0.1 < values["ap50"] < 0.95
    assert values["coco_ap"] == pytest.approx(precision.mean(), abs=1e-12)
    assert values["ap50"] == pytest.approx(precision[0].mean(), abs=1e-12)
    for c, name in enumerate("xyz"):
        assert values[f"ap50/{name}"] == pytest.approx(precision[0, :, c].mean())


def test_resampled_rows_equal_a_set_with_those_images():
    metric, records = detection.DetectionMetric(3), _random_records(7)
    rows = np.random.default_rng(0).integers(30, size=30)

    summary = metric.summarise(records)
    resampled = metric.compute({name: x[rows] for name, x in summary.items()})

    whole = _values(metric, {name: x[rows] for name, x in records.items()})
    assert resampled == whole


def test_records_keep_the_batch_axis():
    metric = detection.DetectionMetric(1)
    outputs = {
        "box": np.zeros((2, 5, 4)),
        "score": np.zeros((2, 5)),
        "class": np.zeros((2, 5)),
        "valid": np.zeros((2, 5)),
    }
    batch = {
        "box": np.zeros((2, 3, 4)),
        "box_class": np.zeros((2, 3)),
        "box_valid": np.zeros((2, 3)),
        "record": np.array([4, -1]),
    }

    records = metric.records(outputs, batch)

    assert {len(value) for value in records.values()} == {2}
    assert records["truth_box"].shape == (2, 3, 4)


def test_a_wrong_number_of_names_is_refused():
    with pytest.raises(ValueError, match="Expected 2 class names"):
        detection.DetectionMetric(2, ("x",))
