"""Tables as releases hold them: text in columns, read without guessing types."""

from __future__ import annotations

import collections
import csv
import io
import math
from collections.abc import Collection, Sequence

from tfds_builders.sources import files

Rows = list[dict[str, str]]

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse(
    content: bytes, name: str, *, fallback: str = "", is_ragged: bool = False
) -> tuple[list[str], Rows]:
    """Reads a table separated by commas, semicolons or tabs.

    Lines may end in any way; blank ones, columns without a name and cells missing at
    the end of a row are accepted. The header is row 1 in errors; blank lines do not
    count.

    Args:
      content: The file, UTF-8 with or without a byte order mark.
      name: Name of the file, for errors.
      fallback: Encoding to take where it is not UTF-8, as "latin-1"; "" for none.
      is_ragged: Whether rows may have more cells than the header; these are dropped.

    Returns:
      Column names and rows; all cells without spaces around them.

    Raises:
      ValueError: If it is not text, has no rows, a quote is left open, a column name
        comes twice, or a row has more cells than the header.
    """
    header, *rows = _cells(content, name, fallback)
    columns = [column for column in header if column]
    twice = [c for c, n in collections.Counter(columns).items() if n > 1]
    if twice:
        raise ValueError(f"{name} has columns with the same name: {twice}.")
    result = []
    for number, row in enumerate(rows, start=2):
        if not is_ragged and any(row[len(header) :]):
            raise ValueError(
                f"{name}: row {number} has {len(row)} cells, the header "
                f"{len(header)}: {files.brief(map(repr, row))}. Put cells that hold "
                "the separator in quotes."
            )
        row = row + [""] * (len(header) - len(row))
        result.append({c: v for c, v in zip(header, row, strict=False) if c})
    return columns, result


def positional(
    content: bytes, name: str, columns: Sequence[str], *, fallback: str = ""
) -> Rows:
    """Reads a table whose header is wrong, by the position of its cells.

    Args:
      content: The file, as in `parse`.
      name: Name of the file, for errors.
      columns: Our names of the first cells of a row; those that follow are dropped.
      fallback: As in `parse`.

    Raises:
      ValueError: If it is not a table, or a row lacks one of the cells.
    """
    result = []
    for number, row in enumerate(_cells(content, name, fallback)[1:], start=2):
        if not all(row[: len(columns)]) or len(row) < len(columns):
            raise ValueError(
                f"{name}: row {number} must hold {', '.join(columns)}; it holds "
                f"{files.brief(map(repr, row))}."
            )
        result.append(dict(zip(columns, row, strict=False)))
    return result


def lines(content: bytes, name: str, *, fallback: str = "") -> list[str]:
    """The lines of a text that are not blank, without spaces around them.

    Raises:
      ValueError: If it is not text or has no such line.
    """
    text = (line.strip() for line in _text(content, name, fallback).split("\n"))
    found = [line for line in text if line]
    if not found:
        raise ValueError(f"{name} is empty.")
    return found


def require(columns: Collection[str], needed: Sequence[str], name: str) -> None:
    """Refuses a table that lacks columns, naming those it has.

    Raises:
      ValueError: If a needed column is not among `columns`.
    """
    lacking = [column for column in needed if column not in columns]
    if lacking:
        raise ValueError(
            f"{name} has no column {', '.join(map(repr, lacking))}. Its columns: "
            f"{files.brief(columns, 40)}.{files.nearest(lacking[0], columns)} Take the "
            "table as it was released."
        )


def number(cell: str, where: str) -> float:
    """The number in a cell.

    Args:
      cell: Text of a cell.
      where: File, row and column, for errors.

    Raises:
      ValueError: If it is not a finite number.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: expected a number, got {cell!r}.")
    return value


def flag(cell: str, where: str) -> bool | None:
    """The truth in a cell: true, yes or 1, in any case; None where it is empty.

    Args:
      cell: Text of a cell.
      where: File, row and column, for errors.

    Raises:
      ValueError: If it is neither true nor false.
    """
    if not cell:
        return None
    if cell.lower() not in _FLAGS:
        raise ValueError(f"{where}: expected one of {', '.join(_FLAGS)}, got {cell!r}.")
    return _FLAGS[cell.lower()]


def _text(content: bytes, name: str, fallback: str) -> str:
    """Decodes a file; its lines end in a line feed alone."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not fallback:
            raise ValueError(
                f"{name} is not UTF-8 text: {error}. Save it so."
            ) from error
        text = content.decode(fallback)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cells(content: bytes, name: str, fallback: str) -> list[list[str]]:
    """The header and at least one row, without blank rows and spaces around cells."""
    text = _text(content, name, fallback).lstrip("\n")
    header = text.split("\n", maxsplit=1)[0]
    delimiter = max(",;\t", key=header.count)
    # Strict: an open quote would swallow all rows behind it.
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=delimiter != "\t",
    )
    try:
        cells = [[cell.strip() for cell in row] for row in rows]
    except csv.Error as error:
        raise ValueError(
            f"{name} is damaged near line {rows.line_num}: {error}."
        ) from error
    cells = [row for row in cells if any(row)]
    if len(cells) < 2:
        raise ValueError(f"{name} holds no rows below its header.")
    return cells
