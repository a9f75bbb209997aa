"""Tests of the Montgomery set on invented files."""

from __future__ import annotations

import functools
import pathlib
import shutil

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import montgomery_cxr
from tfds_builders.montgomery_cxr import dummy_data

_builder = functools.partial(release_check.builder, montgomery_cxr)
IMAGES = 40
NAMES = dummy_data.names(IMAGES)


def test_labels_and_readings_are_read(prepared: release_check.Prepared):
    assert list(prepared.examples) == NAMES
    for number, (name, example) in enumerate(prepared.examples.items()):
        assert list(example["labels"]["label"]) == (
            [0, 1] if name[-1] == "1" else [1, 0]
        )
        sex = ("F", "M", "M", "F", "")[number % 5]
        assert prepared.about(name, "sex", "age") == (sex, 20 + number)


def test_one_patient_may_have_two_images(prepared: release_check.Prepared):
    patients = [e["patient_id"].decode() for e in prepared.examples.values()]

    assert patients[-1] == patients[-2] == f"montgomery:{int(NAMES[-2][7:11])}"
    assert len(set(patients)) == IMAGES - 1


def test_masks_are_those_of_the_files(
    dummy: epath.Path, prepared: release_check.Prepared
):
    for number, (name, example) in enumerate(prepared.examples.items()):
        mask = example["mask"][..., 0]
        if number == dummy_data.HALF:
            continue
        for index, side in enumerate(dummy_data.SIDES, start=1):
            file = release_check.decode(dummy / "ManualMask" / side / f"{name}.png") > 0
            np.testing.assert_array_equal(mask == index, file)
            for other in (file[::-1], file[:, ::-1], file[::-1, ::-1]):
                assert (other != file).any()
    assert list(prepared.report["mask_pixel_counts"]) == ["left_lung", "right_lung"]


def test_one_lung_alone_is_no_mask(prepared: release_check.Prepared):
    name = NAMES[dummy_data.HALF]

    assert set(np.unique(prepared.examples[name]["mask"])) == {255}
    assert prepared.left_out == {
        f"ManualMask/rightMask/{name}.png": "the mask of the other lung is not there"
    }


def test_the_mirror_is_read(prepared: release_check.Prepared, tmp_path: pathlib.Path):
    folder = epath.Path(tmp_path / "raddar")
    dummy_data.write(folder, images=IMAGES, layout="raddar")

    made = release_check.prepare(montgomery_cxr.Builder, folder, tmp_path / "data")

    assert {row["has_mask"] for row in made.index.values()} == {"0"}
    for name, row in prepared.index.items():
        assert made.index[name] == {**row, "has_mask": "0"}


def test_a_mask_that_does_not_fit_is_quarantined(
    mine: epath.Path, tmp_path: pathlib.Path
):
    masks = mine / "ManualMask" / "leftMask"
    (masks / f"{NAMES[1]}.png").write_bytes((masks / f"{NAMES[0]}.png").read_bytes())

    made = release_check.prepare(montgomery_cxr.Builder, mine, tmp_path / "data")

    assert made.left_out[NAMES[1]] == (
        f"the mask ManualMask/leftMask/{NAMES[1]}.png: it has 48 x 40 pixels, "
        "its image 40 x 48"
    )
    assert len(made.examples) == IMAGES - 1


@pytest.mark.parametrize("folder", ["ManualMask/leftMask", "ClinicalReadings"])
def test_missing_folders_say_how_to_get_them(
    mine: epath.Path, tmp_path: pathlib.Path, folder: str
):
    with pytest.raises(FileNotFoundError, match=r"not found in .*MontgomeryCXRSet"):
        _ = _builder(epath.Path(tmp_path / "none"), tmp_path).found
    shutil.rmtree(mine / folder)
    with pytest.raises(FileNotFoundError, match=r"no file .*NLM-MontgomeryCXRSet"):
        _ = _builder(mine, tmp_path).found
