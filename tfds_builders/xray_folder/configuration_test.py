"""Options of xray_folder: what contradicts itself is refused, order is kept."""

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


def test_pairs_and_dictionaries_say_the_same_and_keep_their_order():
    pairs = xray_folder.Config(
        name="a", folder="x", masks="bits", mask_classes=[("z", [1]), ("a", [0])]
    )
    mapping = xray_folder.Config(
        name="a", folder="x", masks="bits", mask_classes={"z": [1], "a": [0]}
    )

    assert pairs.classes_of_masks() == mapping.classes_of_masks()
    assert list(pairs.classes_of_masks()) == ["z", "a"]
