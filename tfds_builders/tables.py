"""Tables as releases hold them: text in columns, read without guessing types."""

from __future__ import annotations

import collections
import csv
import io

Rows = list[dict[str, str]]


def parse(content: bytes, name: str) -> tuple[list[str], Rows]:
    """Reads a table separated by commas, semicolons or tabs.

    Args:
      content: The file, UTF-8 with or without a byte order mark.
      name: Of the file, for errors.

    Returns:
      Column names and rows; all cells without spaces around them.

    Raises:
      ValueError: If it is not UTF-8, has no rows, or a column name comes twice.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: {error}. Save it so.") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    header = lines.split("\n", maxsplit=1)[0]
    delimiter = max(",;\t", key=header.count)
    cells = [
        [cell.strip() for cell in row]
        for row in csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter)
    ]
    cells = [row for row in cells if any(row)]
    if len(cells) < 2:
        raise ValueError(f"{name} holds no rows below its header.")
    columns = [column for column in cells[0] if column]
    twice = [c for c, n in collections.Counter(columns).items() if n > 1]
    if twice:
        raise ValueError(f"{name} has columns with the same name: {twice}.")
    rows = []
    for row in cells[1:]:
        row = row + [""] * (len(cells[0]) - len(row))
        rows.append({c: v for c, v in zip(cells[0], row, strict=False) if c})
    return columns, rows
