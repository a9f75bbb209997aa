"""Formats of boxes, and files that are not in their format."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from tfds_builders.sources import box_formats, coco

COCO = {
    "categories": [{"id": 1, "name": "spot"}, {"id": 2, "name": "line"}],
    "images": [{"id": 7, "file_name": "a/b.png", "width": 20, "height": 10}],
    "annotations": [
        {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}
VOC = """<annotation><size><width>20</width><height>10</height></size>
<object><name>line</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>4</xmax>
<ymax>6</ymax></bndbox></object></annotation>"""
SUPERVISELY = {
    "size": {"height": 10, "width": 20},
    "objects": [{"classTitle": "line", "points": {"exterior": [[4, 6], [1, 2]]}}],
}


def _coco(**parts: object) -> bytes:
    return json.dumps({**COCO, **parts}).encode()


def test_all_formats_tell_the_same_box():
    found = [
        coco.boxes(_coco(), "a.json")["a/b.png"],
        box_formats.voc(VOC.encode(), "a.xml"),
        box_formats.supervisely(json.dumps(SUPERVISELY).encode(), "a.json"),
    ]
    fractions = box_formats.yolo(b"1 0.125 0.4 0.15 0.4\n", "a.txt", ("spot", "line"))

    for boxes in found:
        np.testing.assert_allclose(boxes.corners, [[1, 2, 4, 6]])
        assert (boxes.names, boxes.frame) == (("line",), (10, 20))
    np.testing.assert_allclose(fractions.corners, [[0.05, 0.2, 0.2, 0.6]])
    assert (fractions.names, fractions.frame) == (("line",), (1, 1))


def test_a_polygon_of_yolo_gives_the_box_around_it():
    found = box_formats.yolo(b"0 0.1 0.2 0.5 0.4 0.3 0.9\n\n", "a.txt", ("spot",))

    np.testing.assert_allclose(found.corners, [[0.1, 0.2, 0.5, 0.9]])


def test_an_empty_file_of_yolo_says_that_there_is_nothing():
    assert box_formats.yolo(b"", "a.txt", ("spot",)).corners.shape == (0, 4)


def test_a_list_without_annotations_is_no_error():
    content = json.dumps({k: v for k, v in COCO.items() if k != "annotations"})

    assert coco.boxes(content.encode(), "a.json")["a/b.png"].names == ()


def test_classes_are_chosen_by_name():
    found = box_formats.boxes([[0, 0, 1, 1], [0, 0, 2, 2]], ["spot", "line"], None)

    kept = found.choose(("line",), ("spot",), "a.json")

    np.testing.assert_array_equal(kept.corners, [[0, 0, 2, 2]])
    np.testing.assert_array_equal(kept.labels, [0])
    with pytest.raises(ValueError, match="Did you mean 'spots'"):
        found.choose(("spots", "line"), (), "a.json")


BOX = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (coco.boxes, b"{", "not JSON"),
        (coco.boxes, b"[" * 100_000, "not JSON"),
        (coco.boxes, b"[]", "must hold an object"),
        (coco.boxes, b"{}", "needs a list 'images'"),
        (coco.boxes, _coco(images=[3]), r"images\[0\] has no id"),
        (coco.boxes, _coco(images=COCO["images"] * 2), "images give 1 ids"),
        (
            coco.boxes,
            _coco(images=[*COCO["images"], {**COCO["images"][0], "id": 70}]),
            "lists the image 'a/b.png' twice",
        ),
        (coco.boxes, _coco(annotations=[{}]), r"annotations\[0\] has no"),
        (
            coco.boxes,
            _coco(annotations=[{**BOX, "category_id": 9}]),
            "category_id 9; the categories are 1 spot, 2 line",
        ),
        (coco.boxes, _coco(annotations=[{**BOX, "image_id": 8}]), "example '8'"),
        (coco.boxes, _coco(annotations=[{**BOX, "bbox": [1]}]), "bbox must be"),
        (
            coco.boxes,
            _coco(annotations=[{**BOX, "bbox": [0, 0, 10**400, 1]}]),
            "expected a number",
        ),
        (box_formats.voc, b"<annotation>", "not XML"),
        (box_formats.voc, b"<?xml version='1.0' encoding='x'?><a/>", "not XML"),
        (box_formats.voc, b"<a><object/></a>", "object 0 has no name"),
        (
            box_formats.voc,
            b"<a><object><name>x</name></object></a>",
            "object 0, xmin: expected a number",
        ),
        (box_formats.supervisely, b"{}", "needs a list 'objects'"),
        (
            box_formats.supervisely,
            b'{"objects": [{"classTitle": "x", "points": 3}]}',
            "points.exterior must be",
        ),
    ],
)
def test_other_content_is_refused(
    read: Callable[[bytes, str], object], content: bytes, message: str
):
    with pytest.raises(ValueError, match=message):
        read(content, "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0 1 1", "line 1 must be"),
        (b"\n0 a 1 1 1", "line 2: expected a number"),
        (b"5 0 0 1 1", "class 5; expected 0 to 0: spot"),
        (b"0.5 0 0 1 1", "class 0.5; expected"),
        (b"\xff\xfe\x00", "line 1 must be"),
    ],
)
def test_other_lines_of_yolo_are_refused(content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        box_formats.yolo(content, "a.txt", ("spot",))
