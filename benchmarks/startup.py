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
from collections.abc import Sequence
from typing import Any

from absl import app, flags

from benchmarks import recording, watched_run
from mtpret_jax import config as schema
from mtpret_jax import preparation

_ALL = ["contrastive", "continual", "finetune"]
_STAGES = flags.DEFINE_multi_enum("stage", _ALL, _ALL, "Which.")
_NETWORK = flags.DEFINE_enum("network", "resnet18", ["resnet18", "resnet50"], "Which.")
_WIDTH = flags.DEFINE_integer("width", 64, "Channels of the stem.")
_SIZE = flags.DEFINE_integer("image_size", 128, "Side of the input, pixels.")
_BATCH = flags.DEFINE_integer("batch_size", 32, "Examples of a batch.")
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Of each cold and cached start.")


def _config(stage: str) -> schema.ExperimentConfig:
    """A config of one run, on simulated chests."""
    sizes = {"image_size": _SIZE.value, "batch_size": _BATCH.value}
    table = schema.defaults()
    table.backbone.update(name=_NETWORK.value, width=_WIDTH.value)
    table.datasets.chest = schema.dataset(
        "phantom_xray", image_size=_SIZE.value, train=128, validation=16, test=16
    )
    table.tasks.finding = schema.task(dataset="chest", target="finding", **sizes)
    table.tasks.lungs = schema.task(kind="segmentation", dataset="chest", **sizes)
    table.runs.run = schema.run(
        stage=stage,
        steps=100,
        finetune={"task": "finding"},
        continual={"tasks": ("finding", "lungs")},
        contrastive={
            "datasets": {"chest": 1.0},
            "queue_size": 2 * _BATCH.value,
            "pool": "paper",
            **sizes,
        },
    )
    return schema.parse(table)


def summary(starts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several starts alike took.

    Args:
      starts: As `watched_run.start` returns them.

    Returns:
      `seconds`, by part, from the end of the part before it on; `first_step_seconds`
      from the command on; `step_seconds`; `peak_mib`; each a `recording.spread`.
    """
    parts: dict[str, list[float]] = {part: [] for part in watched_run.PARTS}
    for one in starts:
        before = 0.0
        for part in watched_run.PARTS:
            parts[part].append(one["seconds"][part] - before)
            before = one["seconds"][part]
    last = watched_run.PARTS[-1]
    return {
        "first_step_seconds": recording.spread([s["seconds"][last] for s in starts]),
        "seconds": {part: recording.spread(found) for part, found in parts.items()},
        "step_seconds": recording.spread([s["step_seconds"] for s in starts]),
        "peak_mib": recording.spread([s["peak_mib"] for s in starts]),
        "device_peak_mib": max(s["device_peak_mib"] for s in starts),
        "device": starts[0]["device"],
    }


HEAD = ["seconds", *watched_run.PARTS, "together", "ms of a step", "peak MiB"]


def row(name: str, found: dict[str, Any]) -> list[str]:
    """A summary under `HEAD`."""
    parts = [f"{part['median']:.1f}" for part in found["seconds"].values()]
    together = f"{found['first_step_seconds']['median']:.1f}"
    step = f"{1e3 * found['step_seconds']['median']:.0f}"
    return [name, *parts, together, step, f"{found['peak_mib']['median']:.0f}"]


def _measure(stage: str, folder: pathlib.Path) -> dict[str, Any]:
    """Cold and cached starts of a stage, in turn."""
    config = _config(stage)
    found: dict[str, list[dict[str, Any]]] = {"cold": [], "cached": []}
    for turn in range(_ROUNDS.value):
        for kind, starts in found.items():
            workdir, cache = f"{stage}-{kind}-{turn}", f"{stage}-cache-{turn}"
            starts.append(
                watched_run.start(config, folder, workdir=workdir, cache=cache)
            )
    return {kind: summary(starts) for kind, starts in found.items()}


def main(arguments: list[str]) -> None:
    """Measures, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    results: dict[str, Any] = {
        "network": _NETWORK.value,
        "image_size": _SIZE.value,
        "batch_size": _BATCH.value,
    }
    rows, device = [HEAD], "cpu"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        preparation.prepare(_config(_STAGES.value[0]).datasets, folder / "data")
        for stage in _STAGES.value:
            results[stage] = _measure(stage, folder)
            for kind, found in results[stage].items():
                device = found["device"]
                rows.append(row(f"{stage}, {kind}", found))
    recording.table(rows)
    recording.write(
        f"startup {_NETWORK.value}", results, n=_ROUNDS.value, device=device
    )


if __name__ == "__main__":
    app.run(main)
