"""X-ray files to features: one .npz or .parquet with their names.

    mtpret_jax embed --model=runs/demo/runs/contrastive --out=features.npz scans/

The file holds `path` [N], `embedding` float32 [N, D], `blank` [N] (no content) and what
could not be read, with the reason; then the exit code is 3. Stopped and started again,
it goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib

from mtpret_jax.cli import command, devices, file_options
from mtpret_jax.inference import embeddings, loader
from mtpret_jax.training import preemption


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    file_options.add_options(parser, out="the .npz or .parquet to write")


def run(options: argparse.Namespace) -> int:
    """Exit code: 0, or 3 if files were skipped."""
    preemption.listen()
    devices.require()
    files = file_options.find(options)
    model = loader.load(options.model, options.task)
    with contextlib.closing(file_options.Teller(options, len(files))) as tell:
        before, skipped, blank = embeddings.embed(
            model,
            files,
            pathlib.Path(options.out).expanduser(),
            batch_size=options.batch_size,
            begin=tell.begin,
            progress=tell,
        )
    earlier = f" ({before} of them before)" if before else ""
    done = len(files) - len(skipped)
    file_options.say(
        options, f"{done} done{earlier}, {len(skipped)} skipped: {options.out}"
    )
    file_options.tell_blank(options, len(blank), done)
    return command.SKIPPED if skipped else command.DONE
