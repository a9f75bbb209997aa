"""Time from the command to the first step, cold and with a compilation cache; memory.

    python -m benchmarks.startup

The command itself, `mtpret_jax.main`, runs each stage on a set that is ready, and is
ended after its third step: first with an empty compilation cache, then, in another work
folder, with the cache that the first left. README.md beside this file says what the
parts are.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

from absl import app, flags

from benchmarks import recording, shared, watched_run
from mtpret_jax import config as schema
from mtpret_jax.experiment import preparation

_ALL = ["contrastive", "continual", "finetune"]
_STAGES = flags.DEFINE_multi_enum("stages", _ALL, _ALL, "Which.")


def _config(stage: str) -> schema.ExperimentConfig:
    """A config of one run, on simulated chests."""
    chest = {
        "image_size": shared.SIZE.value,
        "train": 128,
        "validation": 16,
        "test": 16,
    }
    sizes: dict[str, Any] = {
        "dataset": "chest",
        "image_size": shared.SIZE.value,
        "batch_size": shared.BATCH.value,
    }
    run = schema.RunConfig(
        stage=stage,
        finetune=schema.FinetuneConfig(task="finding"),
        continual=schema.ContinualConfig(tasks=("finding", "lungs")),
        contrastive=schema.ContrastiveConfig(
            datasets={"chest": 1.0},
            pool="paper",
            image_size=shared.SIZE.value,
            batch_size=shared.BATCH.value,
            queue_size=2 * shared.BATCH.value,
        ),
    )
    return schema.ExperimentConfig(
        backbone=schema.BackboneConfig(
            name=shared.NETWORK.value, width=shared.WIDTH.value
        ),
        datasets={"chest": schema.DatasetConfig("phantom_xray", chest)},
        tasks={
            "finding": schema.TaskConfig(target="finding", **sizes),
            "lungs": schema.TaskConfig(kind="segmentation", **sizes),
        },
        runs={"run": run},
    )


def _measure(stage: str, folder: pathlib.Path) -> dict[str, Any]:
    """Cold and cached starts of a stage, in turn."""
    config = _config(stage)
    found: dict[str, list[dict[str, Any]]] = {"cold": [], "cached": []}
    for turn in range(shared.ROUNDS.value):
        for kind, starts in found.items():
            workdir, cache = f"{stage}-{kind}-{turn}", f"{stage}-cache-{turn}"
            starts.append(
                watched_run.start(config, folder, workdir=workdir, cache=cache)
            )
    return {kind: watched_run.summary(starts) for kind, starts in found.items()}


def main(arguments: list[str]) -> None:
    """Measures, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    results: dict[str, Any] = {
        "network": shared.NETWORK.value,
        "image_size": shared.SIZE.value,
        "batch_size": shared.BATCH.value,
    }
    rows, device = [watched_run.HEAD], "cpu"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        preparation.prepare(_config(_STAGES.value[0]).datasets, folder / "data")
        for stage in _STAGES.value:
            results[stage] = _measure(stage, folder)
            for kind, found in results[stage].items():
                device = found["device"]
                rows.append(watched_run.row(f"{stage}, {kind}", found))
    recording.table(rows)
    recording.write(
        f"startup {shared.NETWORK.value}",
        results,
        n=shared.ROUNDS.value,
        device=device,
    )


if __name__ == "__main__":
    flags.set_default(shared.ROUNDS, 2)
    app.run(main)
