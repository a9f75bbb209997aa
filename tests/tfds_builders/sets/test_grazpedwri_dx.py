"""GRAZPEDWRI-DX from its stand-in: table, boxes, depth and every quirk."""

from __future__ import annotations

import functools
import pathlib
import shutil
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import fracatlas, grazpedwri_dx
from tfds_builders.fracatlas import dummy_data as fracatlas_data

OPTIONS = {"bit_depth": 16}
_builder = functools.partial(release_check.builder, grazpedwri_dx)
_items = functools.partial(release_check.items, grazpedwri_dx)
STEMS = [
    f"{i // 2 + 1:04d}_{1297860395 + i}_01_WRI-L{i % 2 + 1}_M014" for i in range(12)
]


@pytest.fixture(scope="module")
def examples(prepared: release_check.Prepared) -> list[dict[str, Any]]:
    return list(prepared.examples.values())


@pytest.fixture
def changed(dummy: epath.Path, tmp_path) -> epath.Path:
    """A copy that a test may change."""
    return epath.Path(shutil.copytree(dummy, tmp_path / "graz"))


def test_everything_is_read_as_released(examples: list[dict[str, Any]]):
    assert [example["image_id"].decode() for example in examples] == STEMS
    assert [example["patient_id"].decode() for example in examples[:3]] == [
        "graz:1",
        "graz:1",
        "graz:2",
    ]
    assert [list(example["labels"]["label"]) for example in examples[1:3]] == [
        [1, 0],
        [0, 1],
    ]
    assert list(examples[6]["objects"]["label"]) == [8, 3]


def test_blank_flags_mean_no(examples: list[dict[str, Any]]):
    assert list(examples[1]["labels"]["flags"]) == [1, 0, 0, 0, 0]
    assert list(examples[2]["labels"]["flags"]) == [1, 1, 0, 0, 1]


def test_sixteen_bits_are_kept_where_asked_for(
    examples: list[dict[str, Any]], dummy: epath.Path
):
    path = dummy / "images_part2" / f"{STEMS[1]}.png"
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    shallow = cv2.imread(
        str(dummy / "images_part1" / f"{STEMS[0]}.png"), cv2.IMREAD_UNCHANGED
    )

    assert (stored.dtype, shallow.dtype) == (np.uint16, np.uint8)
    np.testing.assert_array_equal(examples[1]["image"][..., 0], stored)
    np.testing.assert_array_equal(
        examples[0]["image"][..., 0], shallow.astype(np.uint16) * 257
    )


def test_what_is_told_about_an_image(examples: list[dict[str, Any]]):
    told = [
        tuple(e[k].decode() for k in ("view", "sex", "study_id", "body_part"))
        for e in examples
    ]

    assert told[0] == ("PA/AP", "F", "1-1", "left wrist")
    assert told[3] == ("lateral", "M", "2-1", "left wrist")
    assert told[6] == ("PA/AP", "", "4-1", "left wrist")
    assert told[8] == ("other", "F", "5-1", "wrist")
    assert examples[0]["age"] == pytest.approx(5.1)
    assert np.isnan(examples[8]["age"])


@pytest.mark.parametrize("source", ["yolov5", "pascalvoc", "supervisely"])
def test_all_formats_tell_the_same_boxes(source: str, dummy: epath.Path):
    expected, found = _items(dummy), _items(dummy, annotations=source)

    for stem in STEMS[1:]:
        one, other = expected[stem], found[stem]
        np.testing.assert_array_equal(one.objects.labels, other.objects.labels)
        frame = other.objects.frame or (1, 1)
        scale = np.array([frame[1], frame[0]] * 2)
        np.testing.assert_allclose(
            one.objects.corners, other.objects.corners / scale, atol=1e-5
        )


@pytest.mark.parametrize("source", ["pascalvoc", "supervisely"])
def test_other_formats_serve_where_the_first_is_missing(
    source: str, changed: epath.Path, dummy: epath.Path
):
    for other in {"yolov5", "pascalvoc", "supervisely"} - {source}:
        (changed / "folder_structure" / other).rmtree()
    (changed / "folder_structure" / "classes.txt").write_text("text")

    found = _items(changed)

    assert list(found[STEMS[6]].objects.labels) == [8, 3]
    (changed / "folder_structure" / source).rmtree()
    with pytest.raises(FileNotFoundError, match=r"Unpack folder_structure\.zip"):
        _items(changed)


def test_objects_are_known_where_somebody_looked(
    dummy: epath.Path, changed: epath.Path
):
    (changed / "folder_structure" / "yolov5" / "labels" / f"{STEMS[2]}.txt").unlink()

    found = _items(changed)

    assert found[STEMS[0]].objects.corners.shape == (0, 4)  # no file
    assert found[STEMS[4]].objects.corners.shape == (0, 4)  # an empty one
    assert _items(dummy)[STEMS[2]].objects.corners.shape == (4, 4)
    assert found[STEMS[2]].objects is None  # a fracture is seen, so the file is missing


def test_kinds_that_are_not_asked_for_are_ignored(dummy: epath.Path, tmp_path):
    builder = _builder(dummy, tmp_path, objects=["fracture"], image_size=32)
    builder.download_and_prepare()

    found = tfds.builder_from_directory(str(builder.data_path)).as_data_source("train")

    features: Any = builder.info.features
    assert features["objects"]["label"].names == ["fracture"]
    boxes = [len(example["objects"]["label"]) for example in found]
    assert boxes == [0, 0, 1, 1] * 3
    assert all(example["objects_known"] for example in found)


def test_boxes_are_clipped_to_the_image(
    examples: list[dict[str, Any]], prepared: release_check.Prepared
):
    objects = examples[2]["objects"]

    # Of four boxes one has no area and one ends outside.
    assert list(objects["label"]) == [8, 3, 4]
    np.testing.assert_allclose(objects["bbox"][2], [50 / 64, 40 / 48, 1, 1], atol=1e-5)
    assert prepared.report["dropped_boxes"] == 1


def test_the_copy_nearest_to_the_root_is_read(dummy: epath.Path):
    assert _items(dummy)[STEMS[1]].image == f"images_part2/{STEMS[1]}.png"


def test_what_is_left_out_is_told(prepared: release_check.Prepared):
    reasons = dict(prepared.left_out)

    assert "damaged" in reasons.pop("0900_1_01_WRI-R1_F009")
    assert reasons == {
        "0901_1_01_WRI-R1_F009.png": "in dataset.csv but not there",
        "images_part1/stranger.png": "not in dataset.csv",
    }


def test_a_part_that_is_missing_is_an_error(changed: epath.Path, tmp_path):
    (changed / "images_part3").rmtree()

    with pytest.raises(FileNotFoundError, match=r"Unpack images_part3\.zip too"):
        _items(changed)
    (changed / "dataset.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"grazpedwri_dx: not found.*figshare"):
        _items(changed)
    with pytest.raises(FileNotFoundError, match="grazpedwri_dx: not found"):
        _items(tmp_path / "nowhere")


@pytest.mark.parametrize("around", ["images", "images/all"])
@pytest.mark.parametrize("emptied", [False, True])
def test_a_missing_part_is_noticed_at_any_depth(
    around: str, emptied: bool, changed: epath.Path
):
    (changed / around).mkdir(parents=True)
    for part in range(1, 5):
        (changed / f"images_part{part}").rename(changed / around / f"images_part{part}")
    (changed / around / "images_part3").rmtree()
    if emptied:
        (changed / around / "images_part3").mkdir()
        (changed / around / "images_part3" / "readme.txt").touch()

    with pytest.raises(FileNotFoundError, match=r"nothing is in images_part3 of"):
        _items(changed)


def test_labels_may_lie_beside_the_pictures(changed: epath.Path, dummy: epath.Path):
    _gather(changed)
    yolo = changed / "folder_structure" / "yolov5" / "labels"
    yolo.rename(changed / "labels")
    (changed / "folder_structure").rmtree()

    found = _items(changed)

    assert found.keys() == _items(dummy).keys()
    assert list(found[STEMS[6]].objects.labels) == [8, 3]


def test_the_folder_of_another_set_is_not_taken(changed: epath.Path, tmp_path):
    fracatlas_data.write(epath.Path(tmp_path / "a"))

    with pytest.raises(FileNotFoundError, match="grazpedwri_dx: not found"):
        _items(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="fracatlas: not found"):
        _fracatlas_images(_gather(changed))
    assert len(_items(tmp_path)) == 13
    assert _fracatlas_images(tmp_path) == 16


def _fracatlas_images(folder: Any) -> int:
    config = fracatlas.Config(name="t", folder=str(folder))
    return len(fracatlas.Builder(data_dir="unused", config=config).found)


def _gather(folder: epath.Path) -> epath.Path:
    """Puts all pictures of a release into one folder beside one of annotations."""
    for name in ("images", "annotations"):
        (folder / name).mkdir()
    for part in range(1, 5):
        for path in (folder / f"images_part{part}").iterdir():
            path.rename(folder / "images" / path.name)
        (folder / f"images_part{part}").rmdir()
    return folder


def test_pictures_may_lie_in_one_folder(changed: epath.Path, dummy: epath.Path):
    assert _items(_gather(changed)).keys() == _items(dummy).keys()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("filestem", "file", r"has no column 'filestem'"),
        (",cast,", ",plaster,", r"has no column 'cast'"),
        (",5.1,", ",five,", r"row 2, age: expected a number, got 'five'"),
        (",L,2,", ",L,7,", r"row 3, projection: expected one of 1, 2, 3, got '7'"),
        (",L,1,", ",Q,1,", r"row 2, laterality: expected one of L, R, got 'Q'"),
        (STEMS[1], STEMS[0], "row 3: .* comes twice"),
        (",,1,,0.1", ",,x,,0.1", r"row 5, fracture_visible: expected one of"),
    ],
)
def test_a_bad_cell_is_named(old: str, new: str, message: str, changed: epath.Path):
    text = (changed / "dataset.csv").read_bytes().decode()
    (changed / "dataset.csv").write_bytes(text.replace(old, new).encode())

    with pytest.raises(ValueError, match=message):
        _items(changed)


def test_an_option_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'fracture'"):
        grazpedwri_dx.Config(name="t", objects=("fractures",))
    with pytest.raises(ValueError, match="Did you mean 'yolov5'"):
        grazpedwri_dx.Config(name="t", annotations="yolo5")


def test_a_table_without_any_image_is_refused(changed: epath.Path):
    for part in range(1, 5):
        (changed / f"images_part{part}").rmtree()
    for path in list(pathlib.Path(changed).rglob("*.png")):
        path.unlink()

    with pytest.raises(FileNotFoundError, match=r"none of the .* dataset\.csv.*figsh"):
        _items(changed)
