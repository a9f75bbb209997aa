"""The README of the builders says what the builders are; quirks name real tests."""

import ast
import pathlib
import re
from typing import Any

import pytest
from etils import epath

from tfds_builders import dummy
from tfds_builders.releases import catalogue

REPOSITORY = pathlib.Path(__file__).parents[2]
# What releases have in plenty, and a word of the quirk that says so.
COMMON = {
    "byte order mark": "byte order mark",
    "trailing comma": "trailing comma",
    "leftovers of macOS": "._",
    "nested copies": "nested",
    "RGBA": "rgba",
    "16 bits": "16-bit",
    "MONOCHROME1": "monochrome1",
    "boxes without area": "without area",
    "boxes that leave the image": "leave the image",
    "missing masks": "without a mask",
    "the suffix _mask": "_mask",
    "damaged JPEGs": "cut short",
}
# Where the quirks are tested that no set has alone.
SHARED = (
    "tests/test_polarity_real.py",
    "tests/tfds_builders/images/test_reader_limits.py",
    "tests/tfds_builders/test_fuzz.py",
)


@pytest.fixture(scope="module")
def tables(script):
    return script("set_tables")


def _tests(path: pathlib.Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_tables_are_those_of_the_builders(tables):
    text = tables.README.read_text()

    assert tables.filled(text) == text, "run: python docs/set_tables.py"


def _quirks(tables) -> list[tuple[str, str, str]]:
    """Set (or "all"), quirk and test of each row of the table."""
    text = tables.README.read_text().partition("| set | quirk | test |")[2]
    return re.findall(r"^\| (\w+) \| (.+) \| `(\w+)` \|$", text, re.M)


def test_every_quirk_names_a_test_of_its_set(tables):
    rows, folder = _quirks(tables), REPOSITORY / "tests/tfds_builders/sets"
    for name in catalogue.released():
        there = _tests(folder / f"test_{name}.py") | _tests(
            folder / "test_every_set.py"
        )
        named = {test for one, _, test in rows if one == name}
        assert named
        assert named <= there
    shared = {test for one, _, test in rows if one == "all"}
    assert shared <= {test for path in SHARED for test in _tests(REPOSITORY / path)}
    assert {name for name, *_ in rows} == {"all", *catalogue.released()}


@pytest.mark.parametrize("quirk", COMMON)
def test_common_quirks_are_in_the_table(tables, quirk: str):
    assert any(COMMON[quirk] in line.lower() for _, line, _ in _quirks(tables))


def test_the_code_of_the_readme_runs(tables, tmp_path, monkeypatch):
    dummy.write("mura", epath.Path(tmp_path) / "downloads", images=None)
    blocks = re.findall(
        r"^```python\n(.*?)^```", tables.README.read_text(), re.M | re.S
    )
    names: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)

    for block in blocks:
        if "tfds.load" not in block:  # needs TensorFlow; tested in tests/tensorflow
            exec(block, names)

    assert len(blocks) == 5
    assert names["found"]["train"][0]["image"].ndim == 3
    assert {"index.csv", "quarantine.csv", "preparation.json", "splits"} <= {
        path.name for path in (tmp_path / "data/mura/mine/1.0.0").iterdir()
    }


def test_a_readme_without_a_place_for_a_table_is_refused(tables):
    with pytest.raises(ValueError, match="lacks the lines"):
        tables.filled("# tfds_builders\n")


def test_there_are_thirteen_released_sets():
    assert len(catalogue.released()) == 13
