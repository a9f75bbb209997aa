"""Numbers of a table, such as a bone age, from its cells to what is read back."""

from __future__ import annotations

import csv
import json
import pathlib
from typing import Any

import cv2
import numpy as np
import pytest

from mtpret_jax.data import sources
from tfds_builders import whole, xray_folder

AGES = ("30.5", "", "not read", "120")


def _prepare(
    tmp_path: pathlib.Path, cells: tuple[str, ...] = AGES, **options: Any
) -> pathlib.Path:
    """A set of four images, all for training, with a column of months."""
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "split", "group", "months"])
        for number, cell in enumerate(cells):
            pixels = np.arange(320, dtype=np.uint8).reshape(16, 20) // (1 + number)
            cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
            writer.writerow([f"{number}.png", "train", number, cell])
    config = xray_folder.Config(
        name="mine", folder=str(folder), unknown=["not read"], **options
    )
    builder = xray_folder.Builder(data_dir=tmp_path / "data", config=config)
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


def test_a_number_is_in_index_and_record_and_its_unit_in_the_metadata(tmp_path):
    source = sources.open_prepared(
        _prepare(tmp_path, values={"months": "months"}), "train"
    )

    assert source.metadata.values == {"months": "months"}
    assert [row["months"] for row in source.index] == ["30.5", "", "", "120.0"]
    found = [source[record]["values/months"] for record in range(4)]
    assert all(one.dtype == np.float32 for one in found)
    np.testing.assert_array_equal(found, [30.5, np.nan, np.nan, 120.0])


def test_a_set_without_values_says_nothing_of_them(tmp_path):
    """What a set of an earlier version holds: no option, no feature, no names."""
    folder = _prepare(tmp_path)
    metadata, told = (
        json.loads((folder / name).read_text())
        for name in ("metadata.json", "preparation.json")
    )
    assert told["options"].pop("values") is None  # as one that is not there
    del metadata["values"]
    whole.write_json(folder / "metadata.json", metadata)

    source = sources.open_prepared(folder, "train")

    assert source.metadata.values == {}
    assert "values/months" not in source[0]


@pytest.mark.parametrize("cell", ["three", "inf", "3 months", "1,5", "1_000", "1e300"])
def test_a_cell_that_is_no_number_is_named(tmp_path, cell):
    with pytest.raises(
        ValueError, match=r"labels.csv: '1.png', months: expected a num"
    ):
        _prepare(tmp_path, ("1", cell, "2", "3"), values=["months"])


def test_a_column_that_is_not_there_or_has_another_meaning_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no column 'month', which option `values`"):
        _prepare(tmp_path, values=["month"])
    with pytest.raises(ValueError, match=r"Value columns may not be called \['group'"):
        _prepare(tmp_path, values=["group"])
    with pytest.raises(ValueError, match=r"Value columns may not be called \['months"):
        _prepare(tmp_path, values=["months"], labels={"months": ["120"]})
    with pytest.raises(ValueError, match="option values: expected a list of columns"):
        _prepare(tmp_path, values="months")
