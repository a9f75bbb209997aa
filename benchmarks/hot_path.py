"""Does the input keep up: steps/s with real input against a constant batch.

    python -m benchmarks.hot_path --stage=finetune

Both loops are the one of `training.loop`, under `jax.transfer_guard("disallow")`, with
one put a batch. They take turns, so that a drifting machine slows both; shown are the
median of the rounds' ratios and their range. Simulated hands, stored and used at
128 pixels, ResNet-18 of the usual width.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import statistics
import tempfile
from typing import Any

from absl import app, flags

from benchmarks import ours, recording, shared
from mtpret_jax.experiment import preparation

_STAGE = flags.DEFINE_enum("stage", "finetune", ["finetune", "contrastive"], "Which.")
_WARM_UP = flags.DEFINE_integer("warm_up", 8, "Steps before the clock starts.")
_SIZE = 128  # pixels
_BATCH = 32


def _settings() -> dict[str, Any]:
    stored = {"body": "hand", "image_size": _SIZE, "train": 256}
    return {
        "kind": "contrastive" if _STAGE.value == "contrastive" else "classification",
        "network": "resnet18",
        "image_size": _SIZE,
        "batch_size": _BATCH,
        "dtype": "float32",
        "backbone": {"width": shared.WIDTH.value},
        "dataset": {"builder": "phantom_xray", **stored},
        "task": {"target": "finding"},
        "contrastive": {"queue_size": 128, "batch_norm_rows": 8},
    }


def main(arguments: list[str]) -> None:
    """Times both loops in turn, shows and writes their ratio."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    config = ours.config(_settings())
    steps, images = shared.STEPS.value, shared.STEPS.value * _BATCH
    real, constant = [], []
    with tempfile.TemporaryDirectory() as temporary:
        data_dir = pathlib.Path(temporary)
        folders = preparation.prepare(config.datasets, data_dir)
        folder = os.fspath(folders[ours.SET])
        trainer = ours.Trainer(config, folder)
        with ours.stream(config, folder) as batches:
            same = next(batches)
        for _ in range(shared.ROUNDS.value):
            with ours.stream(config, folder) as batches:
                trainer.run(_WARM_UP.value, batches)  # Compiles, fills the buffer.
                real.append(trainer.run(steps, batches))
            constant.append(trainer.run(steps, itertools.repeat(same)))
    ratios = [bare / fed for fed, bare in zip(real, constant, strict=True)]
    found = {
        "real input": recording.spread([images / seconds for seconds in real]),
        "constant batch": recording.spread([images / seconds for seconds in constant]),
    }
    recording.table(
        [
            [_STAGE.value, "images/s"],
            *([name, f"{row['median']:.1f}"] for name, row in found.items()),
        ]
    )
    ratio = statistics.median(ratios)
    recording.show(f"ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    recording.write(
        f"hot_path_{_STAGE.value}",
        {"ratio": ratio, "ratio_range": [min(ratios), max(ratios)], "rates": found},
        n=shared.ROUNDS.value,
        device=ours.device_name(),
    )


if __name__ == "__main__":
    app.run(main)
