"""Counts what the packages come to: sizes, rooms, floors, circles, comments, borders.

Run:     python docs/counts.py

A room is a folder or a file directly below a package. Imports count wherever they
stand, in functions and under TYPE_CHECKING, too. Tests are not counted.
"""

from __future__ import annotations

import ast
import dataclasses
import io
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator

REPOSITORY = pathlib.Path(__file__).parent.parent
PACKAGES = ("mtpret_jax", "tfds_builders")
SUFFIXES = (".py", ".html", ".jinja", ".j2", ".css")

_UNTYPED = re.compile(r"\b(?:dict|Mapping)\[str, (?:Any|object)\]")
_SUPPRESSION = re.compile(r"#.*\b(?:noqa|type: ignore|pyright: ignore|pragma)\b")

Graph = dict[str, set[str]]


@dataclasses.dataclass(frozen=True)
class Module:
    """A Python file of a package.

    Attributes:
      name: As it is imported; that of a folder's `__init__` is the folder's.
      path: Of the file.
      text: What it holds.
      tree: The same, parsed.
    """

    name: str
    path: pathlib.Path
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """First part of the name below its package; "" of the package itself."""
        return self.name.partition(".")[2].partition(".")[0]


def read(root: pathlib.Path, package: str) -> list[Module]:
    """The modules of a package, tests left out, by path."""
    modules = []
    for path in _files(root / package):
        if path.suffix != ".py":
            continue
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        text = path.read_text(encoding="utf-8")
        modules.append(Module(name, path, text, ast.parse(text, str(path))))
    return modules


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES and "tests" not in path.relative_to(folder).parts
    ]


def _imported(module: Module, names: set[str]) -> Iterator[str]:
    """Modules among `names` that a module imports, itself left out."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in dotted:
            while name and name not in names:  # `a.b.Class` is imported from `a.b`.
                name = name.rpartition(".")[0]
            if name and name != module.name:
                yield name


def imports(modules: Iterable[Module]) -> tuple[Graph, Graph]:
    """Who imports whom: modules, and rooms other than their own."""
    modules = list(modules)
    room_of = {module.name: module.room for module in modules}
    files: Graph = {module.name: set() for module in modules}
    rooms: Graph = {room: set() for room in room_of.values() if room}
    for module in modules:
        for name in _imported(module, set(room_of)):
            files[module.name].add(name)
            if module.room and room_of[name] not in ("", module.room):
                rooms[module.room].add(room_of[name])
    return files, rooms


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes, each of which reaches all others of its group."""
    reached = {node: _reached(graph, node) for node in graph}
    groups = {
        frozenset(other for other in reached[node] if node in reached[other])
        for node in graph
        if node in reached[node]
    }
    return sorted(sorted(group) for group in groups)


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    left = list(graph[start])
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += graph[node]
    return found


def longest_chain(graph: Graph) -> list[str]:
    """The longest chain of rooms, each importing the next; [] if there is a circle."""
    if circles(graph):
        return []
    chains: dict[str, list[str]] = {}

    def chain(node: str) -> list[str]:
        if node not in chains:
            below = [chain(other) for other in sorted(graph[node])]
            chains[node] = [node, *max(below, key=len, default=[])]
        return chains[node]

    return max((chain(node) for node in sorted(graph)), key=len, default=[])


def functions(module: Module) -> Iterator[tuple[int, str]]:
    """Lines and place of each function, decorators not counted."""
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield lines, f"{module.name}.{node.name}"


def undocumented(module: Module) -> tuple[int, list[str]]:
    """How many public definitions there are, and the names of those that say nothing.

    The module, its classes and functions count. Methods do not: that of a protocol
    speaks for all that keep to it.
    """
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    public = [
        node
        for node in module.tree.body
        if isinstance(node, kinds) and not node.name.startswith("_")
    ]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    if not ast.get_docstring(module.tree):
        silent.insert(0, "")
    return 1 + len(public), [f"{module.name}.{name}".rstrip(".") for name in silent]


def comments(module: Module) -> list[str]:
    """The comments of a module, one for each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(module.text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def untyped(modules: Iterable[Module]) -> list[str]:
    """Lines with a dictionary of text to anything, or with a name that stands for one.

    Returns:
      `module:line` of each.
    """
    modules = list(modules)
    known: set[str] = set()  # As `module.Name`.
    found: dict[str, set[int]] = {}
    while True:
        found = {module.name: _untyped(module, known) for module in modules}
        names = {
            f"{module.name}.{name}"
            for module in modules
            for name, line in _aliases(module)
            if line in found[module.name]
        }
        if names <= known:
            break
        known |= names
    return [f"{name}:{line}" for name, lines in found.items() for line in sorted(lines)]


def _untyped(module: Module, known: set[str]) -> set[int]:
    """Numbers of the lines of a module; `known` are names of such types."""
    lines = module.text.splitlines()
    found = {number for number, line in enumerate(lines, 1) if _UNTYPED.search(line)}
    here = {"": f"{module.name}."}  # What stands before a name, and what it means.
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                here[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name):
            name = here.get(node.id, here[""] + node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{here.get(node.value.id, '')}.{node.attr}"
        else:
            continue
        if name in known:
            found.add(node.lineno)
    return found


def _aliases(module: Module) -> Iterator[tuple[str, int]]:
    """Names at the module's level that may stand for types, with their lines."""
    types = (ast.Subscript, ast.BinOp, ast.Name, ast.Attribute)
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, types):
            yield ast.unparse(node.targets[0]), node.lineno
        elif sys.version_info >= (3, 12) and isinstance(node, ast.TypeAlias):
            yield node.name.id, node.lineno


def report(root: pathlib.Path, packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """What is counted, by its name."""
    read_of = {package: read(root, package) for package in packages}
    modules = [module for found in read_of.values() for module in found]
    files = [path for package in read_of for path in _files(root / package)]
    lengths = {path: len(path.read_text().splitlines()) for path in files}
    total = sum(lengths.values())
    longest = max(lengths, key=lambda path: lengths[path])
    lines, function = max(found for module in modules for found in functions(module))
    documented = [undocumented(module) for module in modules]
    asked = sum(count for count, _ in documented)
    silent = [name for _, names in documented for name in names]
    said = [comment for module in modules for comment in comments(module)]
    python = sum(lengths[module.path] for module in modules)
    answer = {
        "files": f"{len(files):,}",
        "lines": f"{total:,}",
        "largest file": f"{lengths[longest]}: {longest.relative_to(root).as_posix()}",
        "largest function": f"{lines}: {function}",
        "comments": f"{100 * len(said) / python:.1f} for 100 lines of Python",
        "docstrings": f"{100 * (1 - len(silent) / asked):.1f} % of {asked:,} public",
        "suppressions": f"{sum(bool(_SUPPRESSION.search(each)) for each in said)}",
        "untyped lines": f"{len(untyped(modules))}",
    }
    for package, found in read_of.items():
        of_files, of_rooms = imports(found)
        chain = longest_chain(of_rooms)
        answer |= {
            f"{package}: lines": f"{sum(lengths[module.path] for module in found):,}",
            f"{package}: rooms": f"{len(of_rooms)}",
            f"{package}: arrows": f"{sum(map(len, of_rooms.values()))}",
            f"{package}: floors": f"{len(chain) or 'none: circle'}: "
            + " > ".join(chain),
            f"{package}: circles of rooms": _groups(circles(of_rooms)),
            f"{package}: circles of files": _groups(circles(of_files)),
        }
    return answer


def _groups(found: list[list[str]]) -> str:
    return "; ".join([str(len(found)), *(", ".join(group) for group in found)])


if __name__ == "__main__":
    for name, value in report(REPOSITORY).items():
        sys.stdout.write(f"{name:<33}{value}\n")
