"""Tests of the Shenzhen set on invented files."""

from __future__ import annotations

import functools
import pathlib
import shutil

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import shenzhen_cxr
from tfds_builders.chest_xray_masks import dummy_data as repacked
from tfds_builders.releases import diagnosis
from tfds_builders.shenzhen_cxr import dummy_data

_builder = functools.partial(release_check.builder, shenzhen_cxr)
IMAGES = 40


def test_labels_are_those_of_the_names(prepared: release_check.Prepared):
    assert list(prepared.examples) == dummy_data.names(IMAGES)
    for name, example in prepared.examples.items():
        assert list(example["labels"]["label"]) == (
            [0, 1] if name[-1] == "1" else [1, 0]
        )
        assert example["patient_id"].decode() == f"shenzhen:{int(name[7:11])}"
    assert prepared.report["splits"] == {"train": IMAGES}
    assert prepared.left_out == {}


def test_sex_and_age_in_every_spelling(prepared: release_check.Prepared):
    spellings = dummy_data.SPELLINGS
    for number, name in enumerate(dummy_data.names(IMAGES)):
        _, sex, age = spellings[number % len(spellings)]
        assert prepared.about(name, "sex", "age") == (sex, pytest.approx(age))


def test_the_mirror_gives_the_same(
    prepared: release_check.Prepared, tmp_path: pathlib.Path
):
    folder = epath.Path(tmp_path / "raddar")
    dummy_data.write(folder, images=IMAGES, layout="raddar")

    made = release_check.prepare(shenzhen_cxr.Builder, folder, tmp_path / "data")

    assert not list((folder / "ClinicalReadings").iterdir())
    assert made.index == prepared.index


def test_masks_are_those_of_the_files(
    dummy: epath.Path, prepared: release_check.Prepared
):
    smaller = 0
    for number, (name, example) in enumerate(prepared.examples.items()):
        mask = example["mask"][..., 0]
        assert mask.shape == example["image"].shape[:2]
        if number % 4 == 0:
            assert set(np.unique(mask)) == {255}
            continue
        path = dummy / "mask" / "mask" / f"{name}_mask.png"
        file = (release_check.decode(path) > 0).astype(np.uint8)
        for other in (file[::-1], file[:, ::-1], file[::-1, ::-1]):
            assert (other != file).any()
        if file.shape == mask.shape:
            np.testing.assert_array_equal(mask, file)
        else:
            smaller += 1
            np.testing.assert_array_equal(mask[::2, ::2], file)
            np.testing.assert_array_equal(mask[1::2, 1::2], file)
    assert smaller == IMAGES / 4
    assert list(prepared.report["mask_pixel_counts"]) == ["lung"]


@pytest.mark.parametrize("place", ["", "mask", "mask/mask", "shcxr-lung-mask/mask"])
@pytest.mark.parametrize("wrapper", ["ChinaSet", "ChinaSet/ChinaSet"])
def test_masks_beside_the_root_are_found(
    mine: epath.Path,
    prepared: release_check.Prepared,
    tmp_path: pathlib.Path,
    place: str,
    wrapper: str,
):
    folder = epath.Path(tmp_path / "data")
    repacked.write(folder / "other", images=24)  # whose masks are its own
    shutil.copytree(mine, folder / wrapper)
    masks = folder / wrapper / "mask" / "mask"
    home = folder / (place or "lungs of Shenzhen")
    home.mkdir(parents=True)
    for path in masks.iterdir():
        path.rename(home / path.name)

    made = _builder(folder, tmp_path)

    assert [item.image_id for item in made.found if item.masks] == [
        name for name, row in prepared.index.items() if row["has_mask"] == "1"
    ]
    assert len({str(item.masks) for item in made.found}) == 31
    assert made.left_out() == []
    before = made.fingerprint()
    (record,) = (r for r in made.records()["train"] if r.image_id.endswith("0002_0"))
    np.testing.assert_array_equal(
        made.load(record).mask, prepared.examples[record.image_id]["mask"][..., 0]
    )
    next(iter(home.iterdir())).unlink()
    assert _builder(folder, tmp_path).fingerprint() != before


def test_masks_are_optional(mine: epath.Path, monkeypatch: pytest.MonkeyPatch):
    expected = {"images": IMAGES, "masks": 566}
    monkeypatch.setattr(shenzhen_cxr.Builder, "EXPECTED", expected)

    some = diagnosis.examine(shenzhen_cxr.Builder, mine, images=0)
    shutil.rmtree(mine / "mask")
    none = diagnosis.examine(shenzhen_cxr.Builder, mine, images=0)

    assert (some.status, none.status) == (diagnosis.PARTLY, diagnosis.FOUND)
    assert "Fewer than were published: masks." in some.next_step


def test_lesions_are_not_read(dummy: epath.Path, prepared: release_check.Prepared):
    assert (dummy / "Annotations-2" / "CHNCXR_0327_1.png").exists()
    assert prepared.examples["CHNCXR_0327_1"]["image"].min() < 255
    assert prepared.index["CHNCXR_0327_1"]["has_mask"] == "0"


def test_images_become_one_channel(dummy: epath.Path, prepared: release_check.Prepared):
    paths = {path.stem: path for path in dummy.glob("CXR_png/CHNCXR_*")}

    assert {path.suffix for path in paths.values()} == {".png", ".PNG"}
    assert release_check.kinds_of(prepared.examples, paths) == {"RGB"}
    shapes = {example["image"].shape for example in prepared.examples.values()}
    assert shapes == {(40, 44, 1), (44, 44, 1), (48, 44, 1)}


def test_what_cannot_be_used_is_left_out(mine: epath.Path, tmp_path: pathlib.Path):
    (mine / "CXR_png" / "CHNCXR_0001_0.png").unlink()
    (mine / "CXR_png" / "CHNCXR_0002_0.png").unlink()
    (mine / "CXR_png" / "CHNCXR_0003_0.png").write_bytes(b"no picture")
    (mine / "mask" / "mask" / "CHNCXR_0004_0_mask.png").write_bytes(b"\x89PNG")
    (mine / "CXR_png" / "other.png").write_bytes(b"")
    (mine / "ClinicalReadings" / "CHNCXR_0006_0.txt").unlink()

    made = release_check.prepare(shenzhen_cxr.Builder, mine, tmp_path / "data")

    damaged = "not a PNG, JPEG, TIFF, BMP or DICOM file, or a damaged one"
    assert made.left_out == {
        "CHNCXR_0001_0.png": "has a reading, but the file is not there",
        "CHNCXR_0002_0.png": "has a reading, but the file is not there",
        "mask/mask/CHNCXR_0002_0_mask.png": "a mask without its image",
        "CXR_png/other.png": "not named as CHNCXR_0001_0.png",
        "CHNCXR_0003_0": damaged,
        "CHNCXR_0004_0": f"the mask mask/mask/CHNCXR_0004_0_mask.png: {damaged}",
    }
    assert made.index["CHNCXR_0006_0"]["sex"] == ""


def test_bad_cells_are_named(tmp_path: pathlib.Path):
    folder = epath.Path(tmp_path / "raddar")
    dummy_data.write(folder, images=8, layout="raddar")
    table = folder / "shenzhen_metadata.csv"
    table.write_text(table.read_text().replace("Female", "?", 1))

    with pytest.raises(ValueError, match=r"shenzhen_metadata\.csv: row 3, sex: .*'\?'"):
        _ = _builder(folder, tmp_path).found


def test_missing_folders_say_how_to_get_them(mine: epath.Path, tmp_path: pathlib.Path):
    with pytest.raises(FileNotFoundError, match=r"not found in .*ChinaSet_AllFiles"):
        _ = _builder(epath.Path(tmp_path / "none"), tmp_path).found
    (mine / "ClinicalReadings").rename(mine / "Readings")
    with pytest.raises(FileNotFoundError, match=r"no file .*ChinaSet_AllFiles"):
        _ = _builder(mine, tmp_path).found


@pytest.mark.parametrize("is_there", [True, False])
def test_the_set_that_repacks_it_is_not_taken_for_it(
    is_there: bool, dummy: epath.Path, tmp_path: pathlib.Path
):
    folder = epath.Path(tmp_path / "data")
    repacked.write(folder / "A", images=24)
    if is_there:
        shutil.copytree(dummy, folder / "B" / "ChinaSet_AllFiles")

    made = _builder(folder, tmp_path)

    if is_there:
        assert made.release.root == folder / "B" / "ChinaSet_AllFiles"
    else:
        with pytest.raises(FileNotFoundError, match=r"not found.*no cxr_png/mcucxr_"):
            _ = made.found
