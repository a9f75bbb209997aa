"""Options of xray_folder: what contradicts itself is refused, order is kept."""

import json
from typing import Any

import pytest

from tfds_builders import xray_folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": ""}, "folder must be the path"),
        ({"bit_depth": 12}, "bit_depth must be 8 or 16"),
        ({"unknown": "none"}, "unknown must be a list of strings"),
        ({"patients": "nih:"}, "patients must be a name without a colon"),
        ({"masks": "labels"}, "mask_classes must be classes if"),
        ({"masks": "colour"}, "masks must be one of"),
        ({"box_classes": ["crack"]}, "box_classes must be classes if"),
        ({"labels": {"x": {"a": ["1"], "b": ["1"]}}}, "not '1' in two"),
        ({"multi_label": ["x"]}, "has no 'x'"),
        ({"masks": "bits", "mask_classes": {"a": [16]}}, "bits from 0 to 15"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], message: str
):
    given: dict[str, Any] = {"folder": "x"} | options

    with pytest.raises(ValueError, match=message):
        xray_folder.Config(name="mine", **given)


def test_box_classes_that_are_not_given_are_listed(tmp_path):
    given: dict[str, Any] = {"folder": str(tmp_path), "annotations": "boxes.json"}
    content = {"categories": [{"id": 1, "name": "crack"}, {"id": 2, "name": "screw"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(content))

    with pytest.raises(ValueError, match=r"of boxes\.json: 'crack', 'screw'\); got"):
        xray_folder.Config(name="mine", **given)
    (tmp_path / "boxes.json").write_text("damaged")
    with pytest.raises(ValueError, match="names a file; got"):
        xray_folder.Config(name="mine", **given)


def test_pairs_and_dictionaries_say_the_same_and_keep_their_order():
    pairs = xray_folder.Config(
        name="a", folder="x", masks="bits", mask_classes=[("z", [1]), ("a", [0])]
    )
    mapping = xray_folder.Config(
        name="a", folder="x", masks="bits", mask_classes={"z": [1], "a": [0]}
    )

    assert pairs.classes_of_masks() == mapping.classes_of_masks()
    assert list(pairs.classes_of_masks()) == ["z", "a"]


def test_numbers_are_taken_as_their_text():
    config = xray_folder.Config(
        name="mine", folder="x", labels={"grade": [0, 1, 2]}, unknown=[-1]
    )

    assert config.classes_of("grade") == {"0": ("0",), "1": ("1",), "2": ("2",)}
    assert config.unknown == ("-1",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": {"age": "number"}}, r"labels\['age'\]: expected a list of classes"),
        ({"labels": {"age": float}}, r"labels\['age'\]: expected a list of classes"),
        ({"labels": {"g": {"yes": "1"}}}, r"class 'yes': expected a list of values"),
        (
            {"annotations": "b.json", "box_classes": {"vertebra": "vertebra"}},
            "box_classes, class 'vertebra': expected a list of values, got 'vertebra'",
        ),
        ({"labels": {"g": [None]}}, "expected names of classes"),
        ({"unknown": -1}, "unknown must be a list"),
    ],
)
def test_text_or_a_number_for_a_list_is_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        xray_folder.Config(name="mine", folder="x", **options)
