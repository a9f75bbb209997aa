# pyright: reportMissingImports=false
"""Exported backbones in PyTorch, ResNets also as ONNX, by the lines of the pages.

    make pytorch-test

The folder EXPORTED holds what `write_exported.py` wrote.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import operators
import pytest
import torch
from PIL import Image

REPOSITORY = pathlib.Path(__file__).parents[2]
# One step of 8 bits, where a library rounds halves the other way, over a deviation of
# 0.08 or more; elsewhere, the difference of float32 from float64.
ONE_PIXEL, ON_AVERAGE = 0.05, 5e-4
EXPORTED = pathlib.Path(os.environ["EXPORTED"])
OPERATORS = operators.declare()
FAMILIES = sorted(
    path.stem
    for path in EXPORTED.glob("*.npz")
    if path.stem.startswith(("convnext", "densenet", "resnet10", "swin", "vit", "hf"))
)


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
        image, expected = arrays["image"], arrays["expected"]
    assert len(image) == 10
    return image.transpose(0, 3, 1, 2).repeat(3, axis=1), expected


def compare(name, found, expected):
    difference = np.abs(found - expected).max()
    told = f"{name}: largest {np.abs(expected).max():.3f}, differs {difference:.1e}"
    print(told)  # noqa: T201
    assert np.abs(expected).max() > 0.1
    assert difference < 1e-4


def load(name, folder, monkeypatch):
    """Runs the page's lines where the exported folder lies."""
    monkeypatch.chdir(folder)
    os.symlink(EXPORTED / name, "exported")
    shown = lines("docs/pytorch.md", "import safetensors.torch")
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
    shown = lines("docs/pytorch.md", "import load_exported\nimport torch")

    exec(shown.replace("224, 224", f"{side}, {side}"), {})

    session = onnxruntime.InferenceSession("model.onnx")
    (found,) = session.run(["features"], {"image": image})
    compare(f"{name} as ONNX", found, expected)


@pytest.mark.parametrize("page", ["README.md", "docs/pytorch.md"])
def test_pixels_of_a_file_give_our_features(page, name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    monkeypatch.chdir(tmp_path)
    os.symlink(EXPORTED / name, "exported")
    Image.fromarray(arrays_of(EXPORTED / "pixels.npz")[0]).save("chest.png")
    names = {}

    exec(lines(page, "import load_exported\nimport numpy"), names)

    found = names["features"].detach().numpy()[0]
    expected = ten_xrays(name)[1][0]
    # A grey level that was rounded otherwise moves features a little.
    lengths = np.linalg.norm(found) * np.linalg.norm(expected)
    assert found @ expected / lengths > 0.9999


@pytest.fixture
def load_exported(monkeypatch):
    """The module `docs/load_exported.py`."""
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    import load_exported

    return load_exported


def test_a_narrow_network_is_built_too(load_exported):
    image, expected = ten_xrays("narrow")

    with torch.no_grad():
        found = load_exported.load(EXPORTED / "narrow")(torch.from_numpy(image)).numpy()

    compare("narrow", found, expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_backbones_of_every_family_are_built_and_agree(name, load_exported):
    """Strictly loaded; probabilities where there is a head, else features."""
    facts = json.loads((EXPORTED / name / "config.json").read_text())
    if facts.get("library") == "transformers":
        pytest.importorskip("transformers")  # Not in the environment of `make`.
    image, expected = ten_xrays(name)

    with torch.no_grad():
        found = load_exported.load(EXPORTED / name)(torch.from_numpy(image))

    found = getattr(found, "pooler_output", found)
    if "task" in facts:
        found = found.softmax(-1) if facts["exclusive"] else found.sigmoid()
    largest = np.abs(expected).max()
    difference = np.abs(found.numpy() - expected).max() / largest
    print(f"{name}: largest {largest:.3f}, differs {difference:.1e}")  # noqa: T201
    assert largest > 0.1
    assert difference <= 2e-5


def test_regions_of_small_images_are_read_at_the_strides_of_training(load_exported):
    """Of 66 pixels, torchvision would read the last level (3 cells) at 1/16."""
    from torchvision.ops import poolers

    options = {"featmap_names": list("0123"), "output_size": 7, "sampling_ratio": 2}
    sides = [-(-66 // stride) for stride in (4, 8, 16, 32)]
    levels = {
        name: torch.zeros(1, 1, side, side)
        for name, side in zip("0123", sides, strict=True)
    }
    theirs = poolers._setup_scales(list(levels.values()), [(66, 66)], 56, 4)

    pool = load_exported._RoIAlign(canonical_scale=56, canonical_level=4, **options)

    assert theirs[0] == [1 / 4, 1 / 8, 1 / 16, 1 / 16]
    assert pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    assert (pool.map_levels.k_min, pool.map_levels.k_max) == (2, 5)
    assert pool.map_levels.s0 == 56


def arrays_of(path):
    with np.load(path) as arrays:
        return list(arrays.values())


def compare_prepared(load_exported, folder, pixels, images):
    assert len(pixels) == len(images) == 10
    for picture, image in zip(pixels, images, strict=True):
        found = load_exported.prepare(picture, folder)
        assert found.dtype == torch.float32
        difference = np.abs(found.numpy() - image.transpose(2, 0, 1))
        assert found.shape == (3, *image.shape[:2])
        assert difference.max() < ONE_PIXEL, difference.max()
        assert difference.mean() < ON_AVERAGE, difference.mean()


def test_prepared_pixels_are_our_input(name, load_exported):
    with np.load(EXPORTED / f"{name}.npz") as arrays:
        images = arrays["image"]

    compare_prepared(
        load_exported, EXPORTED / name, arrays_of(EXPORTED / "pixels.npz"), images
    )


@pytest.mark.parametrize("how", ["image", "dataset", "fixed", "bicubic", "gaussian"])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_pixels_are_prepared_by_every_fit_and_normalisation(fit, how, load_exported):
    folder = EXPORTED / "prepared" / f"{fit}_{how}"

    compare_prepared(
        load_exported,
        folder,
        arrays_of(folder / "pixels.npz"),
        arrays_of(folder / "images.npz"),
    )


def test_colours_are_refused(name, load_exported):
    with pytest.raises(TypeError, match=r"Expected uint8 or uint16 \[H, W\], got"):
        load_exported.prepare(np.zeros((8, 8, 3), np.uint8), EXPORTED / name)


def test_a_forgotten_folder_is_told_in_one_line():
    command = [sys.executable, "-c", "import operators; o = operators.declare(); "]
    command[2] += "import runpy; runpy.run_path('docs/load_exported.py', "
    command[2] += "run_name='__main__')"

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("usage: python load_exported.py")
    assert "Traceback" not in done.stderr


def test_the_other_lines_give_the_same_network(
    name, tmp_path, monkeypatch, load_exported
):
    """Those of `docs/load_exported.py`."""
    one = load(name, tmp_path, monkeypatch).state_dict()
    other = load_exported.load(EXPORTED / name).state_dict()

    assert one.keys() == other.keys()
    for key, tensor in one.items():
        assert torch.equal(tensor, other[key]), key
