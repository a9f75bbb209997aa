"""The example of a folder is read as it says, with its two mistakes left out."""

from __future__ import annotations

import csv
import json
import pathlib
from typing import Any

import pytest

from tfds_builders import xray_folder
from tfds_builders.xray_folder import example


def test_the_example_is_read_with_all_that_a_folder_can_have(tmp_path):
    folder, data = tmp_path / "mine", tmp_path / "data"
    example.main([str(folder), "--images", "12", "--size", "48"])
    config = xray_folder.Config(
        name="mine",
        folder=str(folder),
        labels={"finding": ["normal", "opacity"]},
        masks="labels",
        mask_classes={"lung": [1]},
        annotations="boxes.json",
        box_classes=["opacity"],
    )
    builder = xray_folder.Builder(data_dir=data, config=config)

    builder.download_and_prepare()

    sources: Any = builder.as_data_source()
    examples = [row for source in sources.values() for row in source]
    assert len(examples) == 12
    assert {0, 1} == {int(row["labels"]["finding"].argmax()) for row in examples}
    for row in examples:
        ill = row["labels"]["finding"].argmax() == 1
        assert bool(ill) == (len(row["objects"]["label"]) > 0)
        assert 0.06 < row["mask"].mean() < 0.5  # lungs: 1, the rest 0
    made = pathlib.Path(builder.data_dir)
    with (made / "quarantine.csv").open(newline="") as file:
        left_out = {row["file"] for row in csv.DictReader(file)}
    assert {name.rpartition("/")[2] for name in left_out} == {
        "cut_short.png",
        "missing.png",
    }
    assert json.loads((made / "preparation.json").read_text())["quarantined"] == 2


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="not empty"):
        example.write(tmp_path, images=2)
