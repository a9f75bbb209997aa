"""The few pieces of HTML that every section of the page uses."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def text(value: object) -> str:
    """Any value as text in which nothing is taken for markup."""
    return html.escape(str(value))


def table(head: str, rows: Sequence[str]) -> str:
    """A table that scrolls by itself where the page is narrow; of ready cells."""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def cells(values: Iterable[object], tag: str) -> str:
    """A row's cells with plain text; `tag` is td or th."""
    return "".join(f"<{tag}>{text(value)}</{tag}>" for value in values)


def plain_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of plain values below their names."""
    return table(cells(names, "th"), [f"<tr>{cells(row, 'td')}</tr>" for row in rows])
