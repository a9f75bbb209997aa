"""Preparing a set: does memory stay flat, how fast is it, does it go on after a kill.

    python benchmarks/preparation.py

Writes folders of distinct PNG files (3 GB), prepares each through `xray_folder` in a
process of its own and prints the peak of its resident memory and images per second.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import cv2
import numpy as np
from absl import app, flags

_SIDE = flags.DEFINE_integer("side", 1024, "Height and width of a picture, pixels.")
_COUNTS = flags.DEFINE_multi_integer("count", [1000, 4000], "Pictures of each set.")
_FOLDER = flags.DEFINE_string("folder", "", "Where to work; a temporary one if empty.")

_DISTINCT = 8
_PREPARE = """
import resource, sys, time
from tfds_builders import xray_folder
source, data_dir = sys.argv[1:]
start = time.perf_counter()
config = xray_folder.Config(name="benchmark", folder=source)
builder = xray_folder.Builder(data_dir=data_dir, config=config)
builder.download_and_prepare()
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("RESULT", seconds, peak, builder.info.splits.total_num_examples)
"""


def _write(folder: pathlib.Path, count: int, side: int) -> None:
    """Writes pictures like radiographs; all files differ, if only in one corner."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    pictures = [
        (120 + 80 * np.sin(9 * x + i) * np.cos(7 * y) + rng.normal(0, 4, x.shape))
        .clip(0, 255)
        .astype(np.uint8)
        for i in range(_DISTINCT)
    ]
    for index in range(count):
        picture = pictures[index % _DISTINCT]
        picture[0, :4] = np.frombuffer(index.to_bytes(4, "big"), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{index:06d}.png"), picture)


def _start(source: pathlib.Path, data_dir: pathlib.Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PREPARE, str(source), str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=pathlib.Path(__file__).parents[1],
    )


def _finish(process: subprocess.Popen[str]) -> tuple[float, float, int]:
    """Returns seconds, peak of memory in MiB and images."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"The preparation ended with {process.returncode}.")
    (line,) = [text for text in output.splitlines() if text.startswith("RESULT")]
    seconds, peak, count = line.split()[1:]
    return float(seconds), float(peak), int(count)


def _kill_when_half_is_done(
    process: subprocess.Popen[str], data_dir: pathlib.Path, count: int
) -> int:
    """Kills it once half of the images are in finished shards; returns how many."""
    while (done := _finished(data_dir)) < count / 2:
        if process.poll() is not None:
            raise RuntimeError("The preparation ended before it could be killed.")
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return done


def _finished(data_dir: pathlib.Path) -> int:
    """Images in finished shards of a preparation under way."""
    reports = data_dir.glob("xray_folder/benchmark/*.partial/*/*.json")
    return sum(len(json.loads(path.read_text())["rows"]) for path in reports)


def _same(one: pathlib.Path, other: pathlib.Path) -> bool:
    names = [
        sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file())
        for f in (one, other)
    ]
    return names[0] == names[1] and all(
        (one / name).read_bytes() == (other / name).read_bytes() for name in names[0]
    )


def main(arguments: list[str]) -> None:
    """Measures and prints."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    with tempfile.TemporaryDirectory(dir=_FOLDER.value or None) as name:
        folder, peaks = pathlib.Path(name), []
        print(f"{_SIDE.value} px, {len(os.sched_getaffinity(0))} cores")  # noqa: T201
        source = whole = folder
        count = 0
        for count in _COUNTS.value:
            source, whole = folder / f"source-{count}", folder / f"whole-{count}"
            _write(source, count, _SIDE.value)
            seconds, peak, made = _finish(_start(source, whole))
            peaks.append(peak)
            print(  # noqa: T201
                f"{made} images: peak {peak:.0f} MiB, {seconds:.0f} s, "
                f"{made / seconds:.1f} images/s"
            )
        print(f"peaks, last to first: {peaks[-1] / peaks[0]:.3f}")  # noqa: T201
        process = _start(source, folder / "killed")
        kept = _kill_when_half_is_done(process, folder / "killed", count)
        seconds, peak, _ = _finish(_start(source, folder / "killed"))
        same = _same(folder / "killed" / "xray_folder", whole / "xray_folder")
        print(  # noqa: T201
            f"killed after {kept} of {count} images, then {seconds:.0f} s more, peak "
            f"{peak:.0f} MiB; the same bytes as in one go: {same}"
        )
        shutil.rmtree(folder / "killed")


if __name__ == "__main__":
    app.run(main)
