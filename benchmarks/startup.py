"""Time from the command to the first step, cold and with a compilation cache; memory.

The command itself, `mtpret_jax.main`, runs each stage on a set that is ready, and is
ended after its third step: first with an empty compilation cache, then, in another work
folder, with the cache that the first left.

Run:     python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from typing import Any

from benchmarks import harness, watched_run
from mtpret_jax import config as schema
from mtpret_jax.experiment import preparation

_STAGES = ("contrastive", "continual", "finetune")


def _config(stage: str, options: argparse.Namespace) -> schema.ExperimentConfig:
    """A config of one run, on simulated chests."""
    chest = {"image_size": options.image_size, "train": 128}
    chest |= {"validation": 16, "test": 16}
    sizes: dict[str, Any] = {
        "dataset": "chest",
        "image_size": options.image_size,
        "batch_size": options.batch_size,
    }
    run = schema.RunConfig(
        stage=stage,
        finetune=schema.FinetuneConfig(task="finding"),
        continual=schema.ContinualConfig(tasks=("finding", "lungs")),
        contrastive=schema.ContrastiveConfig(
            datasets={"chest": 1.0},
            pool="paper",
            image_size=options.image_size,
            batch_size=options.batch_size,
            queue_size=2 * options.batch_size,
        ),
    )
    return schema.ExperimentConfig(
        backbone=schema.BackboneConfig(name=options.network, width=options.width),
        datasets={"chest": schema.DatasetConfig("phantom_xray", chest)},
        tasks={
            "finding": schema.TaskConfig(target="finding", **sizes),
            "lungs": schema.TaskConfig(kind="segmentation", **sizes),
        },
        runs={"run": run},
    )


def _measure(
    stage: str, folder: pathlib.Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Cold and cached starts of a stage, in turn."""
    config = _config(stage, options)
    found: dict[str, list[dict[str, Any]]] = {"cold": [], "cached": []}
    for turn in range(options.rounds):
        for kind, starts in found.items():
            workdir, cache = f"{stage}-{kind}-{turn}", f"{stage}-cache-{turn}"
            starts.append(
                watched_run.start(config, folder, workdir=workdir, cache=cache)
            )
    return {kind: watched_run.summary(starts) for kind, starts in found.items()}


def main() -> None:
    """Measures, shows and writes."""
    parser = harness.parser(
        __doc__, network="resnet18", width=64, image_size=128, batch_size=32, rounds=2
    )
    parser.add_argument("--stages", nargs="+", choices=_STAGES, default=list(_STAGES))
    options = parser.parse_args()
    names = ("network", "image_size", "batch_size")
    results: dict[str, Any] = {name: getattr(options, name) for name in names}
    rows, device = [watched_run.HEAD], "cpu"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        config = _config(options.stages[0], options)
        preparation.prepare(config.datasets, folder / "data")
        for stage in options.stages:
            results[stage] = _measure(stage, folder, options)
            for kind, found in results[stage].items():
                device = found["device"]
                rows.append(watched_run.row(f"{stage}, {kind}", found))
    harness.table(rows)
    name = f"startup {options.network}"
    harness.write(name, results, options, n=options.rounds, device=device)


if __name__ == "__main__":
    main()
