"""Reads the longest sheet of an Excel workbook (.xlsx) as a table of text.

Enough for a plain table of numbers and words; formulas give their stored result.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
import zlib
from xml.etree import ElementTree

_MOST = 1 << 25  # bytes of one part; a table of some hundred rows has far less
_WIDEST = 256  # columns
_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
_STRINGS = "xl/sharedStrings.xml"
_CELL = re.compile(r"([A-Z]{1,3})\d+")


def to_csv(content: bytes, name: str) -> bytes:
    """The sheet with most rows as comma-separated UTF-8.

    Args:
      content: The file.
      name: Name of the file, for errors.

    Raises:
      ValueError: If it is not a workbook, or a damaged one.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {info.filename: info for info in archive.infolist()}
            sheets = [parts[name] for name in sorted(parts) if _SHEET.fullmatch(name)]
            if not sheets:
                raise ValueError("it holds no sheet")
            strings = []
            if _STRINGS in parts:
                shared = _part(archive, parts[_STRINGS])
                strings = [_text(entry) for entry in shared if _tag(entry) == "si"]
            found = [_rows(_part(archive, sheet)) for sheet in sheets]
        rows = [_cells(row, strings) for row in max(found, key=len)]
    except (
        zipfile.BadZipFile,
        zlib.error,
        ElementTree.ParseError,
        EOFError,
        LookupError,  # an unknown encoding, or a string that is not there
        NotImplementedError,
        RuntimeError,  # an archive with a password
        ValueError,
    ) as error:
        raise ValueError(
            f"{name} can't be read as an Excel workbook: {error}. Save its table as "
            "CSV beside it."
        ) from error
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _part(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> ElementTree.Element:
    with archive.open(info) as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise ValueError(f"{info.filename} is larger than {_MOST} bytes")
    if b"<!DOCTYPE" in content:
        raise ValueError(f"{info.filename} declares entities")
    return ElementTree.fromstring(content)


def _rows(sheet: ElementTree.Element) -> list[ElementTree.Element]:
    return [row for row in sheet.iter() if _tag(row) == "row"]


def _cells(row: ElementTree.Element, strings: list[str]) -> list[str]:
    """Text of each cell; cells that are not stored are empty."""
    cells: list[str] = []
    for cell in row:
        if _tag(cell) != "c":
            continue
        place = _CELL.fullmatch(cell.get("r", ""))
        if place:
            index = _index(place[1])
            if index >= _WIDEST:
                raise ValueError(f"it has a cell {place[0]}")
            cells += [""] * (index - len(cells))
        kind = cell.get("t", "n")
        value = next((child for child in cell if _tag(child) in ("v", "is")), None)
        text = "" if value is None else _text(value)
        if kind == "s" and text:
            text = strings[int(text)]
        elif kind == "b":
            text = "TRUE" if text == "1" else "FALSE"
        cells.append(text)
    return cells


def _index(letters: str) -> int:
    """Number of a column from 0: A is 0, AA is 26."""
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def _text(element: ElementTree.Element) -> str:
    """Text of an element and of its runs, but not of phonetic hints."""
    if _tag(element) in ("rPh", "phoneticPr"):
        return ""
    return (element.text or "") + "".join(map(_text, element))


def _tag(element: ElementTree.Element) -> str:
    """Name without its name space."""
    return element.tag.rsplit("}", maxsplit=1)[-1]
