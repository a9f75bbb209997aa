"""Tests of the truth: no larger than the object when turned, whole when measured."""

import cv2
import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import elements
from mtpret_jax.metrics import detection, segmentation

HEIGHT, WIDTH, SIZE = 60, 100, 60  # The middle 60 columns are in the crop.


def make_element(kind: str, fit: str, **changes: object) -> elements.TaskElement:
    """Of one picture: a box and a mask in its middle, another two at its left end."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:40, 40:60] = 1
    mask[10:50, 2:12] = 1
    mask[50:, 90:] = 255  # Not annotated: it can't be missed.
    box = np.array([[20, 40, 40, 60], [10, 2, 50, 12]]) / np.tile([HEIGHT, WIDTH], 2)
    example = {
        "record": np.asarray(0, np.int32),
        "image": np.where(mask == 1, 200, 50).astype(np.uint8),
        "mask": cv2.imencode(".png", mask)[1],
        "box": box.astype(np.float32),
        "box_class": np.zeros(2, np.int32),
    }
    task = config.TaskConfig(kind=kind, image_size=SIZE, **changes)
    return elements.TaskElement([example], task, config.InputConfig(fit=fit))


def batch_of(element: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value)[np.newaxis] for name, value in element.items()}


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_mask_that_a_crop_leaves_out_counts_as_missed(fit):
    batch = batch_of(make_element("segmentation", fit)(0))
    metric = segmentation.SegmentationMetric(["background", "lung"])

    # What is drawn is exactly what the input shows.
    records = metric.records({"segmentation": batch["segmentation"]}, batch)

    if fit != "crop":
        assert metric.compute(metric.summarise(records))["dice"] == 1
        return
    tp, fp, fn = (records[name][0].tolist() for name in ("tp", "fp", "fn"))
    assert (tp[1], fp[1], fn[1]) == (400, 0, 400)
    # Beyond the crop all is drawn as background.
    assert (tp[0], fp[0], fn[0]) == (HEIGHT * WIDTH - 800 - 100, 400, 0)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_box_that_a_crop_leaves_out_counts_as_missed(fit):
    batch = batch_of(make_element("detection", fit)(0))
    found = np.clip(batch["box"], 0, 1)  # No detection reaches beyond the input.
    outputs = {
        "box": found,
        "score": np.linspace(0.9, 0.1, found.shape[1])[np.newaxis],
        "class": batch["box_class"],
        "valid": batch["box_valid"],
    }
    metric = detection.DetectionMetric(1)

    summary = metric.summarise(metric.records(outputs, batch))

    assert summary["truth_count"].tolist() == [[2]]
    assert summary["hit"][..., 0].sum() == (1 if fit == "crop" else 2)


def test_training_drops_the_box_that_is_cut_off():
    element = make_element("detection", "crop", augment=config.AugmentConfig())

    batch = element.random(0, np.random.default_rng(0))

    assert batch["box_valid"].sum() == 1


def test_a_turned_box_is_as_large_as_the_object():
    """A square box, which around its turned corners would be 12 % larger on average."""
    turning = config.AugmentConfig(rotation_degrees=7.0)
    element = make_element("detection", "pad", augment=turning)
    area = []
    for seed in range(100):
        box = element.random(0, np.random.default_rng(seed))["box"][0]
        area.append((box[2] - box[0]) * (box[3] - box[1]))

    np.testing.assert_allclose(area, (20 / WIDTH) ** 2, rtol=0.01)
