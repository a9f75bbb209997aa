"""Tests of the Indiana set on invented files."""

from __future__ import annotations

import functools
import pathlib
import shutil

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import indiana_cxr
from tfds_builders.indiana_cxr import dummy_data

_builder = functools.partial(release_check.builder, indiana_cxr)
IMAGES = 42


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> epath.Path:
    folder = epath.Path(tmp_path_factory.mktemp("raddar"))
    dummy_data.write(folder, images=IMAGES, layout="raddar")
    return folder


def _canonical(key: str) -> str:
    return key.replace("CXR1_1_", "CXR1_")


def test_labels_come_from_the_major_terms(prepared: release_check.Prepared):
    meaning = dict(dummy_data.TERMS)
    codes = {"normal": [1, 0], "abnormal": [0, 1], "": [-1, -1]}
    written = dummy_data.reports(IMAGES)

    found = {
        _canonical(key): (number, codes[meaning[terms]])
        for number, terms, ids in written
        for key in ids
    }

    assert len(found) == IMAGES
    assert any(not ids for *_, ids in written)
    assert len(written) < max(number for number, *_ in written)
    assert set(prepared.examples) == set(found)
    for key, (number, label) in found.items():
        example = prepared.examples[key]
        assert list(example["labels"]["label"]) == label
        assert example["patient_id"].decode() == f"indiana:{number}"
        assert prepared.about(key, "study_id", "view") == (f"CXR{number}", "")
    assert prepared.left_out == {}


def test_every_shape_of_an_id_is_read(prepared: release_check.Prepared):
    expected = {"CXR1_IM-0001-3001", "CXR2_IM-0002-0001-01001", "CXR3_IM-0003-1001"}

    assert expected <= set(prepared.examples)


def test_the_mirror_gives_the_same(
    mirror: epath.Path, prepared: release_check.Prepared, tmp_path: pathlib.Path
):
    made = release_check.prepare(indiana_cxr.Builder, mirror, tmp_path / "data")

    assert (mirror / "images/images_normalized/1_IM-0001-3001.dcm.png").exists()
    views = {row.pop("view") for row in made.index.values()}
    assert views == {"Frontal", "Lateral"}
    for key, row in prepared.index.items():
        mine = made.index[key]
        assert mine == {name: row[name] for name in mine}
        one, other = prepared.examples[key]["image"], made.examples[key]["image"]
        np.testing.assert_array_equal(one, other)


def test_images_become_one_channel(dummy: epath.Path, prepared: release_check.Prepared):
    paths = {_canonical(path.stem): path for path in dummy.glob("CXR*.png")}

    assert set(paths) == set(prepared.examples)
    assert release_check.kinds_of(prepared.examples, paths) == {"RGB"}


def test_dicom_gives_the_same(prepared: release_check.Prepared, tmp_path: pathlib.Path):
    dummy_data.write(epath.Path(tmp_path / "dicom"), images=8, layout="dicom")

    made = release_check.prepare(
        indiana_cxr.Builder, tmp_path / "dicom", tmp_path / "data", bit_depth=8
    )

    contents = [path.read_bytes() for path in (tmp_path / "dicom").glob("*/*.dcm")]
    assert {content.count(b"MONOCHROME1") for content in contents} == {0, 1}
    assert len(made.examples) == 8
    for key, example in made.examples.items():
        # Of DICOM the values are stretched over the whole range.
        expected = prepared.examples[key]["image"].astype(np.float64)
        expected = (expected - expected.min()) / np.ptp(expected) * 255
        np.testing.assert_allclose(example["image"], expected, rtol=0, atol=1)


@pytest.mark.parametrize("wrapper", ["", "NLMCXR", "a/b/c"])
def test_every_layout_gives_the_same(
    dummy: epath.Path, tmp_path: pathlib.Path, wrapper: str
):
    folder = tmp_path / "data" / wrapper
    shutil.copytree(dummy, folder)
    if wrapper == "NLMCXR":  # an archive unpacked into a folder of its own
        (folder / "png").mkdir()
        for path in folder.glob("CXR*.png"):
            path.rename(folder / "png" / path.name)
    junk = folder / "__MACOSX" / "ecgen-radiology"
    junk.mkdir(parents=True)
    (junk / "._1.xml").write_bytes(b"junk")

    made = _builder(epath.Path(tmp_path / "data"), tmp_path)

    assert made.manifests() == _builder(dummy, tmp_path).manifests()
    assert made.left_out() == []


def test_what_cannot_be_used_is_left_out(mine: epath.Path, tmp_path: pathlib.Path):
    (mine / "CXR1_1_IM-0001-3001.png").unlink()
    (mine / "CXR9999_IM-0001-0001.png").write_bytes(b"x")
    (mine / "scan.png").write_bytes(b"x")
    (mine / "ecgen-radiology" / "3.xml").write_text("<eCitation><MeSH>")
    for number, encoding in ((5, "utf-9"), (7, "utf-32")):
        xml = mine / "ecgen-radiology" / f"{number}.xml"
        xml.write_text(xml.read_text().replace("utf-8", encoding))
    xml = mine / "ecgen-radiology" / "4.xml"
    xml.write_text(xml.read_text().replace('id="CXR4_IM-0004-1001"', 'id="CXR4"'))

    made = release_check.prepare(indiana_cxr.Builder, mine, tmp_path / "data")

    reasons = dict(made.left_out)
    ids_of = {number: ids for number, _, ids in dummy_data.reports(IMAGES)}
    for number in (3, 5, 7):
        assert reasons.pop(f"ecgen-radiology/{number}.xml").startswith("not XML: ")
        for image in ids_of[number]:
            assert reasons.pop(f"{_canonical(image)}.png") == "in no report"
    assert reasons == {
        "CXR1_IM-0001-3001.png": "in a report, but the file is not there",
        "CXR9999_IM-0001-0001.png": "in no report",
        "CXR4_IM-0004-1001.png": "in no report",
        "ecgen-radiology/4.xml": "names an image 'CXR4'",
        "scan.png": "not named as CXR10_IM-0002-1001.png",
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("indiana_projections.csv", "1_IM", "7_IM", "row 2, filename: '7_IM"),
        ("indiana_projections.csv", "uid", "id", "no column 'uid'"),
        ("indiana_reports.csv", "\n1,", "\none,", "row 2, uid: expected a number"),
        ("indiana_reports.csv", '"pain', '""pain', "damaged near line 2"),
    ],
)
def test_bad_cells_are_named(
    mirror: epath.Path,
    tmp_path: pathlib.Path,
    file: str,
    old: str,
    new: str,
    message: str,
):
    shutil.copytree(mirror, tmp_path / "mine")
    path = tmp_path / "mine" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))

    with pytest.raises(ValueError, match=rf"{file}.*{message}"):
        _ = _builder(epath.Path(tmp_path / "mine"), tmp_path).found


def test_missing_files_say_how_to_get_them(
    mine: epath.Path, mirror: epath.Path, tmp_path: pathlib.Path
):
    with pytest.raises(FileNotFoundError, match=r"not found in .*NLMCXR_png\.tgz"):
        _ = _builder(epath.Path(tmp_path / "none"), tmp_path).found
    for path in mine.glob("CXR*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file CXR.*NLMCXR_png\.tgz"):
        _ = _builder(mine, tmp_path).found
    shutil.copytree(mirror, tmp_path / "raddar")
    (tmp_path / "raddar" / "indiana_projections.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file indiana_projections\.csv"):
        _ = _builder(epath.Path(tmp_path / "raddar"), tmp_path).found
