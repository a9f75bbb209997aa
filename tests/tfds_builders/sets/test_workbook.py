"""Tests of reading workbooks."""

from __future__ import annotations

import io
import zipfile

import pytest

from tfds_builders.rsna_bone_age import workbook

_SHEET = (
    '<?xml version="1.0" encoding="{}"?><worksheet><sheetData><row><c r="A1"><v>1</v>'
    '</c><c r="C1" t="{}"><v>0</v></c></row></sheetData></worksheet>'
)


def _workbook(encoding: str = "utf-8", kind: str = "n") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", _SHEET.format(encoding, kind))
    return file.getvalue()


def test_a_sheet_becomes_a_table():
    assert workbook.to_csv(_workbook(), "t.xlsx") == b"1,,0\n"


@pytest.mark.parametrize(
    "content",
    [_workbook("utf-9"), _workbook("utf-32"), _workbook(kind="s"), b"", b"PK\x05\x06"],
    ids=["unknown encoding", "wrong encoding", "no such string", "empty", "cut"],
)
def test_a_damaged_workbook_is_a_clear_error(content: bytes):
    with pytest.raises(ValueError, match=r"t\.xlsx can't be .* CSV beside it"):
        workbook.to_csv(content, "t.xlsx")
