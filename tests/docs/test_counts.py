"""What is counted of the packages, on a small tree of which all is known."""

import pathlib

import pytest

FILES = {
    "toy/__init__.py": '"""A toy."""\n',
    "toy/main.py": '"""The top."""\n\nfrom toy.upper import first\n\nRUN = first.run\n',
    "toy/upper/__init__.py": '"""Above."""\n',
    "toy/upper/first.py": (
        '"""One."""\n\n'
        "from toy.lower import names\n\n\n"
        'def run(table: "names.Table") -> None:  # noqa: A001\n'
        '    """Runs."""\n\n\n'
        "def other() -> None:\n"
        "    from toy.lower import deep  # late\n\n"
        "    deep.work({})\n"
    ),
    "toy/upper/page.html": "<p>\n</p>\n",
    "toy/lower/__init__.py": '"""Below."""\n',
    "toy/lower/names.py": (
        '"""Names."""\n\n'
        "from typing import Any\n\nTable = dict[str, Any]\nRow = Table\n"
    ),
    "toy/lower/deep.py": (
        '"""Deep."""\n\n'
        "from toy.lower import names\n\n\n"
        "def work(row: names.Row, other: dict[str, int]) -> names.Table:\n"
        "    return row\n"
    ),
    "toy/tests/test_it.py": "import toy\n" * 100,
}


@pytest.fixture
def counts(script):
    return script("counts")


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        path = pathlib.Path(tmp_path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_tree_is_counted_without_its_tests(counts, tree):
    assert counts.report(tree, ["toy"]) == {
        "files": "8",
        "lines": "36",
        "largest file": "13: toy/upper/first.py",
        "largest function": "4: toy.upper.first.other",
        "comments": "5.9 for 100 lines of Python",
        "docstrings": "80.0 % of 10 public",
        "suppressions": "1",
        "untyped lines": "3",
        "toy: lines": "34",
        "toy: rooms": "3",
        "toy: arrows": "2",
        "toy: floors": "3: main > upper > lower",
        "toy: circles of rooms": "0",
        "toy: circles of files": "0",
    }


def test_names_of_untyped_dictionaries_count_where_they_are_used(counts, tree):
    found = counts.untyped(counts.read(tree, "toy"))

    assert found == ["toy.lower.deep:6", "toy.lower.names:5", "toy.lower.names:6"]


def test_an_import_for_types_alone_closes_a_circle(counts, tree):
    path = tree / "toy" / "lower" / "deep.py"
    late = "if TYPE_CHECKING:\n    from toy.upper import first\n"
    path.write_text("from typing import TYPE_CHECKING\n" + late + path.read_text())

    said = counts.report(tree, ["toy"])

    assert said["toy: circles of rooms"] == "1; lower, upper"
    assert said["toy: circles of files"] == "1; toy.lower.deep, toy.upper.first"
    assert said["toy: floors"].startswith("none")


def test_the_packages_themselves_can_be_counted(counts):
    said = counts.report(counts.REPOSITORY)

    for package in counts.PACKAGES:
        assert said[f"{package}: circles of rooms"] == "0"
        assert said[f"{package}: circles of files"] == "0"
    assert said["docstrings"].startswith("100.0 %")
