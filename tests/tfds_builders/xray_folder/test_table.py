"""What a table tells: whose ids its patients have; age, sex and view."""

import math
from typing import Any

import pytest

from tfds_builders import xray_folder
from tfds_builders.xray_folder import table


def _config(**options: Any) -> xray_folder.Config:
    return xray_folder.Config(name="mine", folder="x", **options)


def test_patients_get_the_name_of_who_numbered_them():
    groups = ["7", "image:a.png"]

    assert table.named(_config(), groups) == groups
    assert table.named(_config(patients="nih"), groups) == ["nih:7", "image:a.png"]


def test_many_numbers_look_like_regression(caplog):
    months = [str(month) for month in range(40)]

    with pytest.raises(ValueError, match=r"Name the column in `values`"):
        table.labels(_config(labels={"age": ["infant"]}), "age", months)
    with pytest.raises(ValueError, match="in no class") as grades:
        table.labels(_config(labels={"age": ["infant"]}), "age", months[:5])
    assert "regression" not in str(grades.value)
    table.labels(_config(labels={"age": months[:5]}), "age", months[:5])
    assert not caplog.text
    table.labels(_config(labels={"age": months}), "age", months)
    assert "its 40 classes look like numbers" in caplog.text
    assert "a task of kind 'regression'" in caplog.text


def test_an_image_without_a_group_is_its_own():
    found = table.groups(
        _config(), ["group"], [{"group": "7"}, {"group": ""}], ["a", "b"]
    )

    assert found == ["7", "image:b"]


def test_what_else_is_told_is_read():
    config = _config(about={"age": "years", "sex": "gender", "view": "view"})
    columns = ["file", "years", "gender", "view"]
    rows = [
        dict(zip(columns, cells, strict=True))
        for cells in (("a.png", "058Y", "female", "PA"), ("b.png", "", "", ""))
    ]

    first, second = table.about(config, columns, rows)

    assert (first.age, first.sex, first.view) == (58.0, "F", "PA")
    assert (second.sex, second.view) == ("", "")
    assert math.isnan(second.age)


@pytest.mark.parametrize(("column", "cell"), [("age", "old"), ("sex", "7")])
def test_a_cell_that_tells_no_age_or_sex_is_named(column: str, cell: str):
    config = _config(about={column: column})

    with pytest.raises(
        ValueError, match=rf"'a.png', {column}: no {column} in '{cell}'"
    ):
        table.about(config, ["file", column], [{"file": "a.png", column: cell}])


def test_a_missing_column_and_an_unknown_name_are_refused():
    with pytest.raises(ValueError, match=r"no column 'alter'.*`about`"):
        table.about(_config(about={"age": "alter"}), ["file", "age"], [])
    with pytest.raises(ValueError, match="about must be columns of some of"):
        _config(about={"weight": "kg"})


_WAYS = ("7", "7.0", "007", "P1", "p1", "P01")


def test_an_id_that_is_written_in_several_ways_is_one_group(
    caplog: pytest.LogCaptureFixture,
):
    found = table.unified(_config(), [*_WAYS, "8", "image:7"])

    assert found == ["007"] * 3 + ["P01"] * 3 + ["8", "image:7"]
    assert "2 groups are written in more than one way, for example" in caplog.text
    assert "'007' = '7' = '7.0', 'P01' = 'P1' = 'p1'" in caplog.text


def test_the_option_says_that_ids_differ():
    assert table.unified(_config(exact_groups=True), _WAYS) == list(_WAYS)


def test_a_split_that_parts_the_ways_to_write_an_id_is_refused():
    rows = [
        {"split": split} for split in ("train", "test", "train", "val", "val", "val")
    ]
    config = _config()
    group_of = table.unified(config, _WAYS)

    with pytest.raises(ValueError, match=r"1 groups cross.*'007' = '7'.*exact_groups"):
        table.assign_splits(config, ["split"], rows, _WAYS, group_of, _WAYS)


def test_images_of_one_patient_are_shared_out_together():
    config, ids = _config(), [f"{i}.png" for i in range(60)]
    written = [f"{i // 2}{'.0' * (i % 2)}" for i in range(60)]
    group_of = table.unified(config, written)

    split_of = table.assign_splits(config, [], [{}] * 60, ids, group_of, written)

    assert split_of[::2] == split_of[1::2]
    assert set(split_of) == {"train", "validation", "test"}
