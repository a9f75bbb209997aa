"""Names in tables: never a formula, and read back as they were."""

import csv
import io
import types

import numpy as np
import pytest
from etils import epath

from mtpret_jax.audit import exclusions
from mtpret_jax.experiment import prediction_files
from mtpret_jax.inference import results
from mtpret_jax.report import measured
from tfds_builders import prepared
from tfds_builders.sources import cells

# What makes a spreadsheet compute, and what merely looks like our own mark.
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1")
NAMES = (*FORMULAS, "'=1", "''", "'a", "a=1", "", "a\r\nb", 'q"; ,', "é$\\frac{$")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_formula_and_comes_back(name):
    cell = cells.guard(name)

    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cells.read(cell) == name


def test_numbers_stay_numbers():
    assert [cells.guard(value) for value in (-1.5, 0, None)] == [-1.5, 0, None]


def test_groups_of_predictions_come_back_from_a_table_without_formulas(tmp_path):
    index = [{"image_id": f"i{name}", "group": name} for name in NAMES]
    source = types.SimpleNamespace(index=index, split="test")
    records = {"record": np.arange(len(NAMES), dtype=np.int32)}

    prediction_files.write_predictions(epath.Path(tmp_path), source, records)

    _, groups = measured.read_predictions(epath.Path(tmp_path) / "test.npz")
    assert groups.tolist() == list(NAMES)
    _check_no_formula(tmp_path / "test.csv")


def test_a_table_of_predicted_files_has_no_formulas(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    written = results.Results(folder, {"model": "m"})
    for name in FORMULAS:
        written.add({"file": name, "status": "done", "probability": {name: -0.5}})

    written.write_table(["file", "status", *(f"probability:{n}" for n in FORMULAS)])

    _check_no_formula(folder / results.TABLE)
    assert [row["file"] for row in written.rows()] == list(FORMULAS)


def _check_no_formula(path):
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert len(rows) > len(FORMULAS)
    for cell in (cell for row in rows for cell in row):
        begins = cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert not begins or cell == "-0.5", cell


def test_tables_of_the_audit_and_of_splits_have_no_formulas_and_come_back():
    rows = [
        exclusions.Exclusion(name, name, "near copy", "b", name, "test", "3")
        for name in NAMES
    ]
    text = exclusions.text(rows)
    split = prepared.Manifest("official", 1, dict.fromkeys(NAMES, "train"))

    assert sorted(exclusions.parse(text)) == sorted(rows)
    assert {
        r["image_id"]: r["split"] for r in cells.rows(split.text())
    } == split.split_of
    for table in (text, split.text()):
        for row in csv.reader(io.StringIO(table, newline="")):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in row)
