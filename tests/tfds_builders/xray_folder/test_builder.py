"""xray_folder on small folders of invented pictures, written by the test."""

import csv
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders import xray_folder
from tfds_builders.prepare import xray_builder

REPOSITORY = pathlib.Path(__file__).parents[3]
Row = Mapping[str, str]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Twelve images of 20 x 32 pixels, a0 to a11, each with grey value 10 x index."""
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    for index in range(12):
        picture = np.full((20, 32), 10 * index, np.uint8)
        picture[:, :4] = 255
        cv2.imwrite(str(source / "images" / f"a{index}.png"), picture)
    return source


def _table(folder: pathlib.Path, rows: Sequence[Row], name: str = "labels.csv") -> None:
    with (folder / name).open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _rows(count: int = 12, **columns: Any) -> list[dict[str, Any]]:
    """Rows with a split and a group each; a callable column gets the row's number."""
    given: dict[str, Any] = {
        "file": lambda i: f"a{i}.png",
        "split": _split,
        "group": lambda i: f"p{i}",
    }
    given.update(columns)
    return [
        {name: value(i) if callable(value) else value for name, value in given.items()}
        for i in range(count)
    ]


def _split(index: int) -> str:
    return ("train", "val", "test")[index % 3]


def _json(
    folder: pathlib.Path, boxes: Mapping[str, Sequence[tuple[float, ...]]]
) -> None:
    images = [
        {"id": i, "file_name": name, "width": 32, "height": 20}
        for i, name in enumerate(boxes)
    ]
    annotations = [
        {"image_id": i, "category_id": 7, "bbox": list(box)}
        for i, found in enumerate(boxes.values())
        for box in found
    ]
    categories = [{"id": 7, "name": "crack"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))


def _masks(folder: pathlib.Path, masks: Mapping[str, np.ndarray]) -> None:
    (folder / "masks").mkdir()
    for name, mask in masks.items():
        cv2.imwrite(str(folder / "masks" / name), mask)


class Prepared:
    """A prepared folder, read back by TFDS without the builder."""

    def __init__(self, folder: pathlib.Path, **options: Any) -> None:
        config = xray_folder.Config(name="mine", folder=str(folder), **options)
        builder = xray_folder.Builder(data_dir=folder.parent / "data", config=config)
        builder.download_and_prepare()
        self.path = pathlib.Path(builder.data_dir)
        self.builder = tfds.builder_from_directory(str(self.path))
        self.report = json.loads((self.path / "preparation.json").read_text())
        self.index = self._read("index.csv")
        self.quarantine = {r["file"]: r["reason"] for r in self._read("quarantine.csv")}

    def _read(self, name: str) -> list[dict[str, str]]:
        with (self.path / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def split(self, name: str) -> Sequence[dict[str, Any]]:
        return self.builder.as_data_source(name)

    def by_id(self) -> dict[str, dict[str, Any]]:
        return {
            example["image_id"].decode(): example
            for split in self.builder.info.splits
            for example in self.split(split)
        }


def test_a_bare_folder_is_shared_out_with_a_warning(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    made = Prepared(folder)

    assert sum(made.report["splits"].values()) == 12
    assert set(made.by_id()) == {f"a{i}.png" for i in range(12)}
    assert "12 of 12 images have no patient or group" in caplog.text
    assert sorted(next(iter(made.by_id().values()))) == [
        "image",
        "image_id",
        "patient_id",
    ]


def test_index_gives_the_position_at_which_a_record_is_read_back(folder: pathlib.Path):
    _table(folder, _rows(12))

    made = Prepared(folder)

    assert made.report["splits"] == {"train": 4, "validation": 4, "test": 4}
    for row in made.index:
        example = made.split(row["split"])[int(row["record"])]
        assert example["image_id"].decode() == row["image_id"]
        assert example["patient_id"].decode() == row["group"]


def test_records_keep_their_places_over_many_shards_some_empty(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(xray_builder, "RECORDS_PER_SHARD", 3)
    _table(folder, _rows(split="train"))
    for index in (1, 2, 4, 5):
        (folder / "images" / f"a{index}.png").write_text("broken")

    made = Prepared(folder)

    found = [e["image_id"].decode() for e in made.split("train")]
    assert found == [row["image_id"] for row in made.index]
    assert [int(row["record"]) for row in made.index] == list(range(8))


def test_labels_are_one_hot_and_blank_is_unknown(folder: pathlib.Path):
    values = ["sick", "well", "", "not read"]
    _table(folder, _rows(label=lambda i: values[i % 4]))

    made = Prepared(folder, labels={"label": ["well", "sick"]}, unknown=["not read"])

    label = {name: list(e["labels"]["label"]) for name, e in made.by_id().items()}
    assert [label[f"a{i}.png"] for i in range(4)] == [
        [0, 1],
        [1, 0],
        [-1, -1],
        [-1, -1],
    ]
    shown = {row["image_id"]: row["label"] for row in made.index}
    assert [shown[f"a{i}.png"] for i in range(4)] == ["sick", "well", "", ""]
    assert made.report["label_counts"] == {"label": {"well": 1, "sick": 1}}


def test_one_cell_may_name_several_classes(folder: pathlib.Path):
    values = ["Mass|Fluid", "No Finding", "Pleural fluid", ""]
    _table(folder, _rows(findings=lambda i: values[i % 4]))

    made = Prepared(
        folder,
        labels={
            "findings": [("mass", ["Mass"]), ("fluid", ["Fluid", "Pleural fluid"])]
        },
        multi_label=["findings"],
        negative=["No Finding"],
    )

    found = {name: list(e["labels"]["findings"]) for name, e in made.by_id().items()}
    assert [found[f"a{i}.png"] for i in range(4)] == [[1, 1], [0, 0], [0, 1], [-1, -1]]
    shown = {row["image_id"]: row["findings"] for row in made.index}
    assert [shown[f"a{i}.png"] for i in range(4)] == [
        "mass|fluid",
        "(none)",
        "fluid",
        "",
    ]


def test_values_in_no_class_are_listed_in_one_error(folder: pathlib.Path):
    _table(folder, _rows(label=lambda i: ["sick", "well", "wel"][i % 3]))

    with pytest.raises(ValueError, match=r"in no class: 'wel' \(4 rows\)\. Classes"):
        Prepared(folder, labels={"label": ["well", "sick"]})


def test_a_missing_column_names_the_nearest(folder: pathlib.Path):
    _table(folder, _rows(label="well"))

    with pytest.raises(
        ValueError, match=r"no column 'lable'.*file, split, group, label"
    ):
        Prepared(folder, labels={"lable": ["well"]})
    with pytest.raises(ValueError, match="Did you mean 'group'"):
        Prepared(folder, group_column="groups")


def test_missing_files_and_folders_say_what_there_is(folder: pathlib.Path):
    with pytest.raises(FileNotFoundError, match=r"No folder '.*nowhere'"):
        Prepared(folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"No file 'labels.csv'.*images"):
        Prepared(folder, labels={"label": ["well"]})
    with pytest.raises(FileNotFoundError, match="No folder 'masks'"):
        Prepared(folder, masks="labels", mask_classes={"lung": [1]})
    with pytest.raises(FileNotFoundError, match=r"No file 'box.json'"):
        Prepared(folder, annotations="box.json", box_classes=["crack"])


def test_a_split_that_has_no_meaning_is_refused(folder: pathlib.Path):
    _table(folder, _rows(split=lambda i: "holdout" if i == 3 else "train"))

    with pytest.raises(ValueError, match=r"name no split: 'holdout' \(1 rows\)"):
        Prepared(folder)


def test_groups_that_cross_splits_are_named(folder: pathlib.Path):
    _table(folder, _rows(group=lambda i: f"p{i // 2}" if i < 2 else f"p{i}"))

    with pytest.raises(ValueError, match=r"1 groups cross splits.*: 'p0'\."):
        Prepared(folder)


def test_unreadable_files_are_set_aside_with_a_reason(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    images = folder / "images"
    rng = np.random.default_rng(0)
    cv2.imwrite(str(images / "cut.png"), rng.integers(0, 255, (64, 64), np.uint8))
    (images / "cut.png").write_bytes((images / "cut.png").read_bytes()[:900])
    (images / "empty.png").touch()
    (images / "notes.txt").write_text("not a picture")
    (images / "link.png").symlink_to("nowhere.png")
    (images / ".DS_Store").write_text("junk")

    made = Prepared(folder)

    assert set(made.quarantine) == {"cut.png", "empty.png", "notes.txt", "link.png"}
    assert made.quarantine["empty.png"] == "the file is empty"
    assert "damaged" in made.quarantine["cut.png"]
    assert "not a PNG" in made.quarantine["notes.txt"]
    assert made.report["quarantined"] == 4
    assert len(made.by_id()) == len(made.index) == 12
    assert "4 files were left out" in caplog.text


def test_a_split_with_no_readable_image_stops_the_preparation(folder: pathlib.Path):
    rows = _rows(split=lambda i: "test" if i == 5 else "train")
    _table(folder, rows)
    (folder / "images" / "a5.png").write_text("broken")

    with pytest.raises(ValueError, match=r"none of the 1 images of split 'test'"):
        Prepared(folder)


def test_table_and_folder_may_disagree_but_not_in_silence(folder: pathlib.Path):
    rows = [*_rows(11), {"file": "gone.png", "split": "train", "group": "x"}]
    _table(folder, rows)

    made = Prepared(folder)

    assert made.quarantine == {
        "gone.png": "in labels.csv, but no such image",
        "a11.png": "not in labels.csv",
    }


def test_names_without_suffix_or_with_the_folder_find_their_image(folder: pathlib.Path):
    _table(folder, _rows(file=lambda i: f"a{i}" if i % 2 else f"images/a{i}.png"))

    assert set(Prepared(folder).by_id()) == {f"a{i}.png" for i in range(12)}


def test_boxes_are_fractions_clipped_and_counted(folder: pathlib.Path):
    _table(folder, _rows())
    found = {
        "a0.png": [(8, 5, 16, 10), (24, 10, 100, 100), (3, 3, 0, 4)],
        "images/a1.png": [],
        "a3.png": [(40, 3, 5, 5)],
    }
    _json(folder, found)

    made = Prepared(folder, annotations="boxes.json", box_classes=["crack"])

    examples = made.by_id()
    objects = examples["a0.png"]["objects"]
    np.testing.assert_allclose(
        objects["bbox"], [[0.25, 0.25, 0.75, 0.75], [0.5, 0.75, 1, 1]]
    )
    assert [int(label) for label in objects["label"]] == [0, 0]
    known = {name for name, e in examples.items() if e["objects_known"]}
    assert known == {"a0.png", "a1.png", "a3.png"}
    counts = {row["image_id"]: row["n_boxes"] for row in made.index}
    assert (counts["a0.png"], counts["a1.png"], counts["a2.png"]) == ("2", "0", "")
    assert made.report["dropped_boxes"] == 2
    assert made.report["object_counts"] == {"crack": 2}


def test_label_masks_are_mapped_shrunk_and_absent_ones_unknown(folder: pathlib.Path):
    mask = np.zeros((20, 32), np.uint8)
    mask[:, 16:24], mask[:, 24:] = 5, 9
    _masks(folder, {"a0.png": mask})

    made = Prepared(
        folder,
        image_size=16,
        masks="labels",
        mask_classes={"tooth": [5], "filling": [7]},
        mask_unknown=[9],
    )

    examples = made.by_id()
    stored = examples["a0.png"]["mask"]
    assert stored.shape == examples["a0.png"]["image"].shape == (10, 16, 1)
    np.testing.assert_array_equal(stored[0, :, 0], [0] * 8 + [1] * 4 + [255] * 4)
    assert (examples["a1.png"]["mask"] == 255).all()
    assert sum(row["has_mask"] == "1" for row in made.index) == 1
    metadata = json.loads((made.path / "metadata.json").read_text())
    assert metadata["mask_names"] == ["background", "tooth", "filling"]


def test_a_mask_named_by_the_table_must_be_there(folder: pathlib.Path):
    _masks(folder, {"m.png": np.ones((20, 32), np.uint8)})
    names = {0: "m.png", 1: "lost.png"}
    _table(folder, _rows(mask=lambda i: names.get(i, "")))

    made = Prepared(
        folder, masks="labels", mask_classes={"lung": [1]}, mask_column="mask"
    )

    assert made.quarantine == {"a1.png": "its mask in labels.csv is not there"}
    assert (made.by_id()["a0.png"]["mask"] == 1).all()


def test_sixteen_bits_are_kept_when_asked_for(folder: pathlib.Path):
    deep = np.tile(np.arange(32, dtype=np.uint16) * 2000, (20, 1))
    cv2.imwrite(str(folder / "images" / "a0.png"), deep)

    made = Prepared(folder, bit_depth=16)

    image = made.by_id()["a0.png"]["image"]
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image[..., 0], deep)


def test_images_are_shrunk_by_the_mean_and_statistics_are_of_the_stored_train_split(
    folder: pathlib.Path,
):
    _table(folder, _rows(split=lambda i: "train" if i == 0 else "test"))

    made = Prepared(folder, image_size=4)

    image = made.split("train")[0]["image"][..., 0]
    assert image.shape == (2, 4)
    fraction = image / 255
    assert made.report["pixel_mean"] == pytest.approx(fraction.mean())
    assert made.report["pixel_std"] == pytest.approx(fraction.std())


def test_building_and_reading_need_no_tensorflow_jax_or_main_package(
    folder: pathlib.Path,
):
    program = (
        "import sys\n"
        "from tfds_builders import xray_folder\n"
        "config = xray_folder.Config(name='mine', folder=sys.argv[1])\n"
        "builder = xray_folder.Builder(data_dir=sys.argv[2], config=config)\n"
        "builder.download_and_prepare()\n"
        "assert builder.as_data_source('train')[0]['image'].shape == (20, 32, 1)\n"
        "others = {'tensorflow', 'jax', 'mtpret_jax', 'tfds_builders.mura'}\n"
        "found = others & set(sys.modules)\n"
        "assert not found, found\n"
    )
    command = [sys.executable, "-c", program, str(folder), str(folder.parent / "data")]

    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
