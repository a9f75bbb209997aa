"""Tests of the pneumonia set on a made-up release."""

from __future__ import annotations

import collections
import functools

import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import kermany_pneumonia
from tfds_builders.kermany_pneumonia import dummy_data

_builder = functools.partial(release_check.builder, kermany_pneumonia)
NORMAL, BACTERIA, VIRUS = [1, 0, 0], [0, 1, 0], [0, 0, 1]


def test_every_image_is_read_back_with_its_labels(prepared) -> None:
    assert len(prepared.examples) == 48
    assert list(prepared.split_of.values()).count("validation") == 2
    for name, example in prepared.examples.items():
        label = example["labels"]["label"].tolist()
        assert label == ([1, 0] if "NORMAL" in name else [0, 1])
        assert (label == [1, 0]) == (example["labels"]["subtype"].tolist() == NORMAL)


def test_a_nested_copy_is_not_read_twice(prepared) -> None:
    reasons = prepared.left_out

    assert not any("chest_xray" in name for name in prepared.examples)
    assert "second copy" in reasons["chest_xray"]
    assert "48 files" in reasons["chest_xray"]


def test_junk_of_macos_is_passed_over(prepared) -> None:
    files = list(prepared.left_out)

    assert not any("._" in name for name in [*prepared.examples, *files])
    assert not any("MACOSX" in name or "DS_Store" in name for name in files)


def test_names_tell_subtype_and_patient(prepared, tmp_path) -> None:
    virus = prepared.examples["test/PNEUMONIA/person1_virus_6"]
    normal = prepared.examples["train/NORMAL/NORMAL2-IM-1427-0001"]
    dummy_data.write(epath.Path(tmp_path), mirror="mendeley")

    items = {item.image_id: item for item in _builder(tmp_path, tmp_path / "d").found}

    assert virus["labels"]["subtype"].tolist() == VIRUS
    assert virus["patient_id"] == b"kermany:person1"
    assert normal["patient_id"] == b"kermany:IM-1427"
    newer = items["train/PNEUMONIA/BACTERIA-1003234-0002"]
    assert newer.patient == "kermany:1003234"
    assert newer.labels["subtype"].tolist() == BACTERIA


def test_a_number_is_one_patient_everywhere(dummy, prepared, tmp_path) -> None:
    names = ["train/PNEUMONIA/person1_virus_6", "test/PNEUMONIA/person1_virus_6"]
    split_of = _builder(dummy, tmp_path).manifests()["grouped"].split_of

    assert {prepared.examples[name]["patient_id"] for name in names} == {
        b"kermany:person1"
    }
    assert len({split_of[name] for name in names}) == 1


def test_images_of_the_same_name_are_told_apart(prepared) -> None:
    first = prepared.examples["train/PNEUMONIA/person1_virus_6"]["image"]
    second = prepared.examples["test/PNEUMONIA/person1_virus_6"]["image"]

    assert first.shape != second.shape or (first != second).any()


def test_pictures_become_one_channel(dummy, prepared) -> None:
    home = dummy / "chest_xray"
    paths = {}
    for name, split in prepared.split_of.items():
        file = name.replace("train/", "val/") if split == "validation" else name
        paths[name] = home / f"{file}.jpeg"

    assert release_check.kinds_of(prepared.examples, paths) == {"grey", "RGB"}


def test_bad_pictures_go_to_quarantine(prepared) -> None:
    reasons = prepared.left_out

    assert "damaged" in reasons["train/PNEUMONIA/person900_virus_1"]
    assert reasons["train/NORMAL/IM-0900-0001"] == "the file is empty"


def test_an_unknown_name_leaves_gaps(prepared) -> None:
    name = "train/PNEUMONIA/pneumonia_export_17"

    assert prepared.examples[name]["labels"]["label"].tolist() == [0, 1]
    assert prepared.examples[name]["labels"]["subtype"].tolist() == [-1, -1, -1]
    assert prepared.examples[name]["patient_id"] == f"image:{name}".encode()


def test_without_val_validation_is_carved_by_patient(tmp_path) -> None:
    dummy_data.write(epath.Path(tmp_path), mirror="mendeley", images=60)
    builder = _builder(tmp_path, tmp_path / "data")

    official = builder.manifests()["official"]

    homes = collections.defaultdict(set)
    for item in builder.found:
        homes[item.patient].add(official.split_of[item.image_id])
    assert official.counts()["validation"] in (4, 5, 6)
    assert all(len(home) == 1 for home in homes.values())
    assert official.counts()["test"] == 12


def test_with_val_official_is_the_folders(dummy, tmp_path) -> None:
    split_of = _builder(dummy, tmp_path).manifests()["official"].split_of

    assert split_of["train/NORMAL/NORMAL2-IM-1427-0001"] == "validation"
    assert split_of["test/PNEUMONIA/person1_virus_6"] == "test"


def test_missing_folders_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"kermany.*Kaggle|kermany.*kaggle"):
        _builder(tmp_path, tmp_path / "data").download_and_prepare()

    (tmp_path / "chest_xray" / "train" / "NORMAL").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="test/pneumonia"):
        _builder(tmp_path, tmp_path / "data").download_and_prepare()
