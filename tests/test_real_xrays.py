"""Real X-rays through xray_folder: every set by configuration alone, at 128 pixels.

Counts are those of the sets' own notes. The pictures are not part of the repository.
"""

import csv
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders import xray_folder

SIZE = 128  # longest stored side, pixels
SETS: Mapping[str, Mapping[str, Any]] = {
    "chest_cls": {"labels": {"label": ["normal", "pneumonia", "covid"]}},
    "chest_det": {
        "labels": {
            "label": ["Normal", "No Lung Opacity / Not Normal", "Lung Opacity"],
        },
        "unknown": ["not_in_rsna"],
        "annotations": "annotations.json",
        "box_classes": {"opacity": ["lung_opacity"]},
    },
    "bone_cls": {"labels": {"label": ["normal", "fracture"]}},
    "bone_det": {
        "annotations": "annotations.json",
        "box_classes": {"fracture": ["fracture", "line", "angle", "messed_up_angle"]},
    },
    "lung_seg": {"masks": "bits", "mask_classes": {"lungs": [0, 1]}},
    "dental_teeth": {
        "masks": "labels",
        "mask_column": "mask",
        "mask_classes": {"tooth": list(range(1, 33))},
        "annotations": "annotations.json",
        "box_classes": {
            "tooth": [f"tooth_{q}{n}" for q in range(1, 5) for n in range(1, 9)]
        },
    },
}
# Images of train, validation and test; known boxes (images, boxes).
COUNTS = {
    "chest_cls": (677, 98, 195),
    "chest_det": (246, 37, 76),
    "bone_cls": (310, 47, 89),
    "bone_det": (322, 45, 91),
    "lung_seg": (354, 50, 102),
    "dental_teeth": (296, 44, 84),
}
BOXES = {"chest_det": (339, 205), "bone_det": (458, 601), "dental_teeth": (424, 11_561)}


class Prepared:
    """A real set, prepared and read back by TFDS alone."""

    def __init__(self, name: str, source: pathlib.Path, data: pathlib.Path) -> None:
        options = SETS[name]
        config = xray_folder.Config(
            name=name, folder=str(source), image_size=SIZE, **options
        )
        builder = xray_folder.Builder(data_dir=data, config=config)
        builder.download_and_prepare()
        self.source = source
        self.path = pathlib.Path(builder.data_dir)
        self.report = json.loads((self.path / "preparation.json").read_text())
        self.index = self.table(self.path / "index.csv")
        self._builder = tfds.builder_from_directory(str(self.path))

    @staticmethod
    def table(path: pathlib.Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    @functools.cached_property
    def examples(self) -> dict[str, dict[str, Any]]:
        return {
            example["image_id"].decode(): example
            for split in self._builder.info.splits
            for example in self._builder.as_data_source(split)
        }

    def grey(self, name: str) -> np.ndarray:
        return _read(self.source / "images" / name, cv2.IMREAD_GRAYSCALE)

    def boxes(self) -> dict[str, list[list[float]]]:
        """Boxes of the JSON by image, as y0, x0, y1, x1 fractions."""
        data = json.loads((self.source / "annotations.json").read_text())
        image = {entry["id"]: entry for entry in data["images"]}
        found: dict[str, list[list[float]]] = {
            e["file_name"]: [] for e in data["images"]
        }
        for entry in data["annotations"]:
            owner = image[entry["image_id"]]
            x, y, w, h = entry["bbox"]
            size = [owner["height"], owner["width"]] * 2
            ends = np.clip(np.divide([y, x, y + h, x + w], size), 0, 1)
            found[owner["file_name"]].append(list(ends))
        return found


def _read(path: pathlib.Path, mode: int) -> np.ndarray:
    content = np.frombuffer(path.read_bytes(), np.uint8)
    return np.asarray(cv2.imdecode(content, mode))


@pytest.fixture(scope="module")
def prepared(xray: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Prepares a set when it is first asked for."""
    data = tmp_path_factory.mktemp("data")
    return functools.cache(lambda name: Prepared(name, xray / name, data))


@pytest.mark.parametrize("name", SETS)
def test_every_image_is_in_its_split(prepared: Any, name: str):
    made = prepared(name)

    names = {"train": "train", "val": "validation", "test": "test"}
    expected = {
        row["file"].removeprefix("images/"): (names[row["split"]], row["group"])
        for row in made.table(made.source / "labels.csv")
    }
    counts = dict(zip(names.values(), COUNTS[name], strict=True))
    assert made.report["splits"] == counts
    assert made.report["quarantined"] == 0
    found = {row["image_id"]: (row["split"], row["group"]) for row in made.index}
    assert found == expected
    assert set(made.examples) == set(expected)


@pytest.mark.parametrize("name", SETS)
def test_stored_images_are_the_originals_made_smaller(prepared: Any, name: str):
    made = prepared(name)

    for image_id in sorted(made.examples)[::40]:
        stored = made.examples[image_id]["image"][..., 0]
        original = made.grey(image_id)
        assert max(stored.shape) == min(SIZE, max(original.shape))
        height, width = stored.shape
        small = cv2.resize(original, (width, height), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(stored.astype(int), small.astype(int), atol=1)


@pytest.mark.parametrize("name", ["chest_cls", "chest_det", "bone_cls"])
def test_labels_are_those_of_the_table(prepared: Any, name: str):
    made = prepared(name)
    classes = SETS[name]["labels"]["label"]

    for row in made.table(made.source / "labels.csv"):
        label = made.examples[row["file"].removeprefix("images/")]["labels"]["label"]
        if row["label"] == "not_in_rsna":
            np.testing.assert_array_equal(label, [-1] * len(classes))
        else:
            assert classes[int(label.argmax())] == row["label"]
            assert sorted(label) == [0] * (len(classes) - 1) + [1]


@pytest.mark.parametrize("name", BOXES)
def test_boxes_are_those_of_the_json(prepared: Any, name: str):
    made = prepared(name)
    expected = made.boxes()

    known = {key: e for key, e in made.examples.items() if e["objects_known"]}
    assert set(known) == set(expected)
    assert (len(known), sum(map(len, expected.values()))) == BOXES[name]
    assert made.report["dropped_boxes"] == 0
    for image_id, example in known.items():
        found = np.reshape(example["objects"]["bbox"], (-1, 4))
        np.testing.assert_allclose(
            found, np.reshape(expected[image_id], (-1, 4)), atol=1e-6
        )
    rows = {row["image_id"]: row["n_boxes"] for row in made.index}
    assert all((rows[key] == "") == (key not in known) for key in rows)


def test_images_that_the_json_does_not_list_have_unknown_boxes(prepared: Any):
    made = prepared("chest_det")

    unknown = [e for e in made.examples.values() if not e["objects_known"]]
    empty = [
        e
        for e in made.examples.values()
        if e["objects_known"] and not e["objects"]["bbox"]
    ]
    assert len(unknown) == 20
    assert len(empty) == 210


@pytest.mark.parametrize("name", ["lung_seg", "dental_teeth"])
def test_masks_are_those_of_the_files(prepared: Any, name: str):
    made = prepared(name)
    bits = 3 if name == "lung_seg" else 255

    for image_id in sorted(made.examples)[::10]:
        stored = made.examples[image_id]["mask"][..., 0]
        file = made.source / "masks" / f"{pathlib.PurePath(image_id).stem}.png"
        full = (_read(file, cv2.IMREAD_UNCHANGED) & bits) > 0
        share = cv2.resize(
            full.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA
        )
        assert stored.shape == (SIZE, SIZE)
        assert set(np.unique(stored)) == {0, 1}
        # Where a stored pixel lies wholly inside or outside, there is no doubt.
        np.testing.assert_array_equal(stored[share == 1], 1)
        np.testing.assert_array_equal(stored[share == 0], 0)
        assert abs(stored.mean() - full.mean()) < 0.01
    assert all(row["has_mask"] == "1" for row in made.index)


def test_teeth_lie_in_their_boxes(prepared: Any):
    made = prepared("dental_teeth")

    covered = []
    for example in list(made.examples.values())[::20]:
        mask = example["mask"][..., 0] == 1
        inside = np.zeros_like(mask)
        for y0, x0, y1, x1 in np.array(example["objects"]["bbox"]) * SIZE:
            inside[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
        covered.append((mask & inside).sum() / mask.sum())

    assert np.mean(covered) > 0.95
