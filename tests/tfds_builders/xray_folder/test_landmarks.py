"""COCO's keypoints: readers, unknown points, and files that are not in its format."""

import csv
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from etils import epath

from mtpret_jax.data import sources
from tfds_builders import xray_folder
from tfds_builders.images import reader
from tfds_builders.prepare import checks
from tfds_builders.sources import files
from tfds_builders.xray_folder import landmarks, table

IMAGES = files.Listing(epath.Path("images"), {"a.png": 1}, {"a": ("a.png",)})
NAN = math.nan


def _file(*readings: Sequence[Any], **image: Any) -> dict[str, Any]:
    """One image of 40 x 20 pixels, and a category of two points."""
    size = {"height": 40, "width": 20}
    return {
        "images": [{"id": 5, "file_name": "a.png", **size, **image}],
        "annotations": [
            {"image_id": 5, "category_id": 7, "keypoints": list(row)}
            for row in readings
        ],
        "categories": [{"id": 7, "name": "skull", "keypoints": ["sella", "nasion"]}],
    }


def _parse(data: dict[str, Any], *names: str) -> landmarks.ImageLandmarks | None:
    config = xray_folder.Config(
        name="mine",
        folder="x",
        keypoints="k.json",
        landmark_names=names or ("sella", "nasion"),
    )
    found, missing = landmarks.parse(config, json.dumps(data).encode(), IMAGES)
    assert not missing
    return found.get("a.png")


def test_points_are_read_by_name_and_unknown_ones_are_not_numbers():
    found = _parse(_file([1, 2, 2, 0, 0, 0]), "nasion", "sella")

    np.testing.assert_array_equal(found.points, [[NAN, NAN], [1, 2]])
    assert _parse(_file()) is None


def test_the_mean_of_readers_that_know_a_point_counts(caplog):
    found = _parse(_file([1, 2, 2, 3, 4, 1], [2, 4, 2, 0, 0, 0]))

    np.testing.assert_array_equal(found.points, [[1.5, 3], [3, 4]])
    assert "1 images have several annotations" in caplog.text


NO_SIZE = {"height": None, "width": None}


def test_fractions_are_those_of_the_size_that_the_json_gives():
    found = _parse(_file([5, 10, 2, 20, 40, 2]))

    fractions, outside = landmarks.to_fractions(found, 400, 200)

    np.testing.assert_array_equal(fractions, [[0.25, 0.25], [1, 1]])
    assert not outside
    with pytest.raises(reader.UnreadableImage, match="its points are for 20x40"):
        landmarks.to_fractions(found, 200, 400)


@pytest.mark.parametrize("size", [{}, NO_SIZE])
def test_points_beyond_the_image_are_unknown_and_counted(size):
    found = _parse(_file([50, 10, 2, 20, 40, 2], **size))

    fractions, outside = landmarks.to_fractions(found, 40, 20)

    np.testing.assert_array_equal(fractions, [[NAN, NAN], [1, 1]])
    assert outside == 1


@pytest.mark.parametrize("size", [{}, NO_SIZE])
@pytest.mark.parametrize(
    ("readings", "message"),
    [
        ([[1, 2, 2]], r"must be \[x, y, visibility\] of each of the 2 points"),
        ([[1, 2, 3, 4, 5, 2]], "visibility must be one of .0, 1, 2., got 3"),
        ([["x", 2, 2, 4, 5, 2]], "keypoint 'sella': expected a number, got 'x'"),
        ([[0.1, 0.2, 2, 0.4, 0.5, 2]], "look like fractions"),
        ([[1, 2, 2, 3, 4, 2], [15, 35, 2, 18, 38, 2]], "look like several objects"),
    ],
)
def test_what_cannot_be_landmarks_is_refused(readings, message: str, size):
    with pytest.raises(ValueError, match=message):
        _parse(_file(*readings, **size))


def test_annotations_of_boxes_alone_are_skipped(caplog):
    data = _file([1, 2, 2, 3, 4, 2])
    data["categories"].append({"id": 8, "name": "plate"})
    box = {"image_id": 5, "bbox": [1, 1, 2, 2]}
    data["annotations"] += [{**box, "category_id": 8}, {**box, "category_id": 7}]

    found = _parse(data)

    np.testing.assert_array_equal(found.points, [[1, 2], [3, 4]])
    assert "1 annotations hold no keypoints" in caplog.text


def test_a_name_that_the_file_does_not_have_names_the_nearest():
    with pytest.raises(ValueError, match=r"no keypoint 'sela'.*Did you mean 'sella'"):
        _parse(_file(), "sela")


def test_a_name_of_two_categories_is_refused():
    data = _file()
    data["categories"].append({"id": 8, "name": "left", "keypoints": ["sella"]})

    with pytest.raises(ValueError, match="2 keypoints are called 'sella'"):
        _parse(data)


def test_names_and_file_belong_together(tmp_path: pathlib.Path):
    (tmp_path / "k.json").write_text(json.dumps(_file()))
    options = {"name": "mine", "folder": str(tmp_path)}

    with pytest.raises(ValueError, match=r"those of k.json: 'sella', 'nasion'"):
        xray_folder.Config(**options, keypoints="k.json")
    with pytest.raises(ValueError, match="landmark_names must be names if and only if"):
        xray_folder.Config(**options, landmark_names=["sella"])
    with pytest.raises(ValueError, match="spacing_column must be nothing"):
        xray_folder.Config(**options, spacing_column="mm")


def _folder(tmp_path: pathlib.Path, spacings: Sequence[str]) -> pathlib.Path:
    """Two images of 40 x 20 pixels; the second has no landmarks."""
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    picture = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (40, 1))
    rows = [("file", "split", "group", "mm")]
    for name, spacing in zip("ab", spacings, strict=True):
        cv2.imwrite(str(source / "images" / f"{name}.png"), picture)
        rows.append((f"{name}.png", "train", name, spacing))
    with (source / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (source / "k.json").write_text(json.dumps(_file([5, 10, 2, 50, 0, 2])))
    return source


def _config(source: pathlib.Path, **options: Any) -> xray_folder.Config:
    return xray_folder.Config(
        name="mine",
        folder=str(source),
        image_size=20,
        keypoints="k.json",
        landmark_names=["sella", "nasion"],
        spacing_column="mm",
        **options,
    )


def test_a_set_holds_landmarks_and_the_size_of_a_stored_pixel(
    tmp_path: pathlib.Path, caplog
):
    source = _folder(tmp_path, ("0.1", ""))
    builder = xray_folder.Builder(data_dir=tmp_path / "data", config=_config(source))

    builder.download_and_prepare()

    made = sources.open_prepared(builder.data_dir, "train")
    assert made.metadata.landmark_names == ("sella", "nasion")
    assert [row["n_landmarks"] for row in made.index] == ["1", ""]
    np.testing.assert_array_equal(made[0]["landmarks"], [[0.25, 0.25], [NAN, NAN]])
    assert np.isnan(made[1]["landmarks"]).all()
    assert made[0]["spacing"] == np.float32(0.2)  # The stored pixel is twice as large.
    assert np.isnan(made[1]["spacing"])
    assert made.preparation["landmark_counts"] == {"sella": 1, "nasion": 0}
    assert "1 landmarks of the source lie beyond" in caplog.text


@pytest.mark.parametrize("cell", ["-1", "0_1", "1e300", "1e-60"])
def test_a_spacing_that_is_no_length_names_the_row(tmp_path: pathlib.Path, cell: str):
    source = _folder(tmp_path, ("0.1", cell))
    builder = xray_folder.Builder(data_dir=tmp_path / "data", config=_config(source))

    with pytest.raises(
        ValueError, match=rf"'b.png', mm: expected millimetres.*'{cell}'"
    ):
        builder.records()


def test_a_spacing_may_be_called_unknown(tmp_path: pathlib.Path):
    config = _config(tmp_path, unknown=["n/a"])
    rows = [{"file": "a.png", "mm": "n/a"}, {"file": "b.png", "mm": "0.2"}]

    found = table.spacings(config, ["file", "mm"], rows)

    np.testing.assert_array_equal(found, [NAN, 0.2])


def test_a_set_from_before_there_were_landmarks_is_not_another(tmp_path: pathlib.Path):
    config = xray_folder.Config(name="mine", folder=str(_folder(tmp_path, ("", ""))))
    now = xray_folder.Builder(data_dir=tmp_path / "data", config=config).options()
    newer = ("keypoints", "landmark_names", "spacing_column")
    then: Any = {"options": {k: v for k, v in now.items() if k not in newer}}

    assert not checks.changes(then, now)
    assert "keypoints" in checks.changes(then, {**now, "keypoints": "k.json"})
