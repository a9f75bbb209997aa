"""A folder of images, prepared or predicted: how fast, in what memory, after a kill.

Writes distinct PNG files, does a quarter of them and all in processes of their own, and
takes the peak of resident memory; kills the same command halfway, gives it again and
compares what is there. `predict` also takes turns with the bare network.

Run:     python -m benchmarks.folders --what=prepare
         python -m benchmarks.folders --what=predict --network=resnet18
Expect:  as much memory for all files as for a quarter; the same bytes after a kill.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
import jax
import numpy as np

from benchmarks import harness
from mtpret_jax import config as schema
from mtpret_jax.experiment import preparation, workfolder
from mtpret_jax.inference import loader, predictions, preprocessing

_DISTINCT = 8
_PREPARE = """
import sys
from tfds_builders import xray_folder
config = xray_folder.Config(name="benchmark", folder=sys.argv[1])
xray_folder.Builder(data_dir=sys.argv[2], config=config).download_and_prepare()
"""


def write_images(folder: pathlib.Path, count: int, side: int) -> None:
    """Writes images like radiographs; all files differ, if only in one corner."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    images = [
        (120 + 80 * np.sin(9 * x + i) * np.cos(7 * y) + rng.normal(0, 4, x.shape))
        .clip(0, 255)
        .astype(np.uint8)
        for i in range(_DISTINCT)
    ]
    for index in range(count):
        image = images[index % _DISTINCT]
        image[0, :4] = np.frombuffer(index.to_bytes(4, "big"), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index:06d}.png"), image)


def _make_model(folder: pathlib.Path, network: str, size: int) -> pathlib.Path:
    """Trains a classifier for one step."""
    config: Any = schema.defaults()
    config.backbone.name = network
    config.datasets.chest = schema.dataset(
        "phantom_xray", body="chest", image_size=256, train=16, validation=8, test=8
    )
    config.tasks.opacity = schema.task(
        dataset="chest", target="finding", image_size=size, batch_size=8
    )
    config.runs.run = schema.run(
        stage="finetune", finetune={"task": "opacity"}, steps=1
    )
    parsed = schema.parse(config)
    folders = preparation.prepare(parsed.datasets, folder / "data")
    workfolder.run(parsed, folder / "work", folders)
    return folder / "work" / "runs" / "run"


def _against_the_network(
    folder: pathlib.Path, files: list[str], out: pathlib.Path, options: Any
) -> dict[str, Any]:
    """`predict` and the bare network by turns, each on as many images as files."""
    model, size = loader.load(folder), options.batch_size
    batch = [preprocessing.read(files[0], model.preparation)] * size
    jax.block_until_ready(model.dispatch(batch, size))  # Compiled now.
    turns = iter(range(options.rounds))

    def bare() -> float:
        start = time.perf_counter()
        for _ in range(0, len(files), size):
            jax.block_until_ready(model.dispatch(batch, size))
        return time.perf_counter() - start

    def whole() -> float:
        start = time.perf_counter()
        predictions.predict(model, files, out / str(next(turns)), batch_size=size)
        return time.perf_counter() - start

    seconds = harness.take_turns({"bare": bare, "predict": whole}, options.rounds)
    rates = {
        name: harness.spread([len(files) / each for each in taken])
        for name, taken in seconds.items()
    }
    return {"rates": rates, **harness.ratio(seconds["bare"], seconds["predict"])}


def _same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether two folders hold the same tables, records and indices."""
    parts = [
        {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.suffix == ".csv" or ".array_record" in path.name
        }
        for folder in (one, other)
    ]
    return bool(parts[0]) and parts[0] == parts[1]


def _measure(
    commands: dict[str, list[str]], outs: dict[str, pathlib.Path], images: int
) -> dict[str, Any]:
    """Seconds and peaks of a quarter and of all; what a kill halfway leaves."""
    found: dict[str, Any] = {}
    for name in ("quarter", "all"):
        start = time.perf_counter()
        subprocess.run(commands[name], check=True, cwd=harness.REPOSITORY)
        seconds = time.perf_counter() - start
        # Of all children so far, the largest: what more files add shows.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        found[name] = {"seconds": seconds, "peak_mib": peak}
    found["images_per_second"] = images / found["all"]["seconds"]
    process = subprocess.Popen(commands["killed"], cwd=harness.REPOSITORY)
    time.sleep(found["all"]["seconds"] / 2)
    process.kill()
    process.wait()
    subprocess.run(commands["killed"], check=True, cwd=harness.REPOSITORY)
    found["same_after_a_kill"] = _same(outs["all"], outs["killed"])
    return found


def _parse() -> argparse.Namespace:
    parser = harness.parser(
        __doc__,
        images=1000,
        stored_size=1024,
        network="resnet50",
        image_size=224,
        batch_size=16,
        rounds=3,
        folder="",
    )
    parser.add_argument("--what", default="predict", choices=["predict", "prepare"])
    return parser.parse_args()


def main() -> None:
    """Measures, shows and writes."""
    options = _parse()
    with tempfile.TemporaryDirectory(dir=options.folder or None) as name:
        folder, found = pathlib.Path(name), {}
        counts = {"quarter": options.images // 4, "all": options.images}
        for part, count in counts.items():
            write_images(folder / part, count, options.stored_size)
        sources = {part: folder / part for part in counts}
        sources["killed"] = folder / "all"
        outs = {part: folder / f"out-{part}" for part in sources}
        if options.what == "prepare":
            start = [sys.executable, "-c", _PREPARE]
            commands = {
                part: [*start, os.fspath(sources[part]), os.fspath(out)]
                for part, out in outs.items()
            }
        else:
            model = _make_model(folder, options.network, options.image_size)
            files = sorted(map(str, (folder / "all" / "images").iterdir()))
            found = _against_the_network(model, files, folder / "turns", options)
            start = [sys.executable, "-m", "mtpret_jax.main", "predict", "--quiet"]
            start += [f"--model={model}", f"--batch_size={options.batch_size}"]
            commands = {
                part: [*start, f"--out={out}", os.fspath(sources[part] / "images")]
                for part, out in outs.items()
            }
        found |= _measure(commands, outs, options.images)
    rows = [[key, f"{found[key]['seconds']:.0f}"] for key in counts]
    for row in rows:
        row.append(f"{found[row[0]]['peak_mib']:.0f}")
    harness.table([["files", "seconds", "peak MiB"], *rows])
    harness.show(f"{found['images_per_second']:.1f} images/s; {found}")
    name = f"folders {options.what} {options.network}"
    harness.write(name, found, options, n=options.rounds)


if __name__ == "__main__":
    main()
