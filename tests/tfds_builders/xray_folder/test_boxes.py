"""COCO's JSON: categories, crowds, sizes, and files that are not in its format."""

import json
from typing import Any

import numpy as np
import pytest
from etils import epath

from tfds_builders import xray_folder
from tfds_builders.images import reader
from tfds_builders.sources import files
from tfds_builders.xray_folder import boxes

IMAGES = files.Listing(epath.Path("images"), {"a.png": 1}, {"a": ("a.png",)})


def _content(*annotations: dict[str, Any], **image: Any) -> bytes:
    """A JSON with one image and two categories."""
    data = {
        "images": [{"id": 5, "file_name": "a.png", **image}],
        "annotations": [{"image_id": 5, **entry} for entry in annotations],
        "categories": [{"id": 7, "name": "crack"}, {"id": 8, "name": "marker"}],
    }
    return json.dumps(data).encode()


def _parse(content: bytes, *classes: str, **options: Any) -> boxes.ImageBoxes:
    config = xray_folder.Config(
        name="mine",
        folder="x",
        annotations="b.json",
        box_classes=classes or ("crack",),
        **options,
    )
    found, missing = boxes.parse(config, content, IMAGES)
    assert not missing
    return found["a.png"]


CRACK = {"category_id": 7, "bbox": [1, 2, 3, 4]}
MARKER = {"category_id": 8, "bbox": [0, 0, 9, 9]}


def test_a_class_that_the_json_does_not_have_names_the_nearest():
    with pytest.raises(ValueError, match=r"no category 'crak'.*Did you mean 'crack'"):
        _parse(_content(), "crak")


def test_categories_are_in_a_class_or_ignored():
    content = _content(CRACK, MARKER)

    with pytest.raises(ValueError, match=r"in no class: 'marker' \(1 boxes\)"):
        _parse(content)
    found = _parse(content, ignored_categories=["marker"])

    np.testing.assert_array_equal(found.corners, [[1, 2, 3, 4]])


def test_crowds_are_dropped_and_counted():
    found = _parse(_content(CRACK, {**CRACK, "iscrowd": 1}))

    assert (len(found.labels), found.dropped) == (1, 1)


def test_boxes_are_measured_in_the_size_that_the_json_gives():
    found = _parse(_content(CRACK, height=20, width=10))

    fractions, labels, dropped = boxes.to_fractions(found, 200, 100)

    np.testing.assert_allclose(fractions, [[0.1, 0.1, 0.3, 0.4]])
    assert (list(labels), dropped) == ([0], 0)
    with pytest.raises(reader.UnreadableImage, match="its boxes are for 10x20"):
        boxes.to_fractions(found, 100, 200)


def test_boxes_without_area_or_numbers_are_dropped():
    nothing = {"category_id": 7, "bbox": [1, 1, 0, 5]}
    nan = {"category_id": 7, "bbox": [1, 1, float("nan"), 5]}

    fractions, _, dropped = boxes.to_fractions(_parse(_content(nothing, nan)), 20, 20)

    assert fractions.shape == (0, 4)
    assert dropped == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no json", "b.json is not JSON"),
        (b"[]", "must hold an object"),
        (b'{"images": [], "categories": []}', "needs a list 'annotations'"),
        (_content({"category_id": 7}), r"annotations\[0\] has no bbox"),
        (_content({"category_id": 7, "bbox": [1, 2]}), "must be .x, y, width, height"),
    ],
)
def test_what_is_not_cocos_format_is_refused(content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        _parse(content)


def _many(count: int, **changes: Any) -> dict[str, Any]:
    """A file of `count` images and one box on each."""
    names = [f"{n}.png" for n in range(count)]
    data = {
        "images": [
            {"id": n, "file_name": name, "height": 100, "width": 200}
            for n, name in enumerate(names)
        ],
        "annotations": [
            {"image_id": n, "category_id": 7, "bbox": [10, 20, 30, 40]}
            for n in range(count)
        ],
        "categories": [{"id": 7, "name": "crack"}],
    }
    return data | changes


def _parse_many(data: dict[str, Any]) -> dict[str, boxes.ImageBoxes]:
    names = [image["file_name"] for image in data["images"]]
    listing = files.Listing(
        epath.Path("images"), dict.fromkeys(names, 1), {n[:-4]: (n,) for n in names}
    )
    config = xray_folder.Config(
        name="mine", folder="x", annotations="b.json", box_classes=["crack"]
    )
    return boxes.parse(config, json.dumps(data).encode(), listing)[0]


def test_an_image_id_given_twice_is_named_with_both_images():
    data = _many(3)
    data["images"][2]["id"] = 1.0  # as much as 1

    with pytest.raises(ValueError, match=r"images give 1 ids .*1 \('1.png', '2.png'\)"):
        _parse_many(data)


def test_a_category_id_given_twice_is_named_with_both_categories():
    data = _many(2, categories=[{"id": 7, "name": n} for n in ("crack", "nodule")])

    with pytest.raises(ValueError, match=r"categories give .*7 \('crack', 'nodule'\)"):
        _parse_many(data)


@pytest.mark.parametrize("write", [float, str, lambda n: f" {n} "])
def test_ids_are_the_same_however_they_are_written(write):
    data = _many(3)
    for entry in data["annotations"]:
        entry["image_id"] = write(entry["image_id"])
        entry["category_id"] = write(entry["category_id"])

    found = _parse_many(data)

    assert [len(one.corners) for one in found.values()] == [1, 1, 1]


def test_a_box_that_repeats_another_is_left_out_and_counted():
    found = _parse(_content(CRACK, CRACK, {**CRACK, "bbox": [1.0, 2, 3, 4]}))

    np.testing.assert_array_equal(found.corners, [[1, 2, 3, 4]])
    assert found.dropped == 2


def test_the_same_box_of_another_class_stays():
    found = _parse(_content(CRACK, {**CRACK, "category_id": 8}), "crack", "marker")

    assert found.dropped == 0
    assert found.labels.tolist() == [0, 1]


def test_fractions_are_refused():
    data = _many(4)
    for entry in data["annotations"]:
        entry["bbox"] = [0.1, 0.2, 0.3, 0.4]

    with pytest.raises(ValueError, match="look like fractions"):
        _parse_many(data)


def test_corners_are_refused():
    data = _many(4)
    for entry in data["annotations"]:
        entry["bbox"] = [110, 60, 140, 90]

    with pytest.raises(ValueError, match=r"4 of 4 boxes reach beyond.*\[x0, y0, x1"):
        _parse_many(data)


def test_boxes_that_reach_beyond_their_image_are_counted(caplog):
    data = _many(4)
    data["annotations"][0]["bbox"] = [190, 20, 30, 40]
    data["annotations"][1]["bbox"] = [170, 20, 30.5, 40]  # rounding

    _parse_many(data)

    assert "1 of 4 boxes reach beyond their images" in caplog.text


def test_what_else_annotations_hold_is_told(caplog):
    _parse(_content({**CRACK, "keypoints": [1, 2, 2], "segmentation": []}, CRACK))

    assert (
        "left aside: keypoints (see option `keypoints`) of 1 annotations."
        in caplog.text
    )
