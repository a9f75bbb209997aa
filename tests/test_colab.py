"""The notebooks: made from their texts, without outputs, and alike where they must be.

`make notebooks` runs them.
"""

import importlib.util
import json
import pathlib
import re
import sys
from typing import Any

import pytest

COLAB = pathlib.Path(__file__).parent.parent / "colab"
TEXTS = sorted(path for path in COLAB.glob("*.py") if path.stem != "__main__")
NOTEBOOKS = sorted(COLAB.glob("*.ipynb"))
# Where one machine has its things, and another has not.
ABSOLUTE = re.compile(r"""["'= ](/|~/|[A-Z]:\\)[A-Za-z]""")


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("colab", COLAB / "__main__.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{COLAB} can't be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _cells(path: pathlib.Path, kind: str) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_every_text_has_its_notebook_and_they_agree():
    module = _load()

    assert [p.stem for p in TEXTS] == [p.stem for p in NOTEBOOKS]
    assert module.texts() == TEXTS
    stale = [
        text.name
        for text in TEXTS
        if module.notebook(text) != text.with_suffix(".ipynb").read_text("utf-8")
    ]
    assert not stale, f"run `python colab` again: {stale}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_nothing_of_a_run(path: pathlib.Path):
    notebook = json.loads(path.read_text(encoding="utf-8"))

    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell["metadata"]
        assert "id" not in cell  # Random, so that no two makings would be the same.
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_what_a_reader_must_know(path: pathlib.Path):
    first = " ".join(_cells(path, "markdown")[0].split())

    for said in ("What it does", "For whom", "How long", "When it fails"):
        assert f"**{said}.**" in first
    assert re.search(r"TPU|device", first)
    assert re.search(r"\d+ (seconds|minutes)", first)
    assert "not for clinical use" in first


def test_all_notebooks_install_in_the_same_way():
    first = {_cells(path, "code")[0] for path in NOTEBOOKS}

    assert len(first) == 1
    (cell,) = first
    assert "REPOSITORY =" in cell
    assert "MTPRET_TINY" in cell


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_machine_is_assumed(path: pathlib.Path):
    code = "\n".join(_cells(path, "code")).replace("/dev/null", "")

    assert not ABSOLUTE.search(code)
    assert "drive.mount" not in code
