"""Who may import whom, as a table; the map of files; names and lengths of files."""

import ast
import importlib.util
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import tfds_builders

REPOSITORY = pathlib.Path(__file__).parent.parent
PACKAGE = REPOSITORY / "mtpret_jax"
BUILDERS = REPOSITORY / "tfds_builders"
LONGEST_FILE = 350  # lines
LONGEST_TEST = 400
LONGEST_FUNCTION = 60

# Rooms of the package and the rooms each may import; itself is always allowed.
WINGS = {"types", "config", "ops", "data", "models", "metrics", "tasks", "stages"}
ROOMS: dict[str, set[str]] = {
    "types": set(),
    "config": set(),
    "ops": set(),
    "ahead": set(),
    "weights": {"config", "models", "ops", "tfds_builders"},  # how heads are built
    "data": {"types", "config", "tfds_builders"},
    "models": {"types", "config", "ops"},
    "metrics": {"types", "ops"},
    "tasks": {"models", "metrics", "ops", "types", "config"},
    "objectives": {"models", "ops", "types", "config"},
    "stages": {"models", "objectives", "ops", "types", "config"},
    "training": {"types", "config", "tfds_builders"},  # whose files are whole
    "audit": {"types", "config", "data", "tfds_builders"},  # whose ids are one
    "study": {"config", "audit"},
    "report": {"types", "config", "metrics", "audit", "study", "tfds_builders"},
    "inference": WINGS - {"stages"} | {"training", "weights", "tfds_builders"},
    "dicom_objects": {"inference", "tfds_builders"},
    "exports": WINGS - {"stages"}
    | {"training", "weights", "tfds_builders"}
    | {"inference", "audit"},
    "comparison": {"types", "config", "data", "metrics", "ops", "training", "inference"}
    | {"exports", "report", "tfds_builders"},  # lists of training images; the page
    "experiment": WINGS
    | {"training", "weights", "audit", "report", "study"}
    | {"inference", "ahead", "tfds_builders"},
    "api": {"config", "study", "report", "training"}
    | {"experiment", "exports", "comparison"},
    "cli": {"config", "data", "models", "metrics", "training", "weights"}
    | {"audit", "study", "ahead"}
    | {"inference", "dicom_objects", "experiment", "comparison", "tfds_builders"}
    | {"api"},
    "main": {"cli"},
}
# The same within tfds_builders; a released set is one of `sets`, a file a room.
WRITTEN = {"xray_features", "storage", "prepared", "prepared_types"}
BUILDERS_ROOMS: dict[str, set[str]] = {
    "whole": set(),
    "xray_features": set(),
    "prepared_types": set(),
    "images": {"whole"},
    "sources": {"whole", "xray_features"},
    "storage": {"whole", "images"},
    "prepared": WRITTEN - {"prepared"} | {"whole", "images", "sources"},
    "prepare": WRITTEN | {"images", "sources"},
    "releases": WRITTEN | {"images", "sources", "prepare"},
    "sets": {"xray_features", "images", "sources", "prepare", "releases"},
    "phantom_xray": {"xray_features", "prepare"},
    "xray_folder": {"xray_features", "images", "sources", "prepare", "phantom_xray"},
    "fetch": {"whole", "sources"},
    "dummy": {"releases"},
    "doctor": {"releases", "sources"},
}

# Libraries that a room must not import, in any file and at any depth.
ACCELERATOR = {"jax", "jaxlib", "flax", "optax", "orbax"}
DISK = {"pathlib", "os", "io", "shutil", "tempfile", "etils", "orbax"}
READERS = {"grain", "tensorflow_datasets", "cv2", "PIL", "pydicom"}
CLOCK = {"time", "datetime"}
DOOR = {"absl", "ml_collections", "argparse"}
FORBIDDEN: dict[str, set[str]] = {
    "types": DISK | READERS | DOOR,
    "config": ACCELERATOR | DISK | READERS,
    "ops": DISK | READERS | CLOCK | DOOR | {"flax"},
    "data": ACCELERATOR | {"ml_collections"},
    "models": DISK | READERS | CLOCK | DOOR,
    "metrics": {"flax", "orbax"} | READERS | CLOCK | DOOR,
    "tasks": DISK | READERS | CLOCK | DOOR,
    "objectives": DISK | READERS | CLOCK | DOOR,
    "stages": DISK | READERS | CLOCK | DOOR,
    "training": READERS | {"ml_collections"},
    "weights": ACCELERATOR | READERS | CLOCK | DOOR | {"pickle"},
    "audit": ACCELERATOR | {"grain"},
    "report": {"flax", "orbax", "optax", "grain", "ml_collections"},
    "study": ACCELERATOR | DISK | READERS | {"ml_collections"},
    "inference": READERS - {"cv2"} | CLOCK | DOOR,
    "dicom_objects": ACCELERATOR | READERS - {"cv2", "pydicom"} | CLOCK | DOOR,
    "exports": READERS | CLOCK | DOOR,
    "comparison": READERS | CLOCK | DOOR,
    "api": READERS | CLOCK | {"absl", "argparse"},
    "experiment": READERS - {"tensorflow_datasets"} | {"ml_collections"},
    "ahead": READERS | CLOCK | DOOR,
    "cli": READERS | {"orbax", "optax", "flax"},
    "main": ACCELERATOR | READERS,
}
NOWHERE = {"tensorflow", "torch", "torchvision", "clu", "keras"}

BUILDERS_MAY = {
    "array_record",  # TFDS's own writer compresses pixels, which readers pay for
    "tfds_builders",
    "tensorflow_datasets",
    "numpy",
    "cv2",
    "PIL",
    "etils",
    "filelock",
    "tqdm",
    "absl",
}
BUILDERS_MAY_INSIDE_FUNCTIONS = {
    "pydicom",
    "gdcm",
    "openjpeg",
    "openpyxl",
    "apache_beam",
}


def _python_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.rglob("*.py"))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what is imported: `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _parse(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _name(path: pathlib.Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _room(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _room_imported(name: str) -> str | None:
    """The room, or `tfds_builders`, that a dotted name leads to; None if not ours."""
    parts = name.split(".")
    if parts[0] == "tfds_builders":
        return "tfds_builders"
    if parts[0] != "mtpret_jax" or len(parts) == 1:
        return None
    return parts[1]


def test_imports_keep_to_the_table():
    wrong = []
    for path in _python_files(PACKAGE):
        room = _room(path)
        if room == "__init__":
            continue
        allowed = ROOMS.get(room, set()) | {room}
        for name in _imports(_parse(path)):
            target = _room_imported(name)
            if target is not None and target not in allowed:
                wrong.append(f"{_name(path)} imports {name}")

    assert not wrong, "\n".join(wrong)


def _builders_room(name: str) -> str:
    """The room of a dotted name or a path below tfds_builders; "" for the package."""
    first = name.split(".")[0]
    if first in BUILDERS_ROOMS or first == "__init__":
        return first.removeprefix("__init__")
    return "sets" if first in tfds_builders.SETS else ""


def test_imports_of_the_builders_keep_to_the_table():
    wrong = []
    for path in _python_files(BUILDERS):
        inside = path.relative_to(BUILDERS).with_suffix("")
        room = _builders_room(".".join(inside.parts))
        assert room or inside.name == "__init__", f"{_name(path)} is in no room"
        for name in _imports(_parse(path)):
            if name.startswith("tfds_builders."):
                target = _builders_room(name.removeprefix("tfds_builders."))
                if target not in BUILDERS_ROOMS.get(room, set()) | {room, ""}:
                    wrong.append(f"{_name(path)} imports {name}")

    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_tables():
    rooms = {_room(path) for path in _python_files(PACKAGE)} - {"__init__"}

    assert rooms <= set(ROOMS)
    assert set(ROOMS) == set(FORBIDDEN)


@pytest.mark.parametrize("table", [ROOMS, BUILDERS_ROOMS], ids=["package", "builders"])
def test_the_table_has_no_circle(table: dict[str, set[str]]):
    done: set[str] = {"tfds_builders"}
    while left := set(table) - done:
        ready = {room for room in left if table[room] <= done}
        assert ready, f"these rooms import each other in a circle: {sorted(left)}"
        done |= ready


def test_rooms_keep_away_from_libraries_that_are_not_theirs():
    wrong = []
    for path in _python_files(PACKAGE):
        forbidden = FORBIDDEN.get(_room(path), set()) | NOWHERE
        for name in _imports(_parse(path)):
            if name.split(".")[0] in forbidden:
                wrong.append(f"{_name(path)} imports {name}")

    assert not wrong, "\n".join(wrong)


def test_configs_import_the_schema_only():
    allowed = {"__future__", "configs", "ml_collections"} | sys.stdlib_module_names
    wrong = []
    for path in _python_files(REPOSITORY / "configs"):
        for name in _imports(_parse(path)):
            if name.split(".")[0] in allowed or name == "mtpret_jax.config":
                continue
            wrong.append(f"{_name(path)} imports {name}")

    assert not wrong, "\n".join(wrong)


def test_builders_import_no_more_than_they_may():
    wrong = []
    for path in _python_files(BUILDERS):
        allowed = BUILDERS_MAY | sys.stdlib_module_names
        tree = _parse(path)
        inside = [
            node
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ]
        lazy = {name for node in inside for name in _imports(node)}
        for name in _imports(tree):
            library = name.split(".")[0]
            late = name in lazy and library in BUILDERS_MAY_INSIDE_FUNCTIONS
            if library not in allowed and not late:
                wrong.append(f"{_name(path)} imports {name}")

    assert not wrong, "\n".join(wrong)


@pytest.mark.smoke
def test_builders_load_where_jax_and_the_package_cannot_be_imported():
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in _python_files(BUILDERS)
    ]
    program = (
        "import importlib, sys\n"
        "class Wall:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in "
        "('jax', 'flax', 'mtpret_jax', 'tensorflow', 'pydicom'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Wall())\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_packages_ship_no_tests():
    files = _python_files(PACKAGE) + _python_files(BUILDERS)

    shipped = [
        _name(path)
        for path in files
        if re.match(r"test_|.*_test$|conftest$", path.stem)
        or {name.split(".")[0] for name in _imports(_parse(path))}
        & {"pytest", "hypothesis", "unittest", "tests"}
    ]

    assert not shipped, f"the wheel would hold: {shipped}"


@pytest.mark.parametrize("folder", ["mtpret_jax", "tfds_builders"])
def test_every_folder_with_code_is_a_package(folder: str):
    folders = {path.parent for path in _python_files(REPOSITORY / folder)}

    bare = [
        _name(path) for path in sorted(folders) if not (path / "__init__.py").is_file()
    ]

    assert not bare, f"no __init__.py, so the wheel leaves them out: {bare}"


def test_the_map_of_files_is_made_from_their_first_lines():
    spec = importlib.util.spec_from_file_location(
        "architecture", REPOSITORY / "docs" / "architecture.py"
    )
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)

    assert made.PAGE.read_text() == made.page(), "run: python docs/architecture.py"


def test_names_say_what_is_in_a_file():
    empty_words = {"util", "utils", "helper", "helpers", "common", "misc", "lib"}
    folders = ("mtpret_jax", "tfds_builders", "configs", "tests")
    files = [path for name in folders for path in _python_files(REPOSITORY / name)]

    said = [
        _name(path)
        for path in files
        if empty_words & {path.stem, *path.relative_to(REPOSITORY).parts}
    ]

    assert not said


def test_no_file_is_too_long_to_read():
    most = dict.fromkeys(("mtpret_jax", "tfds_builders", "configs"), LONGEST_FILE)
    most["tests"] = LONGEST_TEST

    long = {
        _name(path): lines
        for folder, allowed in most.items()
        for path in _python_files(REPOSITORY / folder)
        if (lines := len(path.read_text().splitlines())) > allowed
    }

    assert not long


def test_no_function_is_too_long_to_read():
    long = {
        f"{_name(path)} {node.name}": lines
        for path in _python_files(PACKAGE) + _python_files(BUILDERS)
        for node in ast.walk(_parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    }

    assert not long
