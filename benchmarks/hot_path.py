"""Does the input keep up: steps/s with real input against a constant batch.

Both loops are the one of `training.loop`, under `jax.transfer_guard("disallow")`, with
one put a batch. Simulated hands, stored and used at 128 pixels, ResNet-18 of the usual
width.

Run:     python -m benchmarks.hot_path --stage=finetune
"""

from __future__ import annotations

import itertools
import os
import pathlib
import tempfile
from typing import Any

from benchmarks import harness, ours
from mtpret_jax.experiment import preparation

_SIZE = 128  # pixels
_BATCH = 32


def _settings(stage: str, width: int) -> dict[str, Any]:
    stored = {"body": "hand", "image_size": _SIZE, "train": 256}
    return {
        "kind": "contrastive" if stage == "contrastive" else "classification",
        "network": "resnet18",
        "image_size": _SIZE,
        "batch_size": _BATCH,
        "dtype": "float32",
        "backbone": {"width": width},
        "dataset": {"builder": "phantom_xray", **stored},
        "task": {"target": "finding"},
        "contrastive": {"queue_size": 128, "batch_norm_rows": 8},
    }


def main() -> None:
    """Times both loops in turn, shows and writes their ratio."""
    parser = harness.parser(__doc__, width=64, steps=6, rounds=5, warm_up=8)
    parser.add_argument(
        "--stage", default="finetune", choices=["finetune", "contrastive"]
    )
    options = parser.parse_args()
    config = ours.config(_settings(options.stage, options.width))
    steps = options.steps
    with tempfile.TemporaryDirectory() as temporary:
        folders = preparation.prepare(config.datasets, pathlib.Path(temporary))
        folder = os.fspath(folders[ours.SET])
        trainer = ours.Trainer(config, folder)
        with ours.stream(config, folder) as batches:
            same = next(batches)
            trainer.run(2, itertools.repeat(same))  # Compiles.

        def real() -> float:
            with ours.stream(config, folder) as batches:
                trainer.run(options.warm_up, batches)  # Fills the buffer.
                return trainer.run(steps, batches)

        def constant() -> float:
            return trainer.run(steps, itertools.repeat(same))

        ways = {"real input": real, "constant batch": constant}
        seconds = harness.take_turns(ways, options.rounds)
    rates = {
        name: harness.spread([steps * _BATCH / each for each in turns])
        for name, turns in seconds.items()
    }
    found = harness.ratio(seconds["constant batch"], seconds["real input"])
    rows = [[name, f"{row['median']:.1f}"] for name, row in rates.items()]
    harness.table([[options.stage, "images/s"], *rows])
    low, high = found["ratio_range"]
    harness.show(f"ratio {found['ratio']:.3f} ({low:.3f} to {high:.3f})")
    harness.write(
        f"hot_path_{options.stage}",
        {**found, "rates": rates},
        options,
        n=options.rounds,
        device=ours.device_name(),
    )


if __name__ == "__main__":
    main()
