"""Tests of the mandibles on a made-up release."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import panoramic_mandible
from tfds_builders.images import reader
from tfds_builders.panoramic_mandible import dummy_data
from tfds_builders.releases import dummy_images, release

IMAGES = 12
_builder = functools.partial(release_check.builder, panoramic_mandible)


def _masks(folder, data_dir, **options):
    """The mask of each image that has one, before it is stored."""
    builder = _builder(folder, data_dir, **options)
    shape = (dummy_data.HEIGHT, dummy_data.WIDTH)
    return {
        item.image_id: builder.read_mask(item, *shape)
        for item in builder.found
        if item.masks and int(item.image_id) < 900
    }


@pytest.fixture(scope="module")
def truth():
    """The regions that `dummy_data.write` drew, by image_id."""
    rng = np.random.default_rng(0)
    found = {}
    for number in range(1, 13):
        found[str(number)] = dummy_data.jaw(rng)
        dummy_images.draw(rng, dummy_data.HEIGHT, dummy_data.WIDTH)
    return found


def test_images_come_in_the_order_of_their_numbers(prepared) -> None:
    assert list(prepared.examples) == [str(number) for number in range(1, 13)]
    assert set(prepared.split_of.values()) == {"train"}
    for name, example in prepared.examples.items():
        assert example["patient_id"] == f"panoramic:{name}".encode()


def test_masks_are_the_mandible(prepared, truth) -> None:
    for name, example in prepared.examples.items():
        mask = example["mask"][..., 0]
        assert mask.shape == example["image"].shape[:2]
        assert set(np.unique(mask)) == {0, 1}
        if name not in ("7", "8"):
            np.testing.assert_array_equal(mask > 0, truth[name])


def test_black_pixels_inside_are_filled(dummy, prepared) -> None:
    stored = dummy / "DentalPanoramicXrays" / "Segmentation1" / "2.png"
    values = reader.read_mask(stored)

    mask = prepared.examples["2"]["mask"][..., 0]
    assert ((values == 0) & (mask == 1)).sum() >= 5


def test_masks_of_any_kind_are_read(prepared, truth) -> None:
    for name in ("7", "8"):
        mask = prepared.examples[name]["mask"][..., 0] == 1
        assert (mask & truth[name]).sum() > 0.8 * (mask | truth[name]).sum()


def test_pictures_become_one_channel(dummy, prepared) -> None:
    folder = dummy / "DentalPanoramicXrays" / "Images"
    paths = {name: folder / f"{name}.png" for name in prepared.examples}

    assert release_check.kinds_of(prepared.examples, paths) == {"grey", "RGB", "16-bit"}


def test_the_expert_can_be_chosen(dummy, tmp_path) -> None:
    first = _masks(dummy, tmp_path)
    second = _masks(dummy, tmp_path, expert="second")
    agreed = _masks(dummy, tmp_path, expert="agreed")

    assert first.keys() - second.keys() == {"5"}
    assert agreed.keys() == second.keys()
    np.testing.assert_array_equal(agreed["2"] == 1, first["2"] == 1)
    np.testing.assert_array_equal(agreed["2"] > 0, second["2"] == 1)
    assert set(np.unique(agreed["2"])) == {0, 1, 255}
    with pytest.raises(ValueError, match="expert is 'third'"):
        panoramic_mandible.Config(name="t", expert="third")


def test_the_common_configuration_means_the_first_expert(dummy, tmp_path) -> None:
    config = release.ReleaseConfig(name="t", folder=str(dummy))
    builder = panoramic_mandible.Builder(data_dir=tmp_path, config=config)

    assert builder.found == _builder(dummy, tmp_path).found


def test_partners_may_be_missing(dummy, prepared, tmp_path) -> None:
    data = release_check.prepare(
        panoramic_mandible.Builder,
        _without(dummy, tmp_path, "Segmentation1/3.png"),
        tmp_path / "data",
    )

    assert data.index["3"]["has_mask"] == "0"
    assert (data.examples["3"]["mask"] == 255).all()
    assert prepared.left_out["Segmentation1/990.png"] == "a mask without an image"


def _without(dummy, tmp_path, name):
    dummy_data.write(epath.Path(tmp_path), images=10)
    (epath.Path(tmp_path) / "DentalPanoramicXrays" / name).unlink()
    return tmp_path


def test_bad_files_go_to_quarantine(prepared) -> None:
    reasons = dict(prepared.left_out)

    assert "damaged" in reasons.pop("901")
    assert reasons.pop("902") == "the file is empty"
    assert "marks nothing" in reasons.pop("903")
    assert "Segmentation1/904.png: damaged" in reasons.pop("904")
    assert "22 x 44 pixels, its image 96 x 44" in reasons.pop("905")
    assert "marks the whole image" in reasons.pop("906")
    assert set(reasons) == {"Segmentation1/990.png"}


def test_missing_folders_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found.*hxt48yk462-1\.zip"):
        _builder(tmp_path, tmp_path / "data").download_and_prepare()

    dummy_data.write(epath.Path(tmp_path), images=10)
    (tmp_path / "DentalPanoramicXrays" / "Segmentation2").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match="folder Segmentation2"):
        _builder(tmp_path, tmp_path / "d", expert="second").download_and_prepare()
