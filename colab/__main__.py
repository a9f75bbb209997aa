"""Writes each notebook from its text.

    python colab

The texts, in jupytext's percent form, are what is edited; the notebooks beside them are
what Colab opens. `make notebooks` runs them all, small.
"""

import pathlib

import jupytext
import nbformat

FOLDER = pathlib.Path(__file__).parent


def texts() -> list[pathlib.Path]:
    """The notebooks' texts."""
    return sorted(path for path in FOLDER.glob("*.py") if path.stem != "__main__")


def notebook(text: pathlib.Path) -> str:
    """What the notebook's file holds: no outputs, and the same each time."""
    made = jupytext.read(text, fmt="py:percent")
    made.metadata.pop("jupytext", None)
    made.nbformat_minor = 4  # Later ones want cells to have ids, which are random.
    for cell in made.cells:
        cell.pop("id", None)
    return nbformat.writes(made, version=nbformat.NO_CONVERT) + "\n"


if __name__ == "__main__":
    for path in texts():
        path.with_suffix(".ipynb").write_text(notebook(path), encoding="utf-8")
