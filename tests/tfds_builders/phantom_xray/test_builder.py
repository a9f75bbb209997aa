"""Tests of the simulated X-rays and of their builder."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from tfds_builders import phantom_xray
from tfds_builders.phantom_xray import canvas, exposure, simulator

BODIES = sorted(simulator.BODIES)


def _shoot(body: str, index: int, **changes: int) -> simulator.Radiograph:
    options = {"size": 64, "seed": 0, "split_index": 0, "index": index}
    return simulator.simulate(body, **{**options, **changes})


@pytest.mark.parametrize("body", BODIES)
def test_an_image_is_a_pure_function_of_its_number(body: str) -> None:
    _shoot(body, 1)

    first, again = _shoot(body, 5), _shoot(body, 5)

    np.testing.assert_array_equal(first.image, again.image)
    assert first.finding == again.finding
    for changes in ({"seed": 1}, {"split_index": 1}, {"index": 6}):
        other = _shoot(body, **{"index": 5, **changes})
        assert first.image.shape != other.image.shape or np.any(
            first.image != other.image
        )


@pytest.mark.parametrize("body", BODIES)
def test_labels_boxes_and_masks_agree(body: str) -> None:
    rules = simulator.BODIES[body]
    shots = [_shoot(body, index) for index in range(40)]

    for shot in shots:
        assert shot.image.dtype == np.uint8
        assert max(shot.image.shape) == 64
        assert (shot.boxes is not None) == bool(rules.object_names)
        assert (shot.mask is not None) == bool(rules.mask_names)
        if shot.boxes is not None:
            assert (len(shot.boxes) > 0) == (shot.finding == 1)
            low, high = shot.boxes[:, :2], shot.boxes[:, 2:]
            assert np.all((low >= 0) & (high <= 1))
            assert np.all((high - low > 0.04) & (high - low < 0.6))
        if shot.mask is not None:
            assert shot.mask.shape == shot.image.shape
            assert set(np.unique(shot.mask)) == {0, 1}
            assert 0.06 < shot.mask.mean() < 0.5
    assert 10 <= sum(shot.finding for shot in shots) <= 30


def test_older_fingers_are_longer_and_worn_joints_narrower() -> None:
    shots = [_shoot("finger", index, size=96) for index in range(40)]
    months = np.array([shot.values["bone_age_months"] for shot in shots])
    bright = np.array([(shot.image > 128).mean() for shot in shots])

    assert {shot.grades["narrowing"] for shot in shots} == set(range(5))
    assert all((shot.grades["narrowing"] > 1) == shot.finding for shot in shots)
    assert months.min() >= 12
    assert months.max() <= 216
    assert np.corrcoef(months, bright)[0, 1] > 0.5


def test_the_sex_told_is_that_of_the_finger() -> None:
    options = {"seed": 0, "split_index": 0}
    told = [simulator.sex_of("finger", **options, index=index) for index in range(12)]

    assert set(told) == {"F", "M"}
    assert told[0] == told[1]  # one patient
    assert simulator.sex_of("hand", **options, index=0) == ""


def test_landmarks_lie_on_the_rim_of_the_mandible() -> None:
    names = simulator.BODIES["head"].landmark_names
    for index in range(10):
        shot = _shoot("head", index, size=128)
        assert shot.landmarks is not None
        assert shot.mask is not None
        known = np.isfinite(shot.landmarks[:, 0])
        assert known.sum() >= len(names) - 2
        middle = shot.landmarks[names.index("menton"), 1]
        for name, (y, x) in zip(names, shot.landmarks, strict=True):
            if not np.isfinite(y):
                continue
            row, column = int(y * shot.mask.shape[0]), int(x * shot.mask.shape[1])
            part = shot.mask[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            assert 0 < part.mean() < 1, name
            if name != "menton":  # As on film: the patient's left is on the right.
                assert (x > middle) == name.startswith("left"), name


def test_opacities_lie_in_the_lungs() -> None:
    for index in range(40):
        shot = _shoot("chest", index)
        assert shot.boxes is not None
        assert shot.mask is not None
        height, width = shot.mask.shape
        for y0, x0, y1, x1 in shot.boxes * (height, width, height, width):
            part = shot.mask[round(y0) : round(y1), round(x0) : round(x1)]
            assert part.mean() > 0.3


def test_bone_is_white_and_air_is_dark() -> None:
    attenuation = np.zeros((64, 64), np.float32)
    attenuation[16:48, 16:48] = 1.0
    attenuation[24:40, 24:40] = 2.0
    rng = np.random.default_rng(0)

    shown = exposure.expose(attenuation, exposure.Exposure.draw(rng), rng)

    air, flesh, bone = shown[:8].mean(), shown[18:22, 24:40].mean(), shown[32, 32]
    assert air < flesh < bone


def test_lungs_are_darker_than_what_surrounds_them() -> None:
    shots = [_shoot("chest", index) for index in range(12)]

    for shot in (shot for shot in shots if shot.finding == 0):
        assert shot.mask is not None
        inside = shot.mask > 0
        ring = cv2.dilate(shot.mask, np.ones((9, 9), np.uint8)) > 0
        assert shot.image[inside].mean() + 25 < shot.image[ring & ~inside].mean()


def test_a_patient_has_one_or_two_neighbouring_images() -> None:
    patients = [simulator.patient_of(index) for index in range(9)]

    assert patients == [0, 0, 1, 2, 2, 3, 4, 4, 5]


def test_bounds_are_tight() -> None:
    mask = np.zeros((10, 20), bool)
    assert canvas.bounds(mask) is None

    mask[2:5, 4:6] = True

    np.testing.assert_allclose(canvas.bounds(mask), [0.2, 0.2, 0.5, 0.3])


@pytest.mark.parametrize("body", BODIES)
def test_simulation_is_fast_enough_for_tests(body: str) -> None:
    """Ten times slower than it is on a quiet machine would fail."""
    _shoot(body, 0, size=128)
    start = time.process_time()

    for index in range(10):
        _shoot(body, index, size=128)

    assert (time.process_time() - start) / 10 < 0.08  # seconds of processor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body": "foot"}, "expected one of"),
        ({"image_size": 8}, "at least 32"),
        ({"train": -1}, "0 or more"),
    ],
)
def test_a_bad_option_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phantom_xray.Config(name="bad", **change)


def test_an_unknown_body_or_a_tiny_image_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of"):
        _shoot("foot", 0)
    with pytest.raises(ValueError, match="at least 32"):
        _shoot("hand", 0, size=8)


def test_every_body_has_its_predefined_sets() -> None:
    names = {config.name for config in phantom_xray.Builder.BUILDER_CONFIGS}

    assert names == {f"{body}_{size}" for body in BODIES for size in (128, 256)}


_READ = """
import json, sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
source = builder.as_data_source("train")
ids = [source[i]["image_id"].decode() for i in range(len(source))]
first = source[1]
print(json.dumps({
    "ids": ids,
    "shape": first["image"].shape,
    "finding": first["labels"]["finding"].tolist(),
    "mask": "mask" in first,
    "boxes": len(first["objects"]["bbox"]) if "objects" in first else None,
    "strangers": [m for m in ("tensorflow", "jax", "mtpret_jax") if m in sys.modules],
}))
"""


@pytest.mark.parametrize("body", BODIES)
def test_a_prepared_set_reads_back_without_tensorflow(body: str, tmp_path) -> None:
    config = phantom_xray.Config(
        name="tiny", body=body, image_size=48, train=5, validation=2, test=0
    )
    builder = phantom_xray.Builder(data_dir=tmp_path, config=config)

    builder.download_and_prepare()

    shot = simulator.simulate(body, size=48, seed=0, split_index=0, index=1)
    command = [sys.executable, "-c", _READ, str(builder.data_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    read = json.loads(done.stdout.splitlines()[-1])
    assert read["ids"] == [f"train-{index:06d}" for index in range(5)]
    assert read["shape"] == [*shot.image.shape, 1]
    assert read["finding"] == [1 - shot.finding, shot.finding]
    assert read["mask"] == (shot.mask is not None)
    assert read["boxes"] == (None if shot.boxes is None else len(shot.boxes))
    assert read["strangers"] == []
    assert set(builder.info.splits) == {"train", "validation"}
    probe = phantom_xray.Builder(data_dir=tmp_path, config=config)
    assert probe.fingerprint() == builder.fingerprint()
