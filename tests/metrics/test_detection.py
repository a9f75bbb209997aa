"""Tests of average precision."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools import coco, cocoeval

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

    assert values == {"ap50": 1.0, "coco_ap": 1.0, "froc": 1.0}


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


def test_ten_boxes_by_hand_at_101_recalls():
    """Hit, false, hit, false, hit, of ten boxes: recalls 0.1, 0.2, 0.3.

    11 recalls at precision 1, 10 at 2/3, 10 at 3/5, 70 at 0.
    """
    row = [(0.0, i / 10, 0.05, i / 10 + 0.05) for i in range(10)]
    found = [
        (row[0], 0.9, 0),
        (FAR, 0.8, 0),
        (row[1], 0.7, 0),
        (FAR, 0.6, 0),
        (row[2], 0.5, 0),
    ]
    records = _records([found], [[(box, 0) for box in row]], slots=10)

    value = _values(detection.DetectionMetric(1), records)["ap50"]

    assert value == pytest.approx((11 + 10 * 2 / 3 + 10 * 3 / 5) / 101)


@pytest.mark.parametrize("side", [1 / 512, 1.0])
def test_boxes_of_every_size_count(side):
    """COCO's small, medium and large together, one pixel of 512 and a whole image."""
    box = (0.0, 0.0, side, side)

    values = _values(
        detection.DetectionMetric(1), _records([[(box, 0.9, 0)]], [[(box, 0)]])
    )

    assert values == {"ap50": 1.0, "coco_ap": 1.0, "froc": 1.0}


def test_a_detection_without_area_is_a_false_alarm():
    """False, hit: precision 1/2."""
    point = (0.2, 0.2, 0.2, 0.2)
    records = _records([[(point, 0.9, 0), (A, 0.8, 0)]], [[(A, 0)]])

    assert _values(detection.DetectionMetric(1), records)["ap50"] == 0.5


def test_overlap_of_two_thirds_counts_up_to_its_threshold():
    """Found half as long again: IoU 2/3 passes 0.50 to 0.65, four of ten."""
    records = _records(
        [[((0.0, 0.0, 0.2, 0.3), 0.9, 0)]], [[((0.0, 0.0, 0.2, 0.2), 0)]]
    )

    values = _values(detection.DetectionMetric(1), records)

    assert values == {"ap50": 1.0, "coco_ap": pytest.approx(0.4), "froc": 1.0}


def test_classes_are_averaged_where_they_occur():
    records = _records([[(A, 0.9, 0), (B, 0.8, 2)]], [[(A, 0), (B, 1)]])

    values = _values(detection.DetectionMetric(3, ("x", "y", "z")), records)

    assert values["ap50"] == pytest.approx(0.5)
    assert (values["ap50/x"], values["ap50/y"]) == (1.0, 0.0)
    assert np.isnan(values["ap50/z"])


def test_ranking_goes_over_all_images_by_hand():
    """Of two classes in three images, the second image without truth.

    Class x, three boxes, by score: hit, false (second image), hit, false (the box of
    0.9 once more), nothing for the third. Recall 1/3 at precision 1 takes recalls 0 to
    0.33, 34 of 101; 2/3 at 2/3 takes 0.34 to 0.66, 33. Class y, one box: false, hit.
    """
    found = [
        [(A, 0.9, 0), (A, 0.6, 0), (A, 0.4, 1)],
        [(A, 0.8, 0)],
        [(B, 0.7, 0), (FAR, 0.3, 1)],
    ]
    truth = [[(A, 0), (FAR, 0)], [], [(B, 0), (FAR, 1)]]

    values = _values(detection.DetectionMetric(2, ("x", "y")), _records(found, truth))

    assert values["ap50/x"] == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert values["ap50/y"] == pytest.approx(1 / 2)
    mean = (values["ap50/x"] + values["ap50/y"]) / 2
    assert values["ap50"] == pytest.approx(mean)
    assert values["coco_ap"] == pytest.approx(mean)  # All overlaps are 0 or 1.


def test_a_crowd_on_one_box_counts_once_and_costs_what_comes_after():
    """Hit, four false, hit: 51 recalls at precision 1, 50 at 2/6."""
    found = [[*((A, 0.9 - i / 100, 0) for i in range(5)), (B, 0.5, 0)]]

    value = _values(detection.DetectionMetric(1), _records(found, [[(A, 0), (B, 0)]]))

    assert value["ap50"] == pytest.approx((51 + 50 / 3) / 101)


def test_false_alarms_below_every_hit_cost_nothing():
    found = [[(A, 0.9, 0)], [(A, 0.1, 0), (B, 0.05, 0)]]

    values = _values(detection.DetectionMetric(1), _records(found, [[(A, 0)], []]))

    assert values == {"ap50": 1.0, "coco_ap": 1.0, "froc": 1.0}


def test_the_better_score_takes_the_box_even_with_the_smaller_overlap():
    """Overlaps 0.625 (score 0.9) and 1 (0.8): at 0.5 to 0.6 the first hits, the second
    is false and comes too late to cost; from 0.65 on it is false, hit: precision 1/2.
    """
    loose = (0.0, 0.0, 0.2, 0.125)
    found = [[(loose, 0.9, 0), ((0.0, 0.0, 0.2, 0.2), 0.8, 0)]]

    values = _values(
        detection.DetectionMetric(1), _records(found, [[((0.0, 0.0, 0.2, 0.2), 0)]])
    )

    assert values["ap50"] == 1.0
    assert values["coco_ap"] == pytest.approx((3 * 1 + 7 * 0.5) / 10)


def test_no_images_with_boxes_and_none_found_is_undefined():
    values = _values(detection.DetectionMetric(2), _records([[], []], [[], []]))

    assert np.isnan([values["ap50"], values["coco_ap"]]).all()


def test_more_than_a_hundred_detections_of_a_class_in_an_image_are_cut():
    found = [[*((FAR, 0.9, 0) for _ in range(100)), (A, 0.1, 0)]]

    values = _values(
        detection.DetectionMetric(1), _records(found, [[(A, 0)]], slots=101)
    )

    assert values["ap50"] == 0.0


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


def _plain_coco(records, size):
    """What pycocotools prints, used as its manual does, on boxes in pixels."""

    def rows(box, label, valid, score=None):
        for i, j in zip(*np.nonzero(valid), strict=True):
            y0, x0, y1, x1 = (float(side) * size for side in box[i, j])
            width, height = max(x1 - x0, 0), max(y1 - y0, 0)
            row = {
                "image_id": int(i),
                "category_id": int(label[i, j]),
                "bbox": [x0, y0, width, height],
                "area": width * height,
            }
            yield row if score is None else row | {"score": float(score[i, j])}

    true = list(
        rows(records["truth_box"], records["truth_class"], records["truth_valid"])
    )
    for number, row in enumerate(true, start=1):
        row |= {"id": number, "iscrowd": 0}
    truth: Any = coco.COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(len(records["score"]))],
        "categories": [{"id": c} for c in range(3)],
        "annotations": true,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        truth.dataset["info"] = {}
        found = truth.loadRes(
            list(
                rows(
                    records["box"], records["class"], records["valid"], records["score"]
                )
            )
        )
        evaluation = cocoeval.COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_values_are_those_that_pycocotools_prints():
    records = _random_records(11)

    values = _values(detection.DetectionMetric(3), records)

    stats = _plain_coco(records, 512)
    assert values["coco_ap"] == pytest.approx(stats[0], abs=1e-12)
    assert values["ap50"] == pytest.approx(stats[1], abs=1e-12)


def test_resampled_rows_equal_a_set_with_those_images():
    metric, records = detection.DetectionMetric(3), _random_records(7)
    rows = np.random.default_rng(0).integers(30, size=30)

    summary = metric.summarise(records)
    resampled = metric.compute({name: x[rows] for name, x in summary.items()})

    whole = _values(metric, {name: x[rows] for name, x in records.items()})
    assert resampled == whole


def test_sensitivity_at_rates_of_false_alarms_by_hand():
    """Four images, two boxes: hit, 1 false, hit, then 2 false.

    Allowed are 1/2, 1, 2, 4, 8, 16, 32 false alarms: at 1/2 the first hit alone counts.
    """
    found = [
        [(A, 0.9, 0)],
        [(FAR, 0.8, 0), (B, 0.7, 0)],
        [(A, 0.6, 0), (B, 0.5, 0)],
        [],
    ]
    records = _records(found, [[(A, 0)], [(B, 0)], [], []])

    value = _values(detection.DetectionMetric(1), records)["froc"]

    assert value == pytest.approx((0.5 + 6 * 1.0) / 7)


def test_a_box_that_is_never_found_bounds_the_sensitivity():
    records = _records([[(A, 0.9, 0)], []], [[(A, 0)], [(B, 0)]])

    assert _values(detection.DetectionMetric(1), records)["froc"] == 0.5


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
