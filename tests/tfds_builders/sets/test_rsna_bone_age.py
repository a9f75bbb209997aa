"""Tests of the bone ages on a made-up release."""

from __future__ import annotations

import collections
import functools
import math
import pathlib

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import rsna_bone_age
from tfds_builders.rsna_bone_age import dummy_data, workbook

_builder = functools.partial(release_check.builder, rsna_bone_age)


@pytest.fixture
def copy(tmp_path):
    dummy_data.write(epath.Path(tmp_path), images=20)
    return epath.Path(tmp_path)


def test_every_image_is_read_back(prepared) -> None:
    counts = collections.Counter(prepared.split_of.values())

    assert counts == {"train": 37, "validation": 4, "test": 4}
    assert all(name.startswith(split) for name, split in prepared.split_of.items())


def test_tables_tell_bone_age_and_sex(prepared) -> None:
    told = {n: prepared.about(n, "age", "sex") for n in prepared.examples}

    assert told["train/1378"] == (pytest.approx((1378 % 216 + 12) / 12), "M")
    assert told["train/1379"][1] == "F"
    assert told["validation/1386"] == (pytest.approx(100.5 / 12), "M")
    assert told["validation/2386"] == (pytest.approx(101.5 / 12), "F")


def test_bone_age_is_a_value_in_months(prepared) -> None:
    for name, example in prepared.examples.items():
        months = 12 * prepared.about(name, "age")[0]
        np.testing.assert_allclose(example["values"]["bone_age_months"], months)


def test_the_workbook_is_read(prepared) -> None:
    told = {n: prepared.about(n, "age", "sex") for n in prepared.examples}

    assert told["test/4360"] == (pytest.approx((160 + 1.25) / 12), "M")
    assert told["test/4361"] == (pytest.approx((161 + 1.25) / 12), "F")
    assert told["test/1378"] == (pytest.approx((178 + 1.25) / 12), "")


def test_numbers_may_come_again_in_another_split(prepared) -> None:
    first, second = prepared.examples["train/1378"], prepared.examples["test/1378"]

    assert (
        first["image"].shape != second["image"].shape
        or (first["image"] != second["image"]).any()
    )


def test_nobody_knows_the_patients(prepared) -> None:
    for name, example in prepared.examples.items():
        assert example["patient_id"] == f"image:{name}".encode()


def test_pictures_become_one_channel(dummy, prepared) -> None:
    homes = {
        "train": ["boneage-training-dataset"],
        "validation": ["Bone Age Validation Set/*", "Bone Age Validation Set/*/*"],
        "test": ["Bone Age Test Set/Test Set Images"],
    }
    paths = {}
    for name, split in prepared.split_of.items():
        file = f"{name.split('/')[1]}.png"
        (paths[name],) = (p for h in homes[split] for p in dummy.glob(f"{h}/{file}"))

    assert release_check.kinds_of(prepared.examples, paths) == {"grey", "RGB", "16-bit"}


def test_tables_and_disk_may_differ(prepared) -> None:
    assert prepared.left_out["train/9903"] == "in train.csv, but not there"
    path = "boneage-training-dataset/9904.png"
    assert prepared.left_out[path] == "not in train.csv"


def test_bad_pictures_go_to_quarantine(prepared) -> None:
    assert "damaged" in prepared.left_out["train/9901"]
    assert prepared.left_out["train/9902"] == "the file is empty"
    assert len(prepared.left_out) == 4


def test_the_mirror_of_kaggle_is_read(tmp_path) -> None:
    dummy_data.write(epath.Path(tmp_path), mirror="kaggle")
    builder = _builder(tmp_path, tmp_path / "data")

    counts = builder.manifests()["official"].counts()

    assert counts["test"] == 4
    assert counts["validation"] in (4, 5)
    about = {item.image_id: item.about for item in builder.found}
    assert about["test/4360"].sex == "M"
    assert math.isnan(about["test/4360"].age)
    assert about["train/1378"].sex == "M"


def test_second_copies_are_listed(copy) -> None:
    home = copy / "boneage-training-dataset"
    (home / "boneage-training-dataset").mkdir()
    content = (home / "1377.png").read_bytes()
    (home / "boneage-training-dataset" / "1377.png").write_bytes(content)

    builder = _builder(copy, copy / "data")

    images = {item.image_id: item.image for item in builder.found}
    assert images["train/1377"] == "boneage-training-dataset/1377.png"
    assert "a second copy" in " ".join(q.reason for q in builder.left_out())


def test_an_archive_still_packed_is_named(tmp_path) -> None:
    copy = epath.Path(tmp_path)
    dummy_data.write(copy, images=40)
    home = copy / "Bone Age Validation Set"
    (home / "boneage-validation-dataset-1").rename(copy / "away")
    (home / "boneage-validation-dataset-1.zip").write_bytes(b"PK")

    with pytest.raises(FileNotFoundError, match=r"validation-dataset-1\.zip is\. Unp"):
        _builder(copy, copy / "data").download_and_prepare()
    (copy / "away").rename(home / "boneage-validation-dataset-1")
    (home / "boneage-validation-dataset-1" / "1386.png").unlink()
    assert _builder(copy, copy / "data").found


@pytest.mark.parametrize("around", ["", "rsna", "archive/rsna"])
def test_folders_around_the_release_do_not_matter(around, dummy, tmp_path) -> None:
    home = tmp_path / around
    home.mkdir(parents=True, exist_ok=True)
    for path in dummy.iterdir():
        (home / path.name.replace(" ", "+")).symlink_to(path)

    builder = _builder(tmp_path, tmp_path / "data")

    ids = [item.image_id for item in builder.found]
    assert ids == [i.image_id for i in _builder(dummy, tmp_path / "o").found]
    assert len(ids) == 47


def test_missing_folder_and_table_are_named(copy, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found.*Annotations\.zip"):
        _builder(tmp_path / "no", tmp_path / "data").download_and_prepare()

    (copy / "Bone Age Validation Set" / "Validation Dataset.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"validation\?dataset"):
        _builder(copy, tmp_path / "data").download_and_prepare()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"1378,", b"13x8,", "row 3, column id: expected a number, got '13x8'"),
        (b",True", b",boy", "column male: expected one of true.*got 'boy'"),
        (b"9901,60", b"9901,-60", "column boneage: expected 0 to 300 months"),
        (b"9901,60", b"9901,old", "column boneage: expected a number, got 'old'"),
        (b"male", b"mail", "needs a column 'id'.* it has id, boneage, mail"),
        (b"9902,", b"9901,", "row .*, column id: 9901 comes twice"),
    ],
)
def test_a_bad_table_is_one_clear_error(old, new, message, copy) -> None:
    path = copy / "train.csv"
    path.write_bytes(path.read_bytes().replace(old, new))

    with pytest.raises(ValueError, match=message):
        _builder(copy, copy / "data").download_and_prepare()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"a,b\n1,2\n"])
def test_a_bad_workbook_asks_for_csv(content, copy) -> None:
    path = copy / "Bone Age Test Set" / "Bone age ground truth.xlsx"
    path.write_bytes(content or path.read_bytes()[:-40])

    with pytest.raises(ValueError, match="as CSV beside it"):
        _builder(copy, copy / "data").download_and_prepare()


def test_a_csv_beside_the_workbook_is_taken_first(copy) -> None:
    home = copy / "Bone Age Test Set"
    content = workbook.to_csv((home / "Bone age ground truth.xlsx").read_bytes(), "it")
    (home / "Bone age ground truth.xlsx").write_bytes(b"damaged")
    (home / "Bone age ground truth.csv").write_bytes(content)

    found = _builder(copy, copy / "data").found

    assert content.startswith(b"Case ID,Sex,Ground truth bone age (months)\n4360,M,")
    assert sum(item.split == "test" for item in found) == 2


@pytest.mark.parametrize(
    ("folder", "table"),
    [
        ("boneage-training-dataset", "train.csv"),
        ("Bone Age Validation Set/boneage-validation-dataset-*", "Validation Dataset"),
        ("Bone Age Test Set/Test Set Images", "Bone age ground truth.xlsx"),
    ],
)
def test_a_table_without_its_images_is_refused(folder, table, copy) -> None:
    for path in list(pathlib.Path(copy).glob(f"{folder}/**/*.png")):
        path.unlink()

    message = rf"none of the \d+ images of .*{table}.*Annotations\.zip"
    with pytest.raises(FileNotFoundError, match=message):
        _ = _builder(copy, copy / "data").found


@pytest.mark.parametrize("split", ["Validation", "Test"])
@pytest.mark.parametrize("between", [" ", "+"])
def test_a_set_still_packed_as_a_whole_is_named(split, between, copy) -> None:
    name = f"Bone Age {split} Set"
    (copy / name).rmtree()
    archive = copy / f"{name.replace(' ', between)}.zip"
    archive.write_bytes(b"PK")

    with pytest.raises(FileNotFoundError, match=rf"Age.{split}.Set\.zip is\. Unpack"):
        _ = _builder(copy, copy / "data").found
    archive.unlink()
    assert _builder(copy, copy / "data").found


def test_archives_that_were_unpacked_may_stay(copy) -> None:
    for name in ("Training Set", "Validation Set", "Training Set Annotations"):
        (copy / f"Bone Age {name}.zip").write_bytes(b"PK")

    assert len(_builder(copy, copy / "data").found) == 20 + 2


@pytest.mark.parametrize("packed", [True, False])
def test_splits_beside_the_root_are_not_lost(packed, copy) -> None:
    (copy / "training").mkdir()
    for name in ("boneage-training-dataset", "train.csv"):
        (copy / name).rename(copy / "training" / name)
    for split in ("Validation", "Test"):
        place = copy / f"Bone Age {split} Set"
        if packed:
            place.rmtree()
            (copy / f"Bone+Age+{split}+Set.zip").write_bytes(b"PK")
        else:
            (copy / split.lower()).mkdir()
            place.rename(copy / split.lower() / place.name)

    with pytest.raises(FileNotFoundError, match=r"no validation images, but .* beside"):
        _ = _builder(copy, copy / "data").found
    for path in copy.iterdir():
        if path.name != "training" and not packed:
            path.rename(copy / "training" / path.name)
    if not packed:
        assert {i.split for i in _builder(copy, copy / "data").found} == {
            "train",
            "validation",
            "test",
        }
