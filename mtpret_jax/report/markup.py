"""The few pieces of HTML that every section of the page uses."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from mtpret_jax.report import style


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


def figure(image: str, alt: str, caption: str = "") -> str:
    """An image, of its `data:` address, and the words below it."""
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{image}" alt="{text(alt)}">{below}</figure>'


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page: one file without scripts, fonts or pictures from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{style.CSS}</style></head>"
        f"<body>\n{''.join(parts)}\n</body></html>\n"
    )
