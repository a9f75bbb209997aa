"""What a table tells beside files: whose row is whose, and what is refused."""

from __future__ import annotations

import pathlib
import types
from typing import Any

import pytest

from mtpret_jax.inference import model as model_lib
from mtpret_jax.inference import second_input

FILES = ["/scans/a/1.png", "/scans/b/1.png", "/scans/b/2.png"]


class _Model:
    """What `second_input` asks of a model."""

    second = ("F", "M")
    task = "age"
    description = types.SimpleNamespace(
        tasks={"age": types.SimpleNamespace(second_input="sex")}
    )
    second_place = model_lib.Model.second_place


def _read(path: pathlib.Path, text: str) -> second_input.Told:
    path.write_text(text)
    model: Any = _Model()
    return second_input.of_table(model, FILES, path)


@pytest.fixture
def table(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "told.csv"


def test_a_row_names_as_much_of_a_path_as_tells_files_apart(table):
    told = _read(table, "file,sex\na/1.png,F\n/scans/b/1.png,M\n2.png,\nz.png,F\n")

    assert told.places == {FILES[0]: 0, FILES[1]: 1, FILES[2]: -1}


def test_a_row_that_fits_two_files_is_refused(table):
    with pytest.raises(ValueError, match=r"row 2: '1.png' fits 2 files.*Name the fold"):
        _read(table, "file,sex\n1.png,F\n")


def test_two_rows_that_differ_on_a_file_are_refused(table):
    with pytest.raises(ValueError, match=r"row 3: '/scans/b/2.png' has another 'sex'"):
        _read(table, "file,sex\n2.png,F\nb/2.png,M\n")

    assert _read(table, "file,sex\n2.png,F\nb/2.png,F\n").places == {FILES[2]: 0}


def test_a_cell_that_names_no_class_is_refused_with_its_row(table):
    with pytest.raises(ValueError, match=r"row 3: 'girl' is not one of \['F', 'M'\]"):
        _read(table, "file,sex\n2.png,F\na/1.png,girl\n")


def test_another_table_is_another_source(table):
    one = _read(table, "file,sex\n2.png,F\n")
    other = _read(table, "file,sex\n2.png,M\n")

    assert one.source != other.source
    assert second_input.of_all(_Model(), FILES, "") == second_input.NOTHING
