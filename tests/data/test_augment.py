"""Tests of what chance does to a picture."""

import dataclasses
import itertools

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import augment, boxes, masks, transforms

OFF = config.AugmentConfig()
GEOMETRY = config.AugmentConfig(
    crop_min_area=0.5, flip_probability=0.5, rotation_degrees=15.0
)
SIZE = 64
WHOLE = (0, 0, SIZE, SIZE)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (0.5 + 0.4 * np.sin(y / 9) * np.cos(x / 7)).astype(np.float32)


def test_everything_off_changes_nothing():
    image = smooth(50, 70)
    plain = transforms.plain_view(image, size=SIZE, mode="pad")
    view = augment.draw_view(generator(0), OFF, image, size=SIZE, mode="pad")
    np.testing.assert_array_equal(view.image, plain.image)
    np.testing.assert_array_equal(view.valid, plain.valid)
    np.testing.assert_allclose(view.matrix, plain.matrix, atol=1e-12)


def test_flip_twice_is_the_identity():
    settings = config.AugmentConfig(flip_probability=1.0)
    warp = augment.draw_warp(generator(0), settings, content=WHOLE, size=SIZE)
    np.testing.assert_allclose(warp @ warp, np.eye(3), atol=1e-12)
    image = smooth(SIZE, SIZE)
    once, _ = transforms.warp_image(image, warp, size=SIZE)
    np.testing.assert_array_equal(once, image[:, ::-1])
    twice, _ = transforms.warp_image(once, warp, size=SIZE)
    np.testing.assert_array_equal(twice, image)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("mode", "changed"),
    [
        ("pad", {}),
        ("crop", {}),
        ("stretch", {}),
        ("pad", {"crop_min_area": 0.2, "crop_max_area": 4.0}),
        ("crop", {"crop_min_area": 0.1, "crop_max_area": 2.0}),
    ],
)
def test_image_mask_and_boxes_move_together(mode, changed):
    height, width = 90, 70
    y0, x0, y1, x1 = 32, 26, 58, 44
    y, x = np.mgrid[:height, :width] + 0.5
    y, x = (2 * y - y0 - y1) / (y1 - y0), (2 * x - x0 - x1) / (x1 - x0)
    mask = (y**2 + x**2 < 1).astype(np.uint8)  # A box is turned as the ellipse in it.
    image = np.where(mask == 1, 1.0, 0.1).astype(np.float32)
    box = np.array([[y0 / height, x0 / width, y1 / height, x1 / width]], np.float32)
    settings, seen = dataclasses.replace(GEOMETRY, **changed), 0
    for seed in range(60):
        view = augment.draw_view(
            generator(seed),
            settings,
            image,
            size=SIZE,
            mode=mode,
            box=box,
            box_probability=0.5,
        )
        warped = masks.warp(mask, view.matrix, size=SIZE)
        moved, keep = boxes.clip(
            boxes.warp(box, view.matrix, height=height, width=width, size=SIZE)
        )
        np.testing.assert_array_equal(warped != masks.UNKNOWN_CLASS, view.valid)
        bright = (view.image > 0.55) & view.valid
        assert np.mean(bright != (warped == 1)) < 0.02
        if not keep[0]:
            continue
        seen += 1
        top, left, bottom, right = moved[0] * SIZE
        rows, columns = np.nonzero(warped == 1)
        # The box covers the object and touches it on every side.
        assert abs(rows.min() - top) < 1.5
        assert abs(columns.min() - left) < 1.5
        assert abs(rows.max() + 1 - bottom) < 1.5
        assert abs(columns.max() + 1 - right) < 1.5
    assert seen > 40


def test_crops_keep_their_area_aspect_and_place():
    settings = config.AugmentConfig(crop_min_area=0.3)
    areas = []
    for seed in range(200):
        warp = augment.draw_warp(generator(seed), settings, content=WHOLE, size=SIZE)
        x0, y0 = np.linalg.inv(warp)[:2, 2]
        width, height = SIZE / warp[0, 0], SIZE / warp[1, 1]
        assert min(x0, y0) > -1e-9
        assert max(x0 + width, y0 + height) < SIZE + 1e-9
        assert 0.9 < width / height < 1.12
        areas.append(width * height / SIZE**2)
    assert min(areas) > 0.3 - 1e-9
    assert min(areas) < 0.35
    assert max(areas) > 0.95


def test_sizes_are_as_often_halved_as_doubled_and_lose_nothing_when_smaller():
    settings = config.AugmentConfig(crop_min_area=0.25, crop_max_area=4.0)
    zooms = []
    for seed in range(1000):
        warp = augment.draw_warp(generator(seed), settings, content=WHOLE, size=SIZE)
        zooms.append(np.log2(warp[0, 0] * warp[1, 1]) / 2)
        assert 0.9 < warp[0, 0] / warp[1, 1] < 1.12
        if zooms[-1] < 0:
            corners = warp @ [[0, SIZE], [0, SIZE], [1, 1]]
            assert corners[:2].min() > -1e-9
            assert corners[:2].max() < SIZE + 1e-9
    assert -1 <= min(zooms) < -0.95
    assert 0.95 < max(zooms) <= 1
    assert abs(np.mean(zooms)) < 0.1


def test_a_crop_around_a_box_holds_all_of_it_or_lies_in_it():
    settings = config.AugmentConfig(crop_min_area=0.1)
    box = np.array([[0.05, 0.8, 0.15, 0.9], [0.1, 0.0, 1.0, 0.7]], np.float32)
    image, chosen = smooth(90, 70), set()
    for seed in range(100):
        view = augment.draw_view(
            generator(seed),
            settings,
            image,
            size=SIZE,
            mode="pad",
            box=box,
            box_probability=1.0,
        )
        moved = boxes.warp(box, view.matrix, height=90, width=70, size=SIZE)
        inside = (moved[:, :2] > -1e-6).all(1) & (moved[:, 2:] < 1 + 1e-6).all(1)
        low, high = moved[:, :2] < 1e-6, moved[:, 2:] > 1 - 1e-6
        within = (low & high) | ((moved[:, :2] > -1e-6) & (moved[:, 2:] < 1 + 1e-6))
        assert within.all(1).any()
        chosen |= set(np.flatnonzero(inside))
    assert chosen == {0, 1}


def test_a_picture_without_boxes_is_cropped_anywhere():
    settings = config.AugmentConfig(crop_min_area=0.1)
    nothing = np.zeros((0, 4), np.float32)

    view = augment.draw_view(
        generator(0),
        settings,
        smooth(90, 70),
        size=SIZE,
        mode="pad",
        box=nothing,
        box_probability=1.0,
    )

    assert view.matrix[0, 0] > SIZE / 90


def test_crop_of_a_narrow_picture_covers_its_width():
    # 64 x 16 pixels of content: a crop of at least 32 x 32 covers all of the width.
    settings = config.AugmentConfig(crop_min_area=0.3)
    for seed in range(100):
        view = augment.draw_view(
            generator(seed), settings, smooth(128, 32), size=SIZE, mode="pad"
        )
        left, _, right, _ = (24, 0, 40, 64)
        corner = view.matrix[0, 0] * np.array([0, 32]) + view.matrix[0, 2]
        assert corner[0] > -1e-6
        assert corner[1] < SIZE + 1e-6
        assert view.valid.mean() > (right - left) / SIZE * 0.9


def test_rotation_stays_within_its_limit_and_both_ways():
    settings = config.AugmentConfig(rotation_degrees=10.0)
    angles = []
    for seed in range(100):
        warp = augment.draw_warp(generator(seed), settings, content=WHOLE, size=SIZE)
        angles.append(np.rad2deg(np.arctan2(warp[1, 0], warp[0, 0])))
        np.testing.assert_allclose(np.linalg.det(warp), 1.0)
    assert -10 <= min(angles) < -8
    assert 8 < max(angles) <= 10


@pytest.mark.parametrize(
    "changed",
    [
        {"brightness": 0.3},
        {"contrast": 0.5},
        {"gamma": 0.5},
        {"blur_probability": 1.0, "blur_sigma": 2.0},
        {"noise": 0.2},
    ],
)
def test_each_intensity_change_changes_and_stays_in_range(changed):
    settings = dataclasses.replace(OFF, **changed)
    image, valid = smooth(SIZE, SIZE), np.ones((SIZE, SIZE), bool)
    before = image.copy()
    largest = 0.0
    for seed in range(5):
        after = augment.change_intensity(generator(seed), settings, image, valid)
        np.testing.assert_array_equal(image, before)
        assert after.dtype == np.float32
        assert after.min() >= 0
        assert after.max() <= 1
        largest = max(largest, np.abs(after - image).max())
    assert largest > 1e-3


def test_padding_bleeds_into_nothing():
    # A white picture on black padding stays white up to its edge when blurred.
    settings = dataclasses.replace(OFF, blur_probability=1.0, blur_sigma=3.0)
    image = np.full((64, 32), 0.8, np.float32)
    view = augment.draw_view(generator(1), settings, image, size=SIZE, mode="pad")
    np.testing.assert_allclose(view.image[view.valid], 0.8, atol=1e-5)


def test_same_generator_gives_the_same_view():
    settings = config.AUGMENT_PRESETS["contrastive"]
    image = smooth(60, 80)
    one, same, other = (
        augment.draw_view(generator(seed), settings, image, size=SIZE, mode="pad")
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.image, same.image)
    assert np.abs(one.image - other.image).max() > 0.05


def test_noise_is_white_and_of_its_strength():
    settings = dataclasses.replace(OFF, noise=0.05)
    image, valid = np.full((96, 96), 0.5, np.float32), np.ones((96, 96), bool)
    found = [
        augment.change_intensity(generator(seed), settings, image, valid) - 0.5
        for seed in range(40)
    ]
    deviations = np.array([noise.std() for noise in found])
    assert 0.045 < deviations.max() < 0.051
    assert 0.3 < np.mean(deviations < 0.025) < 0.7  # Drawn evenly from 0.
    strong = [noise / noise.std() for noise in found if noise.std() > 0.01]
    for noise, other in itertools.pairwise(strong):
        # 9216 independent pixels: a correlation of 0.05 is nearly 5 deviations.
        assert abs(np.mean(noise[:, 1:] * noise[:, :-1])) < 0.05
        assert abs(np.mean(noise * other)) < 0.05
        assert abs(np.mean(noise**4) - 3) < 0.4


@pytest.mark.parametrize("name", ["gentle", "contrastive"])
@pytest.mark.parametrize(("depth", "most"), [(np.uint8, 2.0), (np.uint16, 0.01)])
def test_views_of_integers_are_those_of_floats_rounded(name, depth, most):
    """Once when warped and once at the end; contrast and gamma stretch the first."""
    settings = config.AUGMENT_PRESETS[name]
    top = np.iinfo(depth).max
    stored = np.rint(smooth(200, 160) * top).astype(depth)
    errors = []
    for seed in range(30):
        found, wanted = (
            augment.draw_view(generator(seed), settings, image, size=96, mode="pad")
            for image in (stored, stored / np.float32(top))
        )
        assert found.image.dtype == depth
        np.testing.assert_array_equal(found.valid, wanted.valid)
        np.testing.assert_array_equal(found.matrix, wanted.matrix)
        errors.append(np.abs(found.image / top - wanted.image) * 255)
    assert np.max(errors) < most  # of 255 grey levels
    assert np.mean(errors) < 0.4
    assert np.mean(np.array(errors) <= 1) > 0.97
