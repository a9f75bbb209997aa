"""The map of files in docs/architecture.md, made from the files' own first lines.

Run:     python docs/architecture.py
"""

import ast
import pathlib
import re
from collections.abc import Iterator

REPOSITORY = pathlib.Path(__file__).parent.parent
PAGE = REPOSITORY / "docs" / "architecture.md"
FOLDERS = ("mtpret_jax", "tfds_builders", "configs", "benchmarks", "docs")
_FENCE = re.compile(r"(?<=^```text\n).*?(?=^```$)", re.M | re.S)


def first_line(path: pathlib.Path) -> str:
    """The first line of a module's docstring; of a folder, that of its `__init__`."""
    if path.is_dir():
        path = path / "__init__.py"
    said = ast.get_docstring(ast.parse(path.read_text())) if path.is_file() else ""
    return (said or "").partition("\n")[0]


def lines(folder: pathlib.Path, depth: int = 0) -> Iterator[str]:
    """A line for the folder and for each of its modules, below it."""
    yield _line(f"{folder.name}/", depth, first_line(folder))
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        if path.is_dir() and any(path.rglob("*.py")):
            yield from lines(path, depth + 1)
        elif path.suffix == ".py" and path.name != "__init__.py":
            yield _line(path.name, depth + 1, first_line(path))


def _line(name: str, depth: int, said: str) -> str:
    start = f"{'  ' * depth}{name}"
    return f"{start:<34}{said}".rstrip()


def page() -> str:
    """The page, with its map as the files are now."""
    found = "".join(
        f"{line}\n" for name in FOLDERS for line in lines(REPOSITORY / name)
    )
    return _FENCE.sub(lambda _: found, PAGE.read_text(), count=1)


if __name__ == "__main__":
    PAGE.write_text(page())
