"""A run as a folder for PyTorch, Hugging Face and JAX.

    mtpret_jax export --workdir=runs/demo --run=contrastive --out=exported

Writes model.safetensors in the layout of torchvision, timm or transformers,
config.json, preprocessor_config.json, model.jax_export (a serialised function),
golden.npz and a model card (README.md) filled from the run. Each is read again and
compared. With --data_dir, training.csv names every image that the run and those before
it learnt from.
"""

from __future__ import annotations

import argparse
import sys

from mtpret_jax.api import export as api
from mtpret_jax.cli import command, devices
from mtpret_jax.training import preemption
from mtpret_jax.weights import libraries


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("--workdir", required=True, help="of the training")
    parser.add_argument("--run", required=True, help="a run of it that has ended")
    parser.add_argument("--out", required=True, help="folder: not there, or empty")
    parser.add_argument(
        "--layout",
        choices=libraries.LIBRARIES,
        default="",
        help="whose names the weights get; else torchvision for ResNets, timm",
    )
    parser.add_argument("--data_dir", help="of its prepared sets: adds training.csv")


def run(options: argparse.Namespace) -> int:
    """Exit code: 0."""
    preemption.listen()  # A stop takes the half-written folder away.
    devices.require()
    differences = api.export(
        options.workdir,
        options.run,
        options.out,
        layout=options.layout,
        data_dir=options.data_dir,
    )
    worst = max(differences.values())
    sys.stdout.write(
        f"Written to {options.out}, read again; features differ by {worst:.1e} at "
        "most.\n"
    )
    return command.DONE
