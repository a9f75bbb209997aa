"""Compares what a file of weights computes here with its library's own network.

  python -m mtpret_jax.main weights check model.safetensors

Builds the network of torchvision, timm or transformers, as installed, loads the file
into it with every name in its place, and compares the features of one simulated X-ray
at the network's own size. Ends with exit code 1 where they differ by more.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import jax
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.cli import command
from mtpret_jax.inference import golden, networks, preprocessing
from mtpret_jax.models import vit_families
from mtpret_jax.weights import beside, bodies, files, identity, reference

LIMIT = 1e-4  # of the largest feature; float32 sums in another order
_SIDE = 224  # pixels, where a network has no size of its own


def add_options(parser: command.Parser) -> None:
    """The file, and its family where it cannot tell."""
    parser.add_argument("file", help="a .safetensors, .pth or .pt of named tensors")
    parser.add_argument(
        "--family", default="", help="of a ViT, where several fit: `weights identify`"
    )


def run(options: argparse.Namespace) -> None:
    """Prints the difference; raises ValueError where it is too large."""
    where = options.file
    found = files.read(where)
    one = _identify(found.tensors, options.family or beside.read(where).family, where)
    network = schema.BackboneConfig(**one.options)
    shapes = models.backbone_shapes(network)
    converted = bodies.read(found.tensors, shapes, network, where)
    theirs = reference.load(found.tensors, one.options, converted, where)
    image = _image(network)
    expected, features = theirs.pooled(image), _pooled(network, converted.tree, image)
    if features.shape != expected.shape:
        raise ValueError(
            f"{where}: {features.shape[1]} features here, {expected.shape[1]} of "
            f"{theirs.library}."
        )
    largest = float(np.abs(expected).max())
    difference = float(np.abs(features - expected).max()) / max(largest, 1e-30)
    told = (
        f"{one.about}: features of a simulated X-ray of {image.shape[1]} px differ "
        f"from those of {theirs.library} by {difference:.1e} of the largest "
        f"({largest:.3g})"
    )
    if not difference <= LIMIT:  # NaN too.
        raise ValueError(f"{where}: {told}; at most {LIMIT:g} is rounding.")
    sys.stdout.write(f"{told}: the same.\n")


def _identify(tensors: reference.Tensors, family: str, where: str) -> identity.Identity:
    """The one backbone that a file holds."""
    fitting = identity.identify(tensors, where)
    families = [one.options.get("family", "") for one in fitting]
    if family and family in families:
        return fitting[families.index(family)]
    if len(fitting) > 1 or (family and any(families)):
        raise ValueError(
            f"{where}: the file fits the families {', '.join(families)}; name one: "
            "--family."
        )
    return fitting[0]


def _image(network: schema.BackboneConfig) -> np.ndarray:
    """A simulated chest at the network's own size, float32 [1, S, S, 1]."""
    side = _SIDE
    if network.name.startswith("vit_"):
        side = vit_families.FAMILIES[network.family].image_size
    made = preprocessing.Preparation(side, "stretch", None, 0, 8)
    return made(golden.chest())[0][np.newaxis]


def _pooled(network: schema.BackboneConfig, tree: Any, image: np.ndarray) -> np.ndarray:
    """What stands for the image here, float32 [1, D]."""
    built = networks.Network(models.build_backbone(network), None)
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(built)({"backbone": tree}, image)["embedding"])
