"""Tests of what is done to every picture the same way."""

import cv2
import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import boxes, kinds, masks, transforms
from mtpret_jax.ops import views


def encode(picture: np.ndarray) -> np.ndarray:
    return cv2.imencode(".png", picture)[1]


def paint(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intensities with a bright rectangle, its mask and its box."""
    y0, x0, y1, x1 = height // 4, width // 4, height // 2, width * 3 // 4
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 1
    box = np.array([[y0 / height, x0 / width, y1 / height, x1 / width]], np.float32)
    return mask.astype(np.float32), mask, box


def test_picture_of_right_size_is_untouched():
    image = np.random.default_rng(0).random((48, 48), np.float32)
    for mode in ("pad", "crop", "stretch"):
        view = transforms.plain_view(image, size=48, mode=mode)
        np.testing.assert_array_equal(view.image, image)
        assert view.valid.all()


@pytest.mark.parametrize("mode", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(96, 60), (60, 96), (33, 40), (30, 20)])
def test_image_mask_and_box_stay_together(mode, shape):
    image, mask, box = paint(*shape)
    view = transforms.plain_view(image, size=64, mode=mode)
    warped = masks.warp(mask, view.matrix, size=64)
    moved, keep = boxes.clip(
        boxes.warp(box, view.matrix, height=shape[0], width=shape[1], size=64)
    )
    assert keep.all()
    np.testing.assert_array_equal(warped != masks.UNKNOWN_CLASS, view.valid)
    assert np.mean((view.image > 0.5) != (warped == 1)) < 0.02
    rows, columns = np.nonzero(warped == 1)
    tight = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
    np.testing.assert_allclose(moved[0] * 64, tight, atol=1.0)


def test_pad_centres_and_knows_its_padding():
    fitted = transforms.fit(100, 50, size=64, mode="pad")
    assert fitted.content == (16, 0, 48, 64)
    view = transforms.plain_view(np.ones((100, 50), np.float32), size=64, mode="pad")
    assert view.valid[:, 16:48].all()
    assert not view.valid[:, :16].any()
    assert not view.valid[:, 48:].any()


def test_crop_fills_the_square():
    view = transforms.plain_view(np.ones((100, 50), np.float32), size=64, mode="crop")
    assert view.valid.all()


def test_shrinking_averages_pixels():
    image = np.random.default_rng(0).random((64, 64), np.float32)
    view = transforms.plain_view(image, size=16, mode="pad")
    blocks = image.reshape(16, 4, 16, 4).mean((1, 3))
    np.testing.assert_allclose(view.image, blocks, atol=1e-5)


def test_boxes_cut_by_the_crop_are_clipped_or_dropped():
    # The square shows the middle half of the width.
    matrix = transforms.fit(50, 100, size=50, mode="crop").matrix
    box = np.array(
        [
            [0.2, 0.4, 0.6, 0.6],  # inside
            [0.2, 0.1, 0.6, 0.5],  # 0.25 / 0.4 of it left
            [0.2, 0.0, 0.6, 0.3],  # 0.05 / 0.3 of it left
            [0.2, 0.8, 0.6, 0.9],  # outside
        ],
        np.float32,
    )
    whole = boxes.warp(box, matrix, height=50, width=100, size=50)
    moved, keep = boxes.clip(whole)
    assert keep.tolist() == [True, True, False, False]
    np.testing.assert_allclose(moved[0], [0.2, 0.3, 0.6, 0.7], atol=1e-6)
    np.testing.assert_allclose(moved[1], [0.2, 0.0, 0.6, 0.5], atol=1e-6)
    np.testing.assert_allclose(whole[3], [0.2, 1.1, 0.6, 1.3], atol=1e-6)


def test_no_boxes_give_no_boxes():
    none = np.zeros((0, 4), np.float32)
    box, keep = boxes.clip(boxes.warp(none, np.eye(3), height=8, width=8, size=8))
    assert box.shape == (0, 4)
    assert keep.shape == (0,)


def normal(
    image: np.ndarray, valid: np.ndarray, statistics: tuple[float, float] | None = None
) -> np.ndarray:
    """What a network sees of a view, float32 [H, W, 1]."""
    view = transforms.View(image, valid, np.eye(3))
    found, told = transforms.to_input(view, statistics=statistics)
    assert found.dtype == image.dtype
    batch = {"image": found[np.newaxis], "image_statistics": told[np.newaxis]}
    return views.normalise(batch)["image"][0]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_normalising_uses_real_pixels_only(depth):
    rng = np.random.default_rng(0)
    image = rng.integers(0, np.iinfo(depth).max, (32, 32), depth, endpoint=True)
    valid = np.zeros((32, 32), bool)
    valid[8:24] = True
    found = normal(image, valid)
    assert found.shape == (32, 32, 1)
    assert found.dtype == np.float32
    assert (found[~valid] == 0).all()
    np.testing.assert_allclose(found[valid].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(found[valid].std(), 1, atol=1e-4)


def test_black_is_told_from_padding():
    image = np.tile(np.array([0, 200], np.uint8), (4, 2))
    valid = np.tile([True, True, False, False], (4, 1))
    found = normal(image, valid)[..., 0]
    np.testing.assert_allclose(found, np.tile([-1, 1, 0, 0], (4, 1)), atol=1e-5)


def test_normalising_by_given_statistics():
    image = np.full((4, 4), 51, np.uint8)
    found = normal(image, np.ones((4, 4), bool), statistics=(0.1, 0.05))
    np.testing.assert_allclose(found, 2.0, rtol=1e-4)


@pytest.mark.parametrize("value", [0, 25, 255])
def test_constant_image_becomes_zero(value):
    image = np.full((16, 24), value, np.uint8)
    view = transforms.plain_view(image, size=20, mode="pad")
    np.testing.assert_array_equal(normal(view.image, view.valid), 0)


def test_16_bits_equal_8_bits():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    deep = picture.astype(np.uint16) * 257
    shallow, deep = (
        transforms.to_intensity(transforms.decode(encode(p))) for p in (picture, deep)
    )
    assert shallow.dtype == deep.dtype == np.float32
    np.testing.assert_allclose(deep, shallow, atol=1e-7)
    assert shallow.max() <= 1


def test_what_is_no_grey_picture_is_refused():
    with pytest.raises(ValueError, match="Cannot decode"):
        transforms.decode(np.frombuffer(b"not a picture", np.uint8))
    with pytest.raises(ValueError, match="grey picture"):
        transforms.decode(encode(np.zeros((4, 4, 3), np.uint8)))


def test_unknown_fit_is_refused():
    with pytest.raises(ValueError, match=r"config\.input\.fit is 'squash'"):
        transforms.fit(4, 4, size=4, mode="squash")


def test_targets():
    task = config.TaskConfig(image_size=3, target="finding")
    example = {"labels/finding": np.array([1, 0, -1], np.int8)}
    label = kinds.KINDS["classification"].targets(
        example, task, np.eye(3), (3, 3), whole=False
    )
    assert label["label"].tolist() == [1, 0, 0]
    assert label["label_known"].tolist() == [True, True, False]
    example = {"mask": encode(np.array([[0, 2, 255]] * 3, np.uint8))}
    mask = kinds.Segmentation().targets(example, task, np.eye(3), (3, 3), whole=False)
    assert mask["segmentation"].tolist() == [[0, 2, 0]] * 3
    assert mask["segmentation"].dtype == np.uint8
    assert mask["pixel_known"].tolist() == [[True, True, False]] * 3


def test_boxes_are_padded_and_none_left_out():
    side = np.array([0.1, 0.4, 0.2, 0.3], np.float32)
    box = np.stack([0 * side, 0 * side, side, side], axis=-1)
    box_class = np.arange(4, dtype=np.int32)
    padded = boxes.pad(box, box_class, max_boxes=6)
    assert padded["box"].shape == (6, 4)
    assert padded["box_valid"].tolist() == [True] * 4 + [False] * 2
    with pytest.raises(ValueError, match="max_boxes: expected at least 4"):
        boxes.pad(box, box_class, max_boxes=3)
    none = boxes.pad(box[:0], box_class[:0], max_boxes=2)
    assert not none["box_valid"].any()


@pytest.mark.parametrize("seed", range(6))
def test_valid_is_where_the_nearest_pixel_is_of_the_picture(seed):
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-0.3, 0.3), rng.uniform(0.2, 3.0)
    turn = scale * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = 16 - turn @ [25, 20] + rng.uniform(-3, 3, 2)
    image = rng.random((40, 50), np.float32)
    _, valid = transforms.warp_image(image, matrix, size=32)
    outside = masks.warp(np.zeros((40, 50), np.uint8), matrix, size=32)
    np.testing.assert_array_equal(valid, outside != masks.UNKNOWN_CLASS)


@pytest.mark.parametrize("zoom", [0.13, 0.24, 0.31, 0.49, 0.8, 1.7])
def test_turned_picture_is_the_mean_of_what_each_pixel_covers(zoom):
    # A fine pattern upon a coarse one: what is skipped would show as a moiré.
    y, x = np.mgrid[:256, :256]
    image = (0.5 + 0.2 * np.sin(x / 20) + 0.2 * np.sin(2.6 * x + 2.9 * y)).astype("f4")
    turn = cv2.getRotationMatrix2D((128, 128), 8, zoom)
    turn[:, 2] -= 112
    matrix = np.vstack([turn, [0, 0, 1]])
    warped, valid = transforms.warp_image(image, matrix, size=32)
    fine = np.diag([16, 16, 1]) @ matrix
    fine[:2, 2] += 0.5 * (fine[:2, 0] + fine[:2, 1]) - 0.5
    sampled = cv2.warpAffine(image, fine[:2], (512, 512), borderMode=1)
    wanted = sampled.reshape(32, 16, 32, 16).mean((1, 3))
    error = np.sqrt(np.mean((warped - wanted)[valid] ** 2))
    assert error < (0.05 if zoom < 1 else 0.08)
    skipping = transforms.warp(image, matrix, (32, 32), flags=1, border_mode=1)
    worse = np.sqrt(np.mean((skipping - wanted)[valid] ** 2))
    assert zoom > 0.5 or worse > 2 * error


def test_integers_are_warped_as_floats_are():
    picture = np.random.default_rng(0).integers(0, 256, (90, 70)).astype(np.uint8)
    exact = transforms.to_intensity(picture)
    matrix = np.array([[0.3, 0.05, 2.0], [-0.05, 0.3, 5.0], [0, 0, 1.0]])
    for stored in (picture, picture.astype(np.uint16) * 257):
        one, valid = transforms.warp_image(stored, matrix, size=32)
        other, also_valid = transforms.warp_image(exact, matrix, size=32)
        assert one.dtype == stored.dtype
        # Rounded when halved and when interpolated.
        top = np.iinfo(stored.dtype).max
        np.testing.assert_allclose(one, other * top, atol=1 + 2e-5 * top)
        np.testing.assert_array_equal(valid, also_valid)


def test_mean_is_of_valid_pixels():
    image = np.random.default_rng(0).random((20, 30), np.float32)
    valid = image > 0.4
    mean, count = transforms.valid_mean(image, valid)
    np.testing.assert_allclose(mean, image[valid].mean(), rtol=1e-6)
    assert count == valid.sum()
    assert transforms.valid_mean(image, np.zeros_like(valid)) == (0.0, 0)
