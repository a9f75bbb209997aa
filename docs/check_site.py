"""Checks built pages: every link and anchor is there, and nothing comes from a network.

    python docs/check_site.py build/docs

Links to other sites are fine; what a page loads by itself (scripts, styles, pictures,
fonts) must lie in the folder. Ends with 1 and a line for each fault.
"""

from __future__ import annotations

import html.parser
import pathlib
import re
import sys
import urllib.parse

# What a browser fetches without being asked, by tag.
_LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
_IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s]+)""")


class Page(html.parser.HTMLParser):
    """What a page loads, links to, and can be linked to."""

    def __init__(self, text: str) -> None:
        """Reads the page."""
        super().__init__()
        self.loaded: list[str] = _IN_STYLES.findall(text)
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.loaded += [given[name] for name in _LOADED.get(tag, ()) if name in given]
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def faults(folder: pathlib.Path) -> list[str]:
    """A line for each fault of the pages and styles below `folder`."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.html"))
    }
    found = [] if pages else [f"{folder}: no page"]
    for path in sorted([*folder.rglob("*.css"), *folder.rglob("*.svg")]):
        urls = _IN_STYLES.findall(path.read_text(encoding="utf-8"))
        found += [f"{path}: loads {url}" for url in urls]
    for path, page in pages.items():
        found += [
            f"{path}: loads {url}"
            for url in page.loaded
            if re.match(r"(?:https?:)?//", url)
        ]
        local = [url for url in page.loaded if not re.match(r"\w+:|//", url)]
        for url in dict.fromkeys([*page.links, *local]):
            fault = _fault_of_link(path, url, pages)
            found += [f"{path}: {fault}"] if fault else []
    return found


def _fault_of_link(
    path: pathlib.Path, url: str, pages: dict[pathlib.Path, Page]
) -> str:
    """What is wrong with a link of the page at `path`; "" if nothing is."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme or parts.netloc:
        return ""
    target = path
    if parts.path:
        target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
    if not target.exists():
        return f"links to {url}, which is not there"
    anchor = urllib.parse.unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return f"links to {url}, where there is no such anchor"
    return ""


if __name__ == "__main__":
    lines = faults(pathlib.Path(sys.argv[1]))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.exit(1 if lines else 0)
