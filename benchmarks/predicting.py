"""Predicting a folder: how near to the bare network, in what memory, after a kill?

    python benchmarks/predicting.py

Writes simulated chests as PNG files, then (1) times `predict` and the bare network by
turns in one process, (2) takes the peak of resident memory of the command on a quarter
of the files and on all, (3) kills it halfway, starts it again and compares the answers.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
import jax
import numpy as np
from absl import app, flags

from mtpret_jax import config as schema
from mtpret_jax.experiment import preparation, workfolder
from mtpret_jax.inference import loader, predictions, preprocessing
from tfds_builders.phantom_xray import simulator

_COUNT = flags.DEFINE_integer("count", 1000, "Files.")
_SIDE = flags.DEFINE_integer("side", 1024, "Height and width of a file, pixels.")
_BACKBONE = flags.DEFINE_string("backbone", "resnet50", "Of the network.")
_SIZE = flags.DEFINE_integer("size", 224, "Side of its input, pixels.")
_BATCH = flags.DEFINE_integer("batch", 16, "Pictures computed at once.")
_FOLDER = flags.DEFINE_string("folder", "", "Where to work; a temporary one if empty.")

_DISTINCT, _TURNS = 8, 3
_REPOSITORY = pathlib.Path(__file__).parents[1]


def _make_model(folder: pathlib.Path) -> pathlib.Path:
    """Trains a classifier for one step."""
    config: Any = schema.defaults()
    config.backbone.name = _BACKBONE.value
    config.datasets.chest = schema.dataset(
        "phantom_xray", body="chest", image_size=256, train=16, validation=8, test=8
    )
    config.tasks.opacity = schema.task(
        dataset="chest", target="finding", image_size=_SIZE.value, batch_size=8
    )
    config.runs.run = schema.run(
        stage="finetune", finetune={"task": "opacity"}, steps=1
    )
    parsed = schema.parse(config)
    folders = preparation.prepare(parsed.datasets, folder / "data")
    workfolder.run(parsed, folder / "work", folders)
    return folder / "work" / "runs" / "run"


def _write(folder: pathlib.Path) -> list[str]:
    """Writes distinct files."""
    folder.mkdir()
    pictures = [
        simulator.simulate(
            "chest", size=_SIDE.value, seed=0, split_index=0, index=index
        ).image
        for index in range(_DISTINCT)
    ]
    for index in range(_COUNT.value):
        picture = pictures[index % _DISTINCT].copy()
        picture[0, :4] = np.frombuffer(index.to_bytes(4, "big"), np.uint8)
        cv2.imwrite(str(folder / f"{index:06d}.png"), picture)
    return sorted(str(path) for path in folder.iterdir())


def _rates(model_folder: pathlib.Path, files: list[str], out: pathlib.Path) -> None:
    """By turns the bare network and `predict`, each on as many pictures as files."""
    model = loader.load(model_folder)
    batch = [preprocessing.read(files[0], model.preparation)] * _BATCH.value
    jax.block_until_ready(model.dispatch(batch, _BATCH.value))  # Compiled now.
    bare, whole = [], []
    for turn in range(_TURNS):
        start = time.perf_counter()
        for _ in range(0, len(files), _BATCH.value):
            jax.block_until_ready(model.dispatch(batch, _BATCH.value))
        middle = time.perf_counter()
        predictions.predict(model, files, out / str(turn), batch_size=_BATCH.value)
        bare.append(len(files) / (middle - start))
        whole.append(len(files) / (time.perf_counter() - middle))
    ratios = np.array(whole) / np.array(bare)
    print(  # noqa: T201
        f"bare network {np.median(bare):.1f} images/s, predict "
        f"{np.median(whole):.1f}; ratio, median of {_TURNS} turns "
        f"{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})"
    )


def _command(model: pathlib.Path, out: pathlib.Path, *files: str) -> list[str]:
    command = [sys.executable, "-m", "mtpret_jax.main", "predict", f"--model={model}"]
    return [*command, f"--out={out}", f"--batch_size={_BATCH.value}", "--quiet", *files]


def _peak(command: list[str]) -> float:
    """The highest resident memory of a command so far, MiB."""
    subprocess.run(command, check=True, cwd=_REPOSITORY)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def _kill_halfway(command: list[str], out: pathlib.Path) -> int:
    """Kills the command once half of the files have a line; how many have."""
    process = subprocess.Popen(command, cwd=_REPOSITORY)
    path = out / "predictions.jsonl"

    def count() -> int:
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    while count() < _COUNT.value / 2:
        if process.poll() is not None:
            raise RuntimeError("The command ended before it could be killed.")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return count()


def main(arguments: list[str]) -> None:
    """Measures and prints."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    with tempfile.TemporaryDirectory(dir=_FOLDER.value or None) as name:
        folder = pathlib.Path(name)
        model, files = _make_model(folder), _write(folder / "files")
        print(  # noqa: T201
            f"{_BACKBONE.value} at {_SIZE.value} px, batch {_BATCH.value}, "
            f"{len(files)} PNG of {_SIDE.value} px; {jax.devices()[0].device_kind}, "
            f"{len(os.sched_getaffinity(0))} cores, jax {jax.__version__}"
        )
        _rates(model, files, folder / "rates")
        some = files[: len(files) // 4]
        first = _peak(_command(model, folder / "some", *some))
        last = _peak(_command(model, folder / "whole", str(folder / "files")))
        print(  # noqa: T201
            f"peak of memory: {first:.0f} MiB with {len(some)} files, {last:.0f} MiB "
            f"with {len(files)} ({last / first:.3f})"
        )
        again = _command(model, folder / "killed", str(folder / "files"))
        kept = _kill_halfway(again, folder / "killed")
        subprocess.run(again, check=True, cwd=_REPOSITORY)
        tables = [
            (folder / part / "predictions.csv").read_bytes()
            for part in ("whole", "killed")
        ]
        lines = (folder / "killed" / "predictions.jsonl").read_text().splitlines()
        unique = len({json.loads(line)["file"] for line in lines})
        print(  # noqa: T201
            f"killed after {kept}, started again: {len(lines)} lines, {unique} files, "
            f"the same table as in one go: {tables[0] == tables[1]}"
        )


if __name__ == "__main__":
    app.run(main)
