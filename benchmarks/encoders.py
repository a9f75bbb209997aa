"""Do encoders of full size give the library's features of real X-rays?

Every network gets weights drawn from their names, in the library and here; pooled
features are compared in float32 with the library's in float64. An error is the largest
difference of an image over its largest feature.

Run:     python -m benchmarks.encoders --torch_python=<python with PyTorch, torchvision,
         timm and transformers> --images=<folder of X-rays>
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
import jax
import numpy as np

from mtpret_jax import types
from mtpret_jax.models import convnext, densenet
from mtpret_jax.weights import layout_convnext, layout_densenet, naming

REPOSITORY = pathlib.Path(__file__).parent.parent
REFERENCE = REPOSITORY / "benchmarks" / "reference" / "encoders.py"
sys.path.insert(0, str(REPOSITORY / "tests" / "golden"))

import drawing  # noqa: E402

LIMIT = 2e-5
NETWORKS = (
    ("timm", "convnext_atto"),
    ("torchvision", "convnext_tiny"),
    ("transformers", "convnext_tiny"),
    ("torchvision", "densenet121"),
    ("timm", "convnext_small"),
    ("timm", "convnext_base"),
)


def read_images(folder: pathlib.Path, count: int, size: int) -> np.ndarray:
    """X-rays of a folder, each of mean 0 and deviation 1, float32 [count, S, S, 1]."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())[:count]
    images = []
    for path in paths:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise ValueError(f"--images: '{path}' is not an image.")
        small = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
        images.append((small - small.mean()) / small.std())
    return np.asarray(images, np.float32)[..., None]


def ours(size: str, tensors: Any) -> tuple[types.Backbone, types.Variables]:
    """Our network of a library's size, with its weights."""
    family: naming.Family = layout_densenet.FAMILY
    if size.startswith("convnext"):
        family = layout_convnext.FAMILY
    found = family.identify(tensors, size)
    if size.startswith("convnext"):
        body: Any = convnext.ConvNeXtBackbone(found.depths, found.width)
    else:
        body = densenet.DenseNetBackbone(found.depths, found.width)
    expected = family.expected(found.depths, found.width, found.in_channels)
    return body, types.Variables(**family.read(tensors, expected, size).tree)


def compare(library: str, size: str, python: str, images: np.ndarray) -> float:
    """Prints a row of the table; returns our error."""
    with tempfile.TemporaryDirectory() as folder:
        sent, back = f"{folder}/images.npz", f"{folder}/results.npz"
        np.savez(sent, images=images)
        subprocess.run([python, REFERENCE, library, size, sent, back], check=True)
        with np.load(back) as file:
            reference = dict(file)
    lines = [str(line).split(" ") for line in reference["tensors"]]
    shapes = {name: tuple(int(n) for n in s.split("x") if n) for name, s in lines}
    body, variables = ours(size, drawing.draw(shapes))

    @jax.jit
    def pooled(variables: types.Variables, image: jax.Array) -> jax.Array:
        return body.apply(variables, image, train=False)[0].pooled

    found = pooled(variables, images).block_until_ready()  # Compiles.
    start = time.perf_counter()
    pooled(variables, images).block_until_ready()
    seconds = time.perf_counter() - start
    error = drawing.error(np.asarray(found), reference["exact"])
    theirs = drawing.error(reference["single"], reference["exact"])
    millions = sum(leaf.size for leaf in jax.tree.leaves(variables.params)) / 1e6
    sys.stdout.write(
        f"{library:13}{size:16}{millions:8.1f}{error:10.1e}{theirs:12.1e}"
        f"{len(images) / seconds:10.1f}{len(images) / reference['seconds']:10.1f}\n"
    )
    sys.stdout.flush()
    return error


def main() -> None:
    """Prints the table; ends with an error where one is beyond `LIMIT`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch_python", default=sys.executable, help="with PyTorch")
    parser.add_argument("--images", type=pathlib.Path, required=True, help="X-rays")
    parser.add_argument("--count", type=int, default=10, help="how many of them")
    parser.add_argument("--size", type=int, default=224, help="side, pixels")
    parser.add_argument("--networks", nargs="*", help="sizes; all if left out")
    options = parser.parse_args()
    images = read_images(options.images, options.count, options.size)
    sys.stdout.write(
        f"{'library':13}{'network':16}{'million':>8}{'error':>10}{'its float32':>12}"
        f"{'images/s':>10}{'its':>10}\n"
    )
    errors = [
        compare(library, size, options.torch_python, images)
        for library, size in NETWORKS
        if not options.networks or size in options.networks
    ]
    if max(errors) > LIMIT:
        raise SystemExit(f"an error is beyond {LIMIT}")


if __name__ == "__main__":
    main()
