"""Codes of masks: overlapping bits, values of no class, blurred edges, other sizes."""

import pathlib
from typing import Any

import cv2
import numpy as np
import pytest
from etils import epath

from tfds_builders import xray_folder
from tfds_builders.images import reader
from tfds_builders.xray_folder import masks


def _config(**options: Any) -> xray_folder.Config:
    return xray_folder.Config(name="mine", folder="x", **options)


def _write(folder: pathlib.Path, values: np.ndarray) -> epath.Path:
    path = folder / "mask.png"
    cv2.imwrite(str(path), values)
    return epath.Path(path)


def test_the_first_class_wins_where_bits_overlap():
    values = np.array([[0, 1, 2, 4, 5, 8]], np.uint8)

    found = masks.decode_bits(values, {"heart": [2], "lung": [0, 1]})

    np.testing.assert_array_equal(found, [[0, 2, 2, 1, 1, 0]])


def test_label_values_may_be_unknown_but_not_strangers():
    values = np.array([[0, 5, 9]], np.uint16)

    found = masks.decode_labels(values, {"tooth": [5]}, [9])

    np.testing.assert_array_equal(found, [[0, 1, 255]])
    with pytest.raises(ValueError, match=r"in no class: \[9\]"):
        masks.decode_labels(values, {"tooth": [5]}, [])


def test_blurred_masks_are_cut_at_half(tmp_path: pathlib.Path):
    path = _write(tmp_path, np.array([[0, 100, 150, 255]], np.uint8))

    with pytest.raises(ValueError, match=r"mask.png: .*\[100, 150\].*threshold"):
        masks.read(_config(masks="labels", mask_classes={"lung": [255]}), path, 1, 4)
    config = _config(masks="threshold", mask_classes={"lung": []})
    found = masks.read(config, path, 1, 4)

    np.testing.assert_array_equal(found, [[0, 0, 1, 1]])


def test_a_mask_of_another_size_is_fitted_and_of_another_shape_refused(
    tmp_path: pathlib.Path,
):
    path = _write(tmp_path, np.array([[0, 1], [1, 0]], np.uint8))
    config = _config(masks="labels", mask_classes={"lung": [1]})

    found = masks.read(config, path, 4, 4)

    np.testing.assert_array_equal(found, np.kron([[0, 1], [1, 0]], np.ones((2, 2))))
    with pytest.raises(reader.UnreadableImage, match="2 x 2 pixels, its image 8 x 4"):
        masks.read(config, path, 4, 8)


@pytest.mark.parametrize("value", [1, 38, 100, 127])
def test_a_threshold_over_a_dark_mask_is_refused(tmp_path: pathlib.Path, value: int):
    path = _write(tmp_path, np.array([[0, value]], np.uint8))
    config = _config(masks="threshold", mask_classes={"lung": []})

    with pytest.raises(
        ValueError, match=rf"mask.png: .*values 0, {value}.*=\"labels\""
    ):
        masks.read(config, path, 1, 2)


def test_a_threshold_takes_an_empty_mask_as_it_is(tmp_path: pathlib.Path):
    path = _write(tmp_path, np.zeros((1, 2), np.uint8))
    config = _config(masks="threshold", mask_classes={"lung": []})

    assert not masks.read(config, path, 1, 2).any()


def test_masks_that_are_all_background_are_refused(tmp_path: pathlib.Path):
    transparent = np.zeros((20, 32, 4), np.uint8)
    picture = np.tile(np.arange(32, dtype=np.uint8), (20, 1))
    for name, array in (("images", picture), ("masks", transparent)):
        (tmp_path / name).mkdir()
        for index in range(12):
            cv2.imwrite(str(tmp_path / name / f"{index}.png"), array)
    config = xray_folder.Config(
        name="mine", folder=str(tmp_path), masks="threshold", mask_classes={"lung": []}
    )
    builder = xray_folder.Builder(data_dir=tmp_path / "data", config=config)

    with pytest.raises(ValueError, match=r"pixel of 'lung'\. For example .*values"):
        builder.download_and_prepare()
