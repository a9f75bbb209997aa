"""FracAtlas from its stand-in: table, boxes, damaged pictures and every quirk."""

from __future__ import annotations

import functools
import json
import shutil
from typing import Any

import numpy as np
import pytest
from etils import epath

from tests.tfds_builders import release_check
from tfds_builders import fracatlas

_builder = functools.partial(release_check.builder, fracatlas)
_items = functools.partial(release_check.items, fracatlas)


@pytest.fixture
def changed(dummy: epath.Path, tmp_path) -> epath.Path:
    """A copy that a test may change: the folder FracAtlas."""
    shutil.copytree(dummy, tmp_path / "copy")
    return epath.Path(tmp_path / "copy" / "FracAtlas")


def test_everything_is_read_as_released(examples: dict[str, dict[str, Any]]):
    labels = {name: list(e["labels"]["label"]) for name, e in examples.items()}

    assert len(examples) == 14
    assert labels["IMG0000000"] == [1, 0]
    assert labels["IMG0000001"] == [0, 1]
    assert list(examples["IMG0000001"]["labels"]["part"]) == [0, 1, 0, 0, 0]
    assert list(examples["IMG0000001"]["labels"]["projection"]) == [1, 1, 0]
    assert list(examples["IMG0000004"]["labels"]["flags"]) == [1, 0]
    assert examples["IMG0000001"]["view"] == b"frontal|lateral"
    assert examples["IMG0000001"]["body_part"] == b"leg"
    assert examples["IMG0000001"]["patient_id"] == b"image:IMG0000001"
    assert list(examples["IMG0000003"]["objects"]["label"]) == [0, 0]


def test_pictures_have_one_channel(
    examples: dict[str, dict[str, Any]], dummy: epath.Path
):
    paths = {}
    for name in examples:
        (paths[name],) = dummy.glob(f"FracAtlas/images/*/{name}.jpg")

    assert release_check.kinds_of(examples, paths) == {"grey", "RGB"}


def test_boxes_lie_on_what_they_show(examples: dict[str, dict[str, Any]]):
    example = examples["IMG0000001"]
    sides = np.array([48, 64, 48, 64])
    y0, x0, y1, x1 = (example["objects"]["bbox"][0] * sides).round().astype(int)

    image = example["image"][..., 0].astype(float)

    assert image[(y0 + y1) // 2, (x0 + x1) // 2] > np.median(image) + 40


def test_boxes_are_clipped_to_the_image(
    examples: dict[str, dict[str, Any]], prepared: release_check.Prepared
):
    boxes = examples["IMG0000003"]["objects"]["bbox"]

    # Of three boxes one has no area and one ends outside.
    np.testing.assert_allclose(boxes[1], [30 / 48, 50 / 64, 44 / 48, 1], atol=1e-6)
    assert prepared.report["dropped_boxes"] == 1


def test_objects_are_known_where_somebody_looked(examples: dict[str, dict[str, Any]]):
    known = {name for name, e in examples.items() if not e["objects_known"]}

    assert known == {"IMG0009000", "IMG0009001"}
    assert len(examples["IMG0000000"]["objects"]["bbox"]) == 0


def test_folder_and_table_may_disagree(examples: dict[str, dict[str, Any]]):
    assert list(examples["IMG0009001"]["labels"]["label"]) == [-1, -1]


def test_cells_that_say_nothing_are_unknown(changed: epath.Path):
    path = changed / "dataset.csv"
    text = path.read_bytes().decode().replace("mixed,", "others,")
    path.write_text(text.replace("IMG0000001.jpg,0,1", "IMG0000001.jpg,0,"))

    found = _items(changed)

    assert list(found["IMG0000000"].labels["part"]) == [1, 0, 0, 0, -1]
    assert list(found["IMG0000001"].labels["part"]) == [0, -1, 0, 0, -1]
    assert found["IMG0000001"].about.body_part == ""


@pytest.mark.parametrize(("width", "is_known"), [(64, True), (65, True), (80, False)])
def test_boxes_in_the_frame_of_another_image_are_unknown(
    width: int, is_known: bool, changed: epath.Path
):
    path = changed / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    data = json.loads(path.read_text())
    for image in data["images"]:
        image["width"] = width
    path.write_text(json.dumps(data))
    builder = _builder(changed)
    records = {record.image_id: record for record in builder.records()["train"]}

    xray = builder.load(records["IMG0000003"])

    assert (xray.boxes is not None) == is_known
    assert xray.dropped_boxes == (1 if is_known else 3)
    normal = builder.load(records["IMG0000000"])
    assert normal.boxes is not None
    assert len(normal.boxes) == 0


def test_an_image_whose_boxes_are_all_without_area_is_unknown(changed: epath.Path):
    path = changed / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    data = json.loads(path.read_text())
    for entry in data["annotations"]:
        entry["bbox"][2] = 0
    path.write_text(json.dumps(data))
    builder = _builder(changed)
    records = {record.image_id: record for record in builder.records()["train"]}

    xray = builder.load(records["IMG0000003"])

    assert (xray.boxes, xray.box_labels, xray.dropped_boxes) == (None, None, 3)


def test_a_name_in_both_folders_is_told(changed: epath.Path):
    other = changed / "images" / "Non_fractured" / "IMG0000001.jpg"
    shutil.copy(changed / "images" / "Non_fractured" / "IMG0000000.jpg", other)
    builder = _builder(changed)

    images = {item.image_id: item.image for item in builder.found}

    assert images["IMG0000001"] == "images/Fractured/IMG0000001.jpg"
    reasons = {entry.file: entry.reason for entry in builder.left_out()}
    assert reasons["images/Non_fractured/IMG0000001.jpg"] == (
        "has the same name as images/Fractured/IMG0000001.jpg"
    )


def test_what_is_left_out_is_told(prepared: release_check.Prepared):
    reasons = dict(prepared.left_out)

    for name in ("IMG0009002", "IMG0009003"):
        assert "damaged" in reasons.pop(name)
    assert reasons == {
        "IMG0009004.jpg": "in dataset.csv but not there",
        "images/Non_fractured/IMG0009005.jpg": "not in dataset.csv",
    }


@pytest.mark.parametrize("source", ["coco", "pascalvoc", "yolo"])
def test_all_formats_tell_the_same_boxes(source: str, dummy: epath.Path):
    expected, found = _items(dummy), _items(dummy, annotations=source)

    for name, item in expected.items():
        if item.objects is None:
            assert found[name].objects is None
            continue
        height, width = found[name].objects.frame or (1, 1)
        boxes = found[name].objects.corners / [width, height, width, height]
        np.testing.assert_allclose(
            boxes, item.objects.corners / [64, 48, 64, 48], atol=1e-5
        )


def test_other_formats_serve_where_coco_is_missing(changed: epath.Path):
    (changed / "Annotations" / "COCO JSON").rmtree()

    assert len(_items(changed)["IMG0000003"].objects.corners) == 3
    for folder in ("PASCAL VOC", "YOLO"):
        (changed / "Annotations" / folder).rmtree()
    with pytest.raises(FileNotFoundError, match="no annotations of coco, pascalvoc"):
        _items(changed)


def test_the_lists_of_splits_are_not_used(dummy: epath.Path):
    builder = _builder(dummy)

    assert {item.split for item in builder.found} == {"train"}
    assert set(builder.manifests()) == {"muscle", "grouped"}


def test_a_missing_table_or_folder_says_what_to_do(changed: epath.Path, tmp_path):
    (changed / "images" / "Fractured").rmtree()
    with pytest.raises(FileNotFoundError, match="nothing is in images/Fractured/"):
        _items(changed)

    (changed / "dataset.csv").unlink()
    for folder in (changed, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"fracatlas: not found.*figshare"):
            _items(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fractured,", "broken,", "has no column 'fractured'"),
        ("hardware,", "metal,", "has no column 'hardware'"),
        ("IMG0000001.jpg", "IMG0000000.jpg", "row 3, image_id: .* comes twice"),
        ("IMG0000000.jpg,1", "IMG0000000.jpg,x", "row 2, hand: expected one of"),
        (",0,0,1,0,0\r\n", ",,0,1,0,0\r\n", "row 2, fractured: expected 0 or 1"),
    ],
)
def test_a_bad_cell_is_named(old: str, new: str, message: str, changed: epath.Path):
    text = (changed / "dataset.csv").read_bytes().decode()
    (changed / "dataset.csv").write_bytes(text.replace(old, new).encode())

    with pytest.raises(ValueError, match=message):
        _items(changed)


def test_a_damaged_json_is_refused(changed: epath.Path):
    path = changed / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    path.write_text(path.read_text()[:-20])

    with pytest.raises(ValueError, match=r"COCO_fracture_masks\.json is not JSON"):
        _items(changed)


def test_an_option_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'coco'"):
        fracatlas.Config(name="t", annotations="cocos")


def test_a_table_without_any_image_is_refused(changed: epath.Path):
    for folder in (changed / "images").iterdir():
        for path in folder.iterdir():
            path.unlink()
        (folder / "list.txt").touch()

    with pytest.raises(FileNotFoundError, match=r"none of the .* dataset\.csv.*figsh"):
        _items(changed)
