"""Tests of the lung masks on a made-up release."""

from __future__ import annotations

import collections
import functools

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import chest_xray_masks
from tfds_builders.chest_xray_masks import dummy_data
from tfds_builders.releases import dummy_images
from tfds_builders.shenzhen_cxr import dummy_data as shenzhen_data
from tfds_builders.sources import files

_builder = functools.partial(release_check.builder, chest_xray_masks)
ROOT = "Lung Segmentation"


def _number(name):
    return int(name.split("_")[1])


def test_every_image_is_read_back_with_its_label(prepared) -> None:
    assert len(prepared.examples) == 48
    assert set(prepared.split_of.values()) == {"train"}
    for name, example in prepared.examples.items():
        has_tb = int(name[-1])
        assert example["labels"]["label"].tolist() == [1 - has_tb, has_tb]


def test_masks_find_their_images(prepared) -> None:
    rng = np.random.default_rng(0)
    # They were drawn in the order of their numbers.
    for name in sorted(prepared.examples, key=_number):
        truth = dummy_data.lungs(rng)
        dummy_images.draw(rng, dummy_data.HEIGHT, dummy_data.WIDTH)
        if prepared.index[name]["has_mask"] == "1":
            mask = prepared.examples[name]["mask"][..., 0]
            np.testing.assert_array_equal(mask, truth)


def test_images_without_a_mask_say_so(prepared) -> None:
    without = {n for n, row in prepared.index.items() if row["has_mask"] == "0"}

    assert without == {n for n in prepared.examples if _number(n) % 12 in (5, 10)}
    assert len(without) == 8
    for name in without:
        assert (prepared.examples[name]["mask"] == 255).all()


def test_masks_of_any_kind_are_read(dummy, prepared) -> None:
    modes = collections.Counter()
    for path in (dummy / ROOT / "masks").glob("*_00*.png"):
        modes[path.read_bytes()[24:26]] += 1  # depth and kind of colour of a PNG

    assert modes.keys() == {b"\x08\x00", b"\x01\x00", b"\x08\x02"}
    values = {int(v) for e in prepared.examples.values() for v in np.unique(e["mask"])}
    assert values == {0, 1, 255}


def test_pictures_become_one_channel(dummy, prepared) -> None:
    paths = {name: dummy / ROOT / f"CXR_png/{name}.png" for name in prepared.examples}

    kinds = release_check.kinds_of(prepared.examples, paths)

    assert kinds == {"grey", "RGB", "RGBA", "16-bit"}


def test_the_folder_test_is_not_read_twice(prepared) -> None:
    copies = {k: v for k, v in prepared.left_out.items() if k.startswith("test/")}

    assert len(copies) == 8
    assert set(copies.values()) == {"a second copy of a file in CXR_png"}


def test_only_one_root_is_read(dummy, prepared, tmp_path) -> None:
    both, below = _builder(dummy, tmp_path), _builder(dummy / "data", tmp_path)

    assert both.release.root == dummy / ROOT
    assert below.release.root == dummy / "data" / ROOT
    assert len(both.found) == len(below.found) == 48 + 4
    assert len(prepared.examples) == 48


def test_readings_give_sex_and_age(prepared) -> None:
    told = {name: prepared.about(name, "sex", "age") for name in prepared.examples}

    assert told["CHNCXR_0001_0"] == ("M", 45.0)
    assert told["CHNCXR_0005_0"] == ("F", 24.0)
    assert told["CHNCXR_0009_0"] == ("F", 32.0)
    assert told["CHNCXR_0017_0"] == ("M", pytest.approx(16 / 12))
    assert told["MCUCXR_0004_1"] == ("F", 23.0)
    assert told["MCUCXR_0003_0"] == ("", 22.0)


def test_patients_are_those_of_the_two_sets(prepared) -> None:
    patients = {n: e["patient_id"].decode() for n, e in prepared.examples.items()}

    assert patients["CHNCXR_0001_0"] == "shenzhen:1"
    assert patients["MCUCXR_0003_0"] == "montgomery:3"
    assert patients["MCUCXR_0007_0"] == patients["MCUCXR_0004_1"] == "montgomery:4"


def test_partners_may_be_missing(prepared) -> None:
    reasons = prepared.left_out

    assert reasons["masks/CHNCXR_0999_1_mask.png"] == "a mask without its image"


def test_bad_files_go_to_quarantine(prepared) -> None:
    reasons = prepared.left_out

    assert "damaged" in reasons["MCUCXR_0901_0"]
    assert reasons["MCUCXR_0902_0"] == "the file is empty"
    assert "masks/MCUCXR_0903_1.png: damaged" in reasons["MCUCXR_0903_1"]
    assert "44 x 24 pixels, its image 44 x 48" in reasons["MCUCXR_0904_1"]
    assert not any("._" in name or "Thumbs" in name for name in reasons)
    assert len(reasons) == 4 + 1 + 8


def test_muscle_shares_out_the_pairs_of_the_published_numbers(tmp_path) -> None:
    names = []
    for index in range(800):
        home = "MCUCXR" if index < 138 else "CHNCXR"
        name = f"{home}_{index + 1:04d}_{int(index >= 406)}"
        names += [f"CXR_png/{name}.png", f"ClinicalReadings/{name}.txt"]
        if 200 <= index < 296:
            names.append(f"test/{name}.png")
        else:
            names.append(f"masks/{name}{'_mask' if home == 'CHNCXR' else ''}.png")
    root = epath.Path(tmp_path)
    builder = _builder(root, tmp_path / "data")
    builder.release = files.Listing(root, dict.fromkeys(names, 1), {})
    builder.content = lambda name: b"male 40yrs"

    manifests = builder.manifests()

    counts = {"train": 564, "validation": 70, "test": 70}
    assert manifests["muscle"].counts() == counts
    assert sum(manifests["grouped"].counts().values()) == 800
    masked = {item.image_id for item in builder.found if item.masks}
    grouped = manifests["grouped"].split_of
    with_mask = collections.Counter(grouped[name] for name in masked)
    assert abs(with_mask["test"] - 70) <= 1
    classes = collections.Counter(item.image_id[-1] for item in builder.found)
    assert len(masked) == builder.EXPECTED["masks"]
    assert classes["0"] == builder.EXPECTED["label=normal"]
    assert classes["1"] == builder.EXPECTED["label=tuberculosis"]


def test_missing_folders_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found.*Lung Segmentation"):
        _builder(tmp_path, tmp_path / "data").download_and_prepare()

    dummy_data.write(epath.Path(tmp_path), images=24)
    (tmp_path / ROOT / "ClinicalReadings").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match="no file ClinicalReadings"):
        _builder(tmp_path, tmp_path / "data").download_and_prepare()


@pytest.mark.parametrize("with_lungs", [True, False])
def test_the_release_of_shenzhen_is_not_taken_for_it(
    with_lungs, dummy, tmp_path
) -> None:
    shenzhen = epath.Path(tmp_path / "ChinaSet_AllFiles")
    shenzhen_data.write(shenzhen, images=8)
    (shenzhen / "mask" / "mask").rename(shenzhen / "masks")
    if with_lungs:
        (tmp_path / ROOT).symlink_to(dummy / ROOT)

    builder = _builder(tmp_path, tmp_path / "data")

    if with_lungs:
        assert builder.release.root == tmp_path / ROOT
        assert len(builder.found) == 52
    else:
        with pytest.raises(FileNotFoundError, match=r"not found.*mcucxr_\*"):
            _ = builder.found
