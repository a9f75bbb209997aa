# pyright: reportMissingImports=false
"""Exported ResNets in PyTorch and as ONNX, by the lines that the pages show.

    make pytorch-test

The folder EXPORTED holds what `write_exported.py` wrote.
"""

import os
import pathlib
import re

import numpy as np
import onnxruntime
import operators
import pytest
import torch

REPOSITORY = pathlib.Path(__file__).parents[2]
EXPORTED = pathlib.Path(os.environ["EXPORTED"])
OPERATORS = operators.declare()


def lines(page: str, begin: str) -> str:
    """The Python block of a page that begins so."""
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.S)
    (found,) = [block for block in blocks if block.startswith(begin)]
    return found


@pytest.fixture(params=["resnet18", "resnet50"])
def name(request):
    return request.param


def ten_xrays(name):
    """Normalised, float32 [10, 3, S, S], and our features of them."""
    with np.load(EXPORTED / f"{name}.npz") as arrays:
        image, expected = arrays["image"], arrays["embedding"]
    assert len(image) == 10
    return image.transpose(0, 3, 1, 2).repeat(3, axis=1), expected


def compare(name, found, expected):
    difference = np.abs(found - expected).max()
    told = f"{name}: largest {np.abs(expected).max():.3f}, differs {difference:.1e}"
    print(told)  # noqa: T201
    assert np.abs(expected).max() > 0.1
    assert difference < 1e-4


def load(name, folder, monkeypatch):
    """Runs README's lines where the exported folder lies."""
    monkeypatch.chdir(folder)
    os.symlink(EXPORTED / name, "exported")
    shown = lines("README.md", "import safetensors.torch")
    assert "strict=True" in shown
    names = {}
    exec(shown.replace("resnet50", name), names)
    return names["network"].eval()


def test_features_are_ours(name, tmp_path, monkeypatch):
    network = load(name, tmp_path, monkeypatch)
    image, expected = ten_xrays(name)

    with torch.no_grad():
        found = network(torch.from_numpy(image)).numpy()

    compare(name, found, expected)


def test_features_of_onnx_are_ours(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    monkeypatch.chdir(tmp_path)
    os.symlink(EXPORTED / name, "exported")
    image, expected = ten_xrays(name)
    side = image.shape[-1]
    shown = lines("docs/pytorch.md", "import load_exported")

    exec(shown.replace("224, 224", f"{side}, {side}"), {})

    session = onnxruntime.InferenceSession("model.onnx")
    (found,) = session.run(["features"], {"image": image})
    compare(f"{name} as ONNX", found, expected)


def test_the_other_lines_give_the_same_network(name, tmp_path, monkeypatch):
    """Those of `docs/load_exported.py`."""
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    import load_exported

    one = load(name, tmp_path, monkeypatch).state_dict()
    other = load_exported.load(EXPORTED / name).state_dict()

    assert one.keys() == other.keys()
    for key, tensor in one.items():
        assert torch.equal(tensor, other[key]), key
