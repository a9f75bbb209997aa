"""What backbone a file of weights holds, and the config that starts from it.

  python -m mtpret_jax.main weights identify model.safetensors

Reads .safetensors, and .pth where PyTorch is installed; runs nothing of a file. Where a
file cannot tell (DeiT and MAE have the same names and shapes), the JSON beside it is
asked, as Hugging Face and timm write it; without one, all that fit are listed.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mtpret_jax import config as schema
from mtpret_jax import models
from mtpret_jax.cli import command
from mtpret_jax.weights import arrays, beside, bodies, files, identity


def add_options(parser: command.Parser) -> None:
    """The one option is the file."""
    parser.add_argument("file", help="a .safetensors, .pth or .pt of named tensors")


def run(options: argparse.Namespace) -> None:
    """Prints what fits, having read it as a run would."""
    found = files.read(options.file)
    said = beside.read(options.file)
    fitting = identity.identify(found.tensors, options.file)
    named = [one for one in fitting if one.options.get("family") == said.family]
    for number, one in enumerate(named or fitting):
        converted = _read(found.tensors, one, options.file)
        given = ", ".join(f"{name}={value!r}" for name, value in one.options.items())
        lines = [
            f"{'or ' if number else ''}{one.about}",
            f"  config.backbone.update({given})",
            f"  stem: {converted.stem}",
        ]
        if left_out := (*converted.left_out, *found.left_out):
            lines.append(f"  left out: {', '.join(left_out)}")
        if said.pixels:
            lines.append(
                f"  config.input.update(normalisation='fixed', fixed={said.pixels})"
            )
        lines += said.notes
        sys.stdout.write("\n".join(lines) + "\n")


def _read(tensors: Any, one: identity.Identity, where: str) -> arrays.Converted:
    """The whole backbone, so that no array is missing or of another shape."""
    network = schema.BackboneConfig(**one.options)
    return bodies.read(tensors, models.backbone_shapes(network), network, where)
