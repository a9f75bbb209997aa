"""Tests of the Montgomery set on invented files."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import montgomery_cxr
from tfds_builders.montgomery_cxr import dummy_data
from tfds_builders.releases import release

IMAGES = 40
NAMES = dummy_data.names(IMAGES)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> epath.Path:
    folder = epath.Path(tmp_path_factory.mktemp("montgomery"))
    dummy_data.write(folder, images=IMAGES)
    return folder


@pytest.fixture(scope="module")
def prepared(
    source: epath.Path, tmp_path_factory: pytest.TempPathFactory
) -> release_check.Prepared:
    data = tmp_path_factory.mktemp("data")
    return release_check.prepare(montgomery_cxr.Builder, source, data)


@pytest.fixture
def mine(source: epath.Path, tmp_path: pathlib.Path) -> epath.Path:
    """A copy to change."""
    shutil.copytree(source, tmp_path / "mine")
    return epath.Path(tmp_path / "mine")


def _builder(folder: epath.Path, data: pathlib.Path) -> montgomery_cxr.Builder:
    config = release.ReleaseConfig(name="test", folder=str(folder))
    return montgomery_cxr.Builder(data_dir=data, config=config)


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
    source: epath.Path, prepared: release_check.Prepared
):
    for number, (name, example) in enumerate(prepared.examples.items()):
        mask = example["mask"][..., 0]
        if number == dummy_data.HALF:
            continue
        for index, side in enumerate(dummy_data.SIDES, start=1):
            file = (
                release_check.decode(source / "ManualMask" / side / f"{name}.png") > 0
            )
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


@pytest.mark.parametrize(
    "wrapper", ["MontgomerySet", "Montgomery/MontgomerySet", "a/b/c"]
)
def test_every_layout_of_the_archive_gives_the_same(
    source: epath.Path, tmp_path: pathlib.Path, wrapper: str
):
    shutil.copytree(source, tmp_path / "data" / wrapper)
    junk = tmp_path / "data" / "__MACOSX" / "CXR_png"
    junk.mkdir(parents=True)
    (junk / "MCUCXR_0001_0.png").write_bytes(b"junk")

    made = _builder(epath.Path(tmp_path / "data"), tmp_path)

    assert made.manifests() == _builder(source, tmp_path).manifests()
    assert len(made.left_out()) == 1


def test_every_class_is_in_every_split(source: epath.Path, tmp_path: pathlib.Path):
    made = _builder(source, tmp_path)
    split_of = made.manifests()["grouped"].split_of

    seen = {(split_of[item.image_id], item.stratum) for item in made.found}

    assert len(seen) == 6


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
