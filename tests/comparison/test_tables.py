"""Tables of features: what is read, matched and refused."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mtpret_jax.comparison import tables

FEATURE = np.arange(6, dtype=np.float32).reshape(3, 2)


def _table(file: pathlib.Path, **arrays) -> tables.Table:
    np.savez(file, **arrays)
    return tables.read("theirs", file)


def test_rows_are_found_by_image_id_with_or_without_the_set(tmp_path):
    names = np.array(["chest/b", "hand/a", "a"])

    table = _table(tmp_path / "a.npz", image_id=names, feature=FEATURE)

    assert table.rows("chest", ["a", "b"]).tolist() == [2, 0]
    assert table.feature.dtype == np.float32


def test_what_embed_writes_is_found_by_the_end_of_paths(tmp_path):
    path = np.array(["/x/one/a.png", "/x/two/a.png", "/x/b.tar.dcm"])
    model = np.array(json.dumps({"run": "r", "steps": 5}))

    table = _table(tmp_path / "a.npz", path=path, embedding=FEATURE, model=model)

    assert table.rows("chest", ["two/a", "one/a.png", "b.tar"]).tolist() == [1, 0, 2]
    assert table.about == {"run": "r", "steps": 5}


def test_parquet_holds_the_same(tmp_path):
    columns = pa.table({"image_id": ["a", "b", "c"], "feature": FEATURE.tolist()})
    about = {"about": json.dumps({"parameters": 7})}
    parquet.write_table(columns.replace_schema_metadata(about), tmp_path / "a.parquet")

    table = tables.read("theirs", tmp_path / "a.parquet")

    np.testing.assert_array_equal(table.feature, FEATURE)
    assert table.rows("chest", ["c", "a"]).tolist() == [2, 0]
    assert table.about == {"parameters": 7}


def test_missing_images_are_counted(tmp_path):
    table = _table(tmp_path / "a.npz", image_id=np.array(list("abc")), feature=FEATURE)

    with pytest.raises(ValueError, match=r"'theirs'.* 2 of the 3 images .*as 'x'"):
        table.rows("chest", ["a", "x", "y"])


def test_an_image_that_two_rows_are_of_is_refused(tmp_path):
    names = np.array(["chest/a", "a", "b"])
    table = _table(tmp_path / "a.npz", image_id=names, feature=FEATURE)

    with pytest.raises(ValueError, match=r"1 images of dataset 'chest' .*once.*'a'"):
        table.rows("chest", ["a", "b"])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"image_id": ["a", "a", "b"]}, "2 rows are called 'a'"),
        ({"feature": FEATURE * [1, np.nan]}, "3 of 3 rows hold NaN.* of 'a'"),
        ({"feature": FEATURE.astype(float) + 1e300}, "3 of 3 rows hold NaN or inf"),
        ({"feature": FEATURE[:2]}, r"\[3\] names of 2 rows"),
        ({"feature": FEATURE[0]}, r"must hold numbers \[N, D\]"),
        ({"feature": FEATURE.astype(str)}, r"must hold numbers \[N, D\]"),
        ({"about": "{"}, "'about' holds no JSON"),
        ({"about": "[]"}, "'about' must hold a table"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path, arrays, said):
    whole = {"image_id": list("abc"), "feature": FEATURE} | arrays
    whole = {name: np.asarray(value) for name, value in whole.items()}

    with pytest.raises(ValueError, match=said):
        _table(tmp_path / "a.npz", **whole)


def test_other_arrays_and_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected 'image_id' and 'feature'"):
        _table(tmp_path / "a.npz", names=np.array(["a"]))
    for form in tables.FORMS:
        (tmp_path / f"b{form}").write_bytes(b"no archive")
        with pytest.raises(ValueError, match="damaged"):
            tables.read("theirs", tmp_path / f"b{form}")
