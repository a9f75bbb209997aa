"""COCO's JSON: categories, crowds, sizes, and files that are not in its format."""

import json
from typing import Any

import numpy as np
import pytest
from etils import epath

from tfds_builders import files, reader, xray_folder
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
        (b"[]", "not in COCO's format"),
        (_content({"category_id": 7}), r"annotations\[0\] has no \['bbox'\]"),
        (_content({"category_id": 7, "bbox": [1, 2]}), "must be .x, y, width, height"),
    ],
)
def test_what_is_not_cocos_format_is_refused(content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        _parse(content)
