"""Runs every notebook of `colab/` from its first cell to its last, small.

In a kernel of its own, as Colab does, inside a copy of the repository. Its page with
all outputs stays beside that copy, in pytest's temporary folder.
"""

import os
import pathlib
import shutil
import sys
import tempfile

import jupyter_client
import nbclient
import nbformat
import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((REPOSITORY / "colab").glob("*.ipynb"))
PARTS = ("colab", "configs", "docs", "mtpret_jax", "tfds_builders")
SECONDS = 600  # a cell; the longest takes a fraction of that


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What kernels and their commands see: this Python, small sizes, a shared cache."""
    here = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MTPRET_TINY", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv(
        "JAX_DISABLE_MOST_OPTIMIZATIONS", "1"
    )  # Compiles in half the time.
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = str(REPOSITORY / ".cache" / "jax")
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache)


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    """What a clone holds, with nothing of earlier trainings."""
    for part in PARTS:
        shutil.copytree(REPOSITORY / part, tmp_path / "clone" / part)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path / "clone")
    return tmp_path / "clone"


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: pathlib.Path, clone: pathlib.Path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    # By sockets in a folder: two kernels that start together may draw the same port.
    # Names of sockets must be short.
    with tempfile.TemporaryDirectory() as folder:
        run(notebook, clone, f"{folder}/kernel")


def run(notebook: nbformat.NotebookNode, clone: pathlib.Path, sockets: str) -> None:
    """Runs all cells and keeps what they print."""
    kernel = jupyter_client.AsyncKernelManager(transport="ipc", ip=sockets)
    client = nbclient.NotebookClient(
        notebook,
        km=kernel,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(clone / "colab")}},
    )

    try:
        client.execute()
    finally:
        nbformat.write(notebook, clone.parent / "notebook.ipynb")
