"""Dice and intersection over union, against counts made on paper."""

import cv2
import numpy as np
import pytest

from mtpret_jax.metrics import segmentation

LUNG = segmentation.SegmentationMetric(("background", "lung"))
TWO = segmentation.SegmentationMetric(("background", "left", "right"))


def _batch(truth, known=None):
    truth = np.asarray(truth, np.int32)
    known = np.ones(truth.shape, bool) if known is None else np.asarray(known)
    record = np.arange(len(truth), dtype=np.int32)
    return {"segmentation": truth, "pixel_known": known, "record": record}


def _values(metric, drawn, truth, known=None):
    records = metric.records({"segmentation": np.asarray(drawn)}, _batch(truth, known))
    return metric.compute(metric.summarise(records))


@pytest.mark.smoke
def test_two_images_by_hand():
    """The counts are in the comment below."""
    truth = [[[1, 1, 1, 0]], [[1, 1, 0, 0]]]
    drawn = [[[1, 1, 0, 0]], [[1, 0, 1, 0]]]

    values = _values(LUNG, drawn, truth)

    # lung: tp 3, fp 1, fn 2; background: tp 2, fp 2, fn 1
    assert values["dice"] == pytest.approx(6 / 9)
    assert values["mean_iou"] == pytest.approx((3 / 6 + 2 / 5) / 2)
    assert values["dice_per_image"] == pytest.approx((4 / 5 + 2 / 4) / 2)
    apart = {"hd95", "masks_missed", "masks_made_up"}
    assert set(values) == {"dice", "mean_iou", "dice_per_image"} | apart


def test_an_image_without_foreground_counts_in_the_pool_only():
    truth = [[[1, 1]], [[0, 0]]]
    drawn = [[[1, 1]], [[1, 0]]]

    values = _values(LUNG, drawn, truth)

    assert values["dice"] == pytest.approx(4 / 5)
    assert values["dice_per_image"] == 1.0


def test_unknown_pixels_do_not_count_even_with_a_class_out_of_range():
    truth = [[[1, 0, 255]]]
    known = [[[True, True, False]]]

    assert _values(LUNG, [[[1, 0, 1]]], truth, known)["dice"] == 1.0


def test_several_classes_have_their_own_dice_and_a_mean():
    truth = [[[1, 1, 2, 2]]]
    drawn = [[[1, 1, 2, 0]]]

    values = _values(TWO, drawn, truth)

    assert values["dice/left"] == 1.0
    assert values["dice/right"] == pytest.approx(2 / 3)
    assert values["dice"] == pytest.approx(5 / 6)
    assert values["dice_per_image"] == pytest.approx(5 / 6)


def test_no_foreground_at_all_is_undefined_and_not_zero():
    values = _values(LUNG, [[[0, 0]]], [[[0, 0]]])

    assert np.isnan(values["dice"])
    assert np.isnan(values["dice_per_image"])
    assert values["mean_iou"] == 1.0


def test_order_and_batching_of_images_do_not_matter():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=(7, 4, 4))
    drawn = rng.integers(3, size=(7, 4, 4))
    order = rng.permutation(7)

    parts = [
        TWO.records({"segmentation": drawn[i]}, _batch(truth[i]))
        for i in np.array_split(order, 3)
    ]
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    got = TWO.compute(TWO.summarise(joined))

    assert got == pytest.approx(_values(TWO, drawn, truth), nan_ok=True)


def test_a_class_out_of_range_is_refused():
    with pytest.raises(
        ValueError, match="class 0 to 2 in known pixels, expected 0 to 1"
    ):
        _values(LUNG, [[[0, 1]]], [[[2, 0]]])
    with pytest.raises(ValueError, match="background and at least one"):
        segmentation.SegmentationMetric(("background",))


def test_best_dice_of_a_full_resolution_grid_is_one():
    truth = np.zeros((1, 8, 8), int)
    truth[0, 2:5, 3:6] = 1

    got = segmentation.best_dice(
        truth, np.ones(truth.shape, bool), output_stride=1, num_classes=2
    )

    assert got == 1.0


def test_best_dice_falls_with_the_stride():
    y, x = np.mgrid[:64, :64]
    truth = ((y - 30) ** 2 + (x - 34) ** 2 < 15**2).astype(int)[None]
    known = np.ones(truth.shape, bool)

    best = [
        segmentation.best_dice(truth, known, output_stride=s, num_classes=2)
        for s in (4, 8, 16)
    ]

    assert 0.98 < best[0] <= 1
    assert best[0] > best[1] > best[2] > 0.8


def test_best_dice_is_above_that_of_the_truth_resized():
    rng = np.random.default_rng(0)
    soft = cv2.GaussianBlur(rng.random((48, 48)), (0, 0), 4)
    truth = (soft > np.median(soft)).astype(int)
    grid = cv2.resize(truth.astype(float), (6, 6), interpolation=cv2.INTER_AREA)
    drawn = cv2.resize(grid, (48, 48), interpolation=cv2.INTER_LINEAR) > 0.5
    resized = 2 * (drawn & (truth == 1)).sum() / (drawn.sum() + truth.sum())

    got = segmentation.best_dice(
        truth[None], np.ones((1, 48, 48), bool), output_stride=8, num_classes=2
    )

    assert resized < got <= 1


def test_best_dice_finds_what_a_grid_can_draw():
    logits = np.random.default_rng(1).normal(size=(4, 4))
    truth = (cv2.resize(logits, (32, 32), interpolation=cv2.INTER_LINEAR) > 0).astype(
        int
    )

    got = segmentation.best_dice(
        truth[None], np.ones((1, 32, 32), bool), output_stride=8, num_classes=2
    )

    assert got > 0.99
