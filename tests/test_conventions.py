"""Conventions of the code that no formatter sees."""

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent
Function = ast.FunctionDef | ast.AsyncFunctionDef
CLIPPED = re.compile(r"^ +\**\w+: (?:Of|Likewise)\b.*", re.M)


def _sources(*folders: str) -> list[pathlib.Path]:
    return sorted(
        path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")
    )


def _definitions(path: pathlib.Path) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Functions and classes at module level and methods, each with its place."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    name = path.relative_to(REPOSITORY).as_posix()
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef):
            continue
        yield f"{name}:{node.lineno} {node.name}", node
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, Function):
                    yield f"{name}:{child.lineno} {node.name}.{child.name}", child


def _is_public(place: str) -> bool:
    return not any(part.startswith("_") for part in place.split()[1].split("."))


def _annotation(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation else ""


def test_modules_and_public_definitions_have_docstrings():
    bare = []
    for path in _sources("mtpret_jax", "tfds_builders", "configs"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and not ast.get_docstring(tree):
            bare.append(path.relative_to(REPOSITORY).as_posix())
    for path in _sources("mtpret_jax", "tfds_builders"):
        for place, node in _definitions(path):
            is_method = "." in place.split()[1]
            if _is_public(place) and not is_method and not ast.get_docstring(node):
                bare.append(place)

    assert not bare, "\n".join(bare)


def test_entries_of_docstrings_are_complete_phrases():
    clipped = [
        f"{path.relative_to(REPOSITORY)}: {entry}"
        for path in _sources("mtpret_jax", "tfds_builders")
        for entry in CLIPPED.findall(path.read_text())
    ]

    assert not clipped, "\n".join(clipped)


def test_docstrings_of_array_functions_give_shapes():
    silent = []
    for path in _sources("mtpret_jax/ops"):
        for place, node in _definitions(path):
            if not isinstance(node, Function) or not _is_public(place):
                continue
            takes_arrays = any("Array" in _annotation(a) for a in node.args.args)
            if takes_arrays and "[" not in (ast.get_docstring(node) or ""):
                silent.append(place)

    assert not silent, "\n".join(silent)


def test_public_functions_are_fully_annotated():
    loose = []
    for path in _sources("mtpret_jax", "tfds_builders"):
        for place, node in _definitions(path):
            if not isinstance(node, Function) or not _is_public(place):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [a for a in arguments if a.arg not in ("self", "cls")]
            if node.returns is None or any(a.annotation is None for a in named):
                loose.append(place)

    assert not loose, "\n".join(loose)


def test_a_random_key_is_called_key_and_comes_first():
    wrong = []
    for path in _sources("mtpret_jax"):
        for place, node in _definitions(path):
            if not isinstance(node, Function) or not _is_public(place):
                continue
            arguments = [a for a in node.args.args if a.arg not in ("self", "cls")]
            others = arguments[1:] + node.args.kwonlyargs
            if any(a.arg == "key" and "Array" in _annotation(a) for a in others):
                wrong.append(place)
            if any(a.arg in ("rng_key", "prng", "prng_key") for a in arguments):
                wrong.append(place)

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("room", ["ops", "models"])
def test_arguments_with_defaults_are_keyword_only(room: str):
    wrong = [
        place
        for path in _sources(f"mtpret_jax/{room}")
        for place, node in _definitions(path)
        if isinstance(node, Function) and node.args.defaults
    ]

    assert not wrong, "\n".join(wrong)


def test_modules_are_imported_not_names():
    wrong = []
    for path in _sources("mtpret_jax", "configs"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typing_only = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for child in ast.walk(node)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or id(node) in typing_only:
                continue
            module = node.module or ""
            if module.split(".")[0] != "mtpret_jax" or path.stem == "__init__":
                continue  # A folder's door hands on names.
            folder = REPOSITORY.joinpath(*module.split("."))
            for alias in node.names:
                target = folder / alias.name
                if not (target.is_dir() or target.with_suffix(".py").is_file()):
                    wrong.append(
                        f"{path.relative_to(REPOSITORY)}: {module}.{alias.name}"
                    )

    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_to_do_in_comments():
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    suffixes = {".py", ".md", ".toml", ".ipynb"}
    folders = ("mtpret_jax", "tfds_builders", "configs", "tests", "colab")
    files = [path for folder in folders for path in (REPOSITORY / folder).rglob("*")]
    files += REPOSITORY.glob("*")

    left = [
        path.relative_to(REPOSITORY).as_posix()
        for path in files
        if path.suffix in suffixes and path.is_file()
        if any(word in path.read_text(encoding="utf-8") for word in words)
    ]

    assert not left
