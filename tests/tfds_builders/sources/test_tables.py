"""Tests of tables as releases hold them."""

from __future__ import annotations

import math

import pytest

from tfds_builders.sources import tables


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_end_of_line_separator_and_order_mark(end: str, separator: str):
    table = [["id", "age"], ["a", "5"], ["", ""], [" b ", "6"]]
    text = "\ufeff" + end.join(separator.join(row) for row in table)

    columns, rows = tables.parse(text.encode(), "t.csv")

    assert columns == ["id", "age"]
    assert rows == [{"id": "a", "age": "5"}, {"id": "b", "age": "6"}]


def test_trailing_commas_and_short_rows_are_no_error():
    columns, rows = tables.parse(b" id ,age,\na,5,\nb\n", "t.csv")

    assert columns == ["id", "age"]
    assert rows == [{"id": "a", "age": "5"}, {"id": "b", "age": ""}]


def test_header_cells_that_hold_commas_become_two_columns():
    text = b"Image Index,OriginalImage[Width,Height]\n1.png,20,30\n"

    columns, rows = tables.parse(text, "t.csv")

    assert columns == ["Image Index", "OriginalImage[Width", "Height]"]
    assert rows[0]["Height]"] == "30"


def test_quotes_hold_separators_and_line_ends():
    _, rows = tables.parse(b'id, note\na, "x, y\nz"\nb,5" x 3"\n', "t.csv")

    assert [row["note"] for row in rows] == ["x, y\nz", '5" x 3"']


def test_longer_rows_are_refused_unless_ragged():
    text = b"id,note\na,b\na,b,c\n"

    with pytest.raises(ValueError, match=r"t.csv: row 3 has 3 cells, the header 2"):
        tables.parse(text, "t.csv")
    _, rows = tables.parse(text, "t.csv", is_ragged=True)

    assert rows[1] == {"id": "a", "note": "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (b"id,age\n", "no rows"),
        (b"\xff\xfei\x00d\x00", "not UTF-8"),
        (b"id,id\n1,2\n", "same name"),
        (b'id,note\na,"open\nb,c\n', "damaged near line 3"),
        (b"id,note\na," + b"x" * 200_000 + b"\n", "damaged near line 2"),
    ],
)
def test_what_is_no_table_is_refused(content: bytes, message: str):
    with pytest.raises(ValueError, match=rf"t\.csv.*{message}"):
        tables.parse(content, "t.csv")


def test_another_encoding_is_taken_only_where_it_is_named():
    text = "id,name\n1,Müller\n".encode("latin-1")

    _, rows = tables.parse(text, "t.csv", fallback="latin-1")

    assert rows[0]["name"] == "Müller"


def test_rows_are_read_by_position_below_a_wrong_header():
    text = b"Image Index,Finding Label,Bbox [x,y,w,h],,,\n1.png,Mass,1,2,3.5,4\n"

    rows = tables.positional(text, "b.csv", ["image", "label", "x", "y", "w", "h"])

    assert rows == [
        {"image": "1.png", "label": "Mass", "x": "1", "y": "2", "w": "3.5", "h": "4"}
    ]
    with pytest.raises(ValueError, match=r"b\.csv: row 2 must hold a, b"):
        tables.positional(b"a\n1\n", "b.csv", ["a", "b"])


def test_the_last_line_needs_no_end():
    assert tables.lines(b"a.png\r\n\r\n b.png", "list.txt") == ["a.png", "b.png"]
    with pytest.raises(ValueError, match=r"list\.txt is empty"):
        tables.lines(b"\n", "list.txt")


def test_missing_columns_are_named_with_the_nearest():
    tables.require(["id", "age"], ["age"], "t.csv")
    with pytest.raises(ValueError, match=r"t\.csv has no column 'Age'.*mean 'age'"):
        tables.require(["id", "age"], ["Age"], "t.csv")


def test_numbers_and_flags():
    assert tables.number(" 5.5", "t") == 5.5
    assert [tables.flag(c, "t") for c in ("TRUE", "0", "")] == [True, False, None]
    for cell in ("", "x", "inf", str(math.nan)):
        with pytest.raises(ValueError, match=r"t\.csv, row 2, column x: expected"):
            tables.number(cell, "t.csv, row 2, column x")
    with pytest.raises(ValueError, match=r"t: expected one of .* got 'maybe'"):
        tables.flag("maybe", "t")
