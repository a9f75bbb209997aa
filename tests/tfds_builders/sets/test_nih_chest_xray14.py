"""Tests of NIH ChestX-ray14 on invented files."""

from __future__ import annotations

import collections
import csv
import functools
import math
import pathlib

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import nih_chest_xray14
from tfds_builders.mura import dummy_data as mura_data
from tfds_builders.nih_chest_xray14 import dummy_data
from tfds_builders.nih_chest_xray14 import nih_chest_xray14_dataset_builder as builder

_builder = functools.partial(release_check.builder, nih_chest_xray14)
IMAGES = 42


def _replace(path: epath.Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _table(dummy: epath.Path) -> dict[str, list[str]]:
    text = (dummy / "Data_Entry_2017_v2020.csv").read_text()
    return {row[0][:-4]: row for row in csv.reader(text.splitlines()[1:])}


def test_findings_and_what_is_told_are_read(
    dummy: epath.Path, prepared: release_check.Prepared
):
    table = _table(dummy)

    assert set(prepared.examples) == set(table)
    assert len(table) == IMAGES
    for name, row in table.items():
        example = prepared.examples[name]
        label = example["labels"]["finding"]
        present = [builder.FINDINGS[i] for i in np.flatnonzero(label)]
        assert ("|".join(present) or "No Finding") == row[1]
        assert set(label) <= {0, 1}
        assert example["patient_id"].decode() == f"nih:{row[3]}"
        assert prepared.about(name, "view", "age", "sex") == (
            row[6],
            float(row[4]),
            row[5],
        )
    assert prepared.left_out == {}


def test_splits_are_those_of_the_lists(
    dummy: epath.Path, prepared: release_check.Prepared
):
    for file, split in (("train_val_list.txt", "train"), ("test_list.txt", "test")):
        text = (dummy / file).read_text()
        assert not text.endswith("\n")
        found = {name for name, where in prepared.split_of.items() if where == split}
        assert found == {line[:-4] for line in text.split("\n")}


def test_official_takes_validation_from_train_val_by_patient(
    dummy: epath.Path, tmp_path: pathlib.Path
):
    made = _builder(dummy, tmp_path)

    manifest = made.manifests()["official"]

    split_of = manifest.split_of
    assert manifest.counts() == {"train": 27, "validation": 6, "test": 9}
    where = collections.defaultdict(set)
    for item in made.found:
        where[item.patient].add(split_of[item.image_id])
        assert (split_of[item.image_id] == "test") == (item.split == "test")
    assert all(len(places) == 1 for places in where.values())


def test_official_is_the_same_for_a_part_of_the_images(
    mine: epath.Path, dummy: epath.Path, tmp_path: pathlib.Path
):
    whole = _builder(dummy, tmp_path).manifests()["official"].split_of
    for path in sorted((mine / "images").iterdir())[::2]:
        path.unlink()
    made = _builder(mine, tmp_path)

    part = made.manifests()["official"].split_of

    assert len(part) == IMAGES / 2
    assert part.items() <= whole.items()
    assert {item.reason for item in made.left_out()} == {
        "in the table, but the file is not there"
    }


@pytest.mark.parametrize("manifest", ["official", "grouped"])
def test_every_finding_is_in_every_split(
    dummy: epath.Path, tmp_path: pathlib.Path, manifest: str
):
    made = _builder(dummy, tmp_path)
    split_of = made.manifests()[manifest].split_of

    for split in ("train", "validation", "test"):
        labels = np.array(
            [
                item.labels["finding"]
                for item in made.found
                if split_of[item.image_id] == split
            ]
        )
        assert labels.max(axis=0).tolist() == [1] * 14
        assert labels.min(axis=0).tolist() == [0] * 14


def test_boxes_are_those_of_the_table(
    dummy: epath.Path, prepared: release_check.Prepared
):
    lines = (dummy / "BBox_List_2017.csv").read_text().splitlines()
    assert lines[0].count(",") == 8
    assert any(",Infiltrate," in line for line in lines)
    expected = collections.defaultdict(list)
    for line in lines[1:]:
        name, label, *numbers = line.split(",")
        x, y, w, h = map(float, numbers)
        label = label.replace("Infiltrate", "Infiltration")
        box = np.array([y, x, y + h, x + w]) / 1024
        expected[name[:-4]].append((builder.BOXED.index(label), box.clip(0, 1)))

    known = {n for n, e in prepared.examples.items() if e["objects_known"]}

    assert known == set(expected)
    for name, boxes in expected.items():
        found = prepared.examples[name]["objects"]
        assert list(found["label"]) == [label for label, _ in boxes]
        np.testing.assert_allclose(found["bbox"], [b for _, b in boxes], atol=1e-6)


def test_spots_lie_in_their_boxes(prepared: release_check.Prepared):
    inside, whole = [], []
    for example in prepared.examples.values():
        pixels = example["image"][..., 0]
        for box in example["objects"]["bbox"]:
            y0, x0, y1, x1 = (np.array(box) * 48).round().astype(int)
            inside.append(pixels[y0:y1, x0:x1].mean())
            whole.append(pixels.mean())

    assert np.mean(inside) > np.mean(whole) + 20


def test_rgba_becomes_one_channel(dummy: epath.Path, prepared: release_check.Prepared):
    paths = {name: dummy / "images" / f"{name}.png" for name in prepared.examples}

    assert release_check.kinds_of(prepared.examples, paths) == {"grey", "RGBA"}


@pytest.mark.parametrize("wrapper", ["", "archive", "a/b/archive"])
@pytest.mark.parametrize("layout", dummy_data.LAYOUTS)
def test_every_layout_of_the_mirrors_gives_the_same(
    dummy: epath.Path, tmp_path: pathlib.Path, layout: str, wrapper: str
):
    folder = epath.Path(tmp_path / "data" / wrapper)
    dummy_data.write(folder, images=IMAGES, layout=layout)

    made = _builder(epath.Path(tmp_path / "data"), tmp_path)
    expected = _builder(dummy, tmp_path)

    assert made.manifests() == expected.manifests()
    assert [i.image_id for i in made.found] == [i.image_id for i in expected.found]
    assert made.left_out() == []
    assert all((folder / item.image).exists() for item in made.found)


def test_a_second_copy_inside_is_not_read(mine: epath.Path, tmp_path: pathlib.Path):
    dummy_data.write(mine / "again", images=IMAGES)

    made = _builder(mine, tmp_path)

    assert len(made.found) == IMAGES
    assert not any(item.image.startswith("again") for item in made.found)


def test_the_older_table_is_read(tmp_path: pathlib.Path):
    folder = epath.Path(tmp_path / "nih")
    dummy_data.write(folder, images=12, is_2017=True)
    text = (folder / "Data_Entry_2017.csv").read_text()
    assert all(line.endswith(",") for line in text.splitlines())
    assert ",414," in text

    made = release_check.prepare(nih_chest_xray14.Builder, folder, tmp_path / "data")

    assert math.isnan(*made.about("00000001_000", "age"))
    assert made.about("00000008_002", "age") == (33.0,)
    assert made.index["00000001_000"]["age"] == ""


def test_files_that_no_table_names_are_left_out(
    mine: epath.Path, tmp_path: pathlib.Path
):
    (mine / "images" / "00000002_000.png").write_bytes(b"")
    (mine / "images" / "00000001_000.png").write_bytes(b"")
    _replace(mine / "test_list.txt", "00000022_000.png\n", "")

    made = release_check.prepare(nih_chest_xray14.Builder, mine, tmp_path / "data")

    assert made.left_out == {
        "images/00000002_000.png": "not in Data_Entry_2017_v2020.csv",
        "images/00000022_000.png": "neither in train_val_list nor in test_list",
        "00000001_000": "the file is empty",
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("Data_Entry_2017_v2020.csv", "No Finding", "Hernai", r"row 4, Find.*'Hernai'"),
        ("Data_Entry_2017_v2020.csv", "No Finding", "No Finding|Mass", "alone"),
        ("Data_Entry_2017_v2020.csv", "Patient Age", "Alter", "no column 'Patient Age"),
        ("Data_Entry_2017_v2020.csv", ",30,F", ",old,F", r"Age: .* got 'old'"),
        ("Data_Entry_2017_v2020.csv", ",30,F", ",30,X", r"Gender: .* got 'X'"),
        ("Data_Entry_2017_v2020.csv", "_001.png", "_000.png", "a second time"),
        ("Data_Entry_2017_v2020.csv", "00000001_000", "1_0", "not the name"),
        ("Data_Entry_2017_v2020.csv", ",0,1,", ",0,9,", "Patient ID is '9'"),
        ("BBox_List_2017.csv", "181.0", "wide", r"row 2, h: expected a number"),
        ("BBox_List_2017.csv", ",181.0", "", "row 2 must hold"),
        ("BBox_List_2017.csv", "Infiltrate", "Hernia", "'Hernia' is none of"),
        ("test_list.txt", "00000022_000", "00000001_000", "share 1 patients"),
    ],
)
def test_bad_cells_are_named(
    mine: epath.Path,
    tmp_path: pathlib.Path,
    file: str,
    old: str,
    new: str,
    message: str,
):
    _replace(mine / file, old, new)

    with pytest.raises(ValueError, match=rf"{file}.*{message}"):
        _ = _builder(mine, tmp_path).found


@pytest.mark.parametrize(
    "file", ["BBox_List_2017.csv", "test_list.txt", "Data_Entry_2017_v2020.csv"]
)
def test_a_missing_table_says_how_to_get_it(
    mine: epath.Path, tmp_path: pathlib.Path, file: str
):
    (mine / file).unlink()

    with pytest.raises(FileNotFoundError, match=r"nihcc\.app\.box"):
        _ = _builder(mine, tmp_path).found


def test_a_missing_folder_says_how_to_get_it(tmp_path: pathlib.Path):
    with pytest.raises(FileNotFoundError, match=r"not found in .*nihcc\.app"):
        _ = _builder(epath.Path(tmp_path / "none"), tmp_path).found


def test_smaller_copies_are_not_read(tmp_path: pathlib.Path):
    folder = epath.Path(tmp_path / "nih")
    dummy_data.write(folder, images=12, layout="kaggle")
    originals = sorted(folder.glob("images_0*/images/*.png"))
    small = b"\x89PNG"
    for name in ("images_224", "images-224/images", "images"):
        (folder / name).mkdir(parents=True)
        (folder / name / originals[0].name).write_bytes(small)

    made = _builder(folder, tmp_path)

    assert {folder / item.image for item in made.found} == set(originals)
    (second,) = made.left_out()
    assert second.file == f"images/{originals[0].name}"
    assert second.reason.startswith("a second copy of images_001/images/")


def test_a_set_beside_it_is_not_its_own(mine: epath.Path, tmp_path: pathlib.Path):
    before = _builder(mine, tmp_path)
    left_out, fingerprint = before.found and before.left_out(), before.fingerprint()
    mura_data.write(mine, images=28)

    made = _builder(mine, tmp_path)

    assert len(made.found) == IMAGES
    assert made.left_out() == left_out
    assert made.fingerprint() == fingerprint


def test_a_table_without_any_image_is_refused(mine: epath.Path, tmp_path: pathlib.Path):
    (mine / "images").rename(mine / "images_224")

    with pytest.raises(FileNotFoundError, match=r"none of the 42 images.*nihcc\.app"):
        _ = _builder(mine, tmp_path).found
