"""Encoders of full size beside their library: features, speed, and cycles on a TPU.

Every network gets weights drawn from their names, in the library and here; pooled
features of X-rays are compared in float32 with the library's in float64. An error is
the largest difference of an image over its largest feature. Beside it: the error of
the library's own float32; parameters; images a second, forward, of both; and, where
`--tpu_python` is given, what a training step of `--batch_size` images for two classes
costs one chip of a TPU v5e by its compiler, in bfloat16.

Run:     python -m benchmarks.encoders --torch_python=<python with PyTorch, torchvision,
         timm and transformers> --tpu_python=<python with the extra tpu>
         --images=<folder of X-rays>
Expect:  half an hour on two cores, most of it the TPU's compiler.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
import jax
import numpy as np

from benchmarks import harness
from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.weights import bodies

REFERENCE = harness.REPOSITORY / "benchmarks" / "reference" / "encoders.py"
sys.path.insert(0, str(harness.REPOSITORY / "tests" / "golden"))

import drawing  # noqa: E402

LIMIT = 2e-5
# Row of `models.BACKBONES`, and of a ViT its family; the library that has it.
NETWORKS = {
    "resnet50": "torchvision",
    "densenet121": "torchvision",
    "convnext_atto": "timm",
    "convnext_tiny": "torchvision",
    "convnext_small": "timm",
    "convnext_base": "timm",
    "swin_tiny": "timm",
    "swin_base": "timm",
    "vit_tiny,deit": "timm",
    "vit_small,deit": "timm",
    "vit_base,deit": "timm",
    "vit_base,dinov2": "transformers",
    "vit_base,dinov2_registers": "transformers",
    "vit_small,eva_x": "timm",
    "vit_base,eva_x_normed": "timm",
    "vit_base,dinov3": "transformers",
    "vit_large,dinov3": "transformers",
}


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


def ours(encoder: str, tensors: Any) -> tuple[types.Backbone, types.Variables]:
    """Our network, with a library's weights."""
    name, _, family = encoder.partition(",")
    network = schema.BackboneConfig(name=name, family=family)
    expected = models.backbone_shapes(network)
    tree = bodies.read(tensors, expected, network, encoder).tree
    return models.build_backbone(network), types.Variables(**tree)


def compare(encoder: str, python: str, images: np.ndarray) -> dict[str, Any]:
    """Errors, parameters and rates of one network."""
    with tempfile.TemporaryDirectory() as folder:
        sent, back = f"{folder}/images.npz", f"{folder}/results.npz"
        np.savez(sent, images=images)
        command = [python, REFERENCE, NETWORKS[encoder], encoder, sent, back]
        subprocess.run(command, check=True)
        with np.load(back) as file:
            reference = dict(file)
    lines = [str(line).split(" ") for line in reference["tensors"]]
    shapes = {name: tuple(int(n) for n in s.split("x") if n) for name, s in lines}
    body, variables = ours(encoder, drawing.draw(shapes))

    @jax.jit
    def pooled(variables: types.Variables, image: jax.Array) -> jax.Array:
        return body.apply(variables, image, train=False)[0].pooled

    found = pooled(variables, images).block_until_ready()  # Compiles.
    start = time.perf_counter()
    pooled(variables, images).block_until_ready()
    seconds = time.perf_counter() - start
    return {
        "library": NETWORKS[encoder],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables.params)),
        "error": drawing.error(np.asarray(found), reference["exact"]),
        "its_float32": drawing.error(reference["single"], reference["exact"]),
        "images_per_second": len(images) / seconds,
        "its_images_per_second": len(images) / float(reference["seconds"]),
    }


def cost(encoder: str, options: argparse.Namespace) -> dict[str, float]:
    """Cycles and bytes of a training step on one chip, by `benchmarks.slices`."""
    if not options.tpu_python:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        command = [
            options.tpu_python,
            "-m",
            "benchmarks.slices",
            f"--encoder={encoder}",
        ]
        command += ["--stages=classification", "--slices=tpu:v5e:1", "--dtype=bfloat16"]
        command += [f"--image_size={options.image_size}"]
        command += [f"--batch_size={options.batch_size}", f"--results={folder}"]
        subprocess.run(command, check=True, cwd=harness.REPOSITORY)
        (path,) = pathlib.Path(folder).iterdir()
        results = json.loads(path.read_text())["results"]
    figures = results["classification"]["tpu:v5e:1"]
    return {name: figures[name] for name in ("cycles", "bytes", "operations")}


def _cells(encoder: str, row: dict[str, Any]) -> list[str]:
    cycles, size = row.get("cycles"), row.get("bytes")
    return [
        encoder,
        row["library"],
        f"{row['parameters'] / 1e6:.1f}",
        f"{row['error']:.1e}",
        f"{row['its_float32']:.1e}",
        f"{row['images_per_second']:.1f}",
        f"{row['its_images_per_second']:.1f}",
        f"{cycles / 1e6:.1f}" if cycles else "",
        f"{size / 2**30:.2f}" if size else "",
    ]


def main() -> int:
    """Shows and writes the table; 1 where an error is beyond `LIMIT`."""
    parser = harness.parser(__doc__, image_size=224, batch_size=32, count=10)
    parser.add_argument("--torch_python", default=sys.executable, help="with PyTorch")
    parser.add_argument("--tpu_python", default="", help="with the TPU's compiler")
    parser.add_argument("--images", type=pathlib.Path, required=True, help="X-rays")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    options = parser.parse_args()
    images = read_images(options.images, options.count, options.image_size)
    rows = {}
    for encoder in options.networks:
        rows[encoder] = compare(encoder, options.torch_python, images)
        rows[encoder] |= cost(encoder, options)
        harness.show(f"{encoder}: {json.dumps(rows[encoder])}")
    head = ["encoder", "library", "million", "error", "its", "images/s", "its"]
    head += ["Mcycles", "GiB"]
    harness.table([head, *(_cells(name, row) for name, row in rows.items())])
    harness.write("encoders", rows, options, n=options.count)
    return int(max(row["error"] for row in rows.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
