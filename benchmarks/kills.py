"""The whole recipe, killed again and again at random moments, and given once more.

The tiny demonstration runs to its end without a stop. Then the same command, in a new
folder, is killed (SIGKILL, with all its processes) after a random time, and given again
until it ends; and so on, until there were `--count` kills. Each folder's metrics,
predictions, forgetting and report must be those of the first, seconds left out.

Run:     python -m benchmarks.kills [--count=40] [--seed=0] [--folder=FOLDER]
Expect:  every folder is like the first; an hour or two on two cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import harness

# What depends on the clock, on stops, or on where the folder lies.
_CLOCK = re.compile(
    r"second|wait_share|resumed_at|per_device|utilisation|workdir|memory|versions|command"
)
_FILES = ("metrics.jsonl", "forgetting.json", "run.json")


def _command(work: pathlib.Path, data: pathlib.Path) -> list[str]:
    verb = [sys.executable, "-m", "mtpret_jax.main", "train"]
    return [
        *verb,
        "--config=configs/tiny.py:demo",
        f"--workdir={work}",
        f"--data_dir={data}",
    ]


def _plain(value: Any) -> Any:
    """The same without what depends on the clock."""
    if isinstance(value, Mapping):
        kept = {k: _plain(v) for k, v in value.items() if not _CLOCK.search(str(k))}
        return dict(sorted(kept.items()))
    return [_plain(part) for part in value] if isinstance(value, list) else value


def content(work: pathlib.Path) -> dict[str, Any]:
    """All that a finished folder says, by file."""
    found: dict[str, Any] = {}
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if path.name == "report.json" or path.name in _FILES:
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else None
            text = [path.read_text()] if lines is None else lines
            found[name] = [_plain(json.loads(line)) for line in text]
        elif path.suffix == ".npz" and "predictions" in name:
            with np.load(path) as arrays:
                found[name] = {n: arrays[n].tobytes() for n in arrays.files}
    return found


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a process that leads a group of its own, and all of them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    """Runs, kills, compares; 1 if anything differs."""
    options = harness.parser(__doc__, count=40, seed=0, folder="").parse_args()
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="kills-"))
    rng, kills, wrong, number = random.Random(options.seed), 0, 0, 0
    start = time.monotonic()
    subprocess.run(
        _command(folder / "whole", folder / "data"), check=True, capture_output=True
    )
    length = time.monotonic() - start
    expected = content(folder / "whole")
    harness.show(f"Uninterrupted: {length:.0f} s, {len(expected)} files compared")
    while kills < options.count:
        number += 1
        # Each has its own data too, so that preparing is killed as well.
        work, data = folder / f"work{number}", folder / f"data{number}"
        while True:
            process = subprocess.Popen(
                _command(work, data),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            left = kills < options.count
            moment = rng.uniform(0, length / 2) if left else None
            try:
                _, said = process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                kills += 1
                kill_group(process)
                continue
            if process.returncode:
                wrong += 1
                end = said.decode(errors="replace")[-600:]
                harness.show(f"work{number}: ended with {process.returncode}: {end}")
            break
        found = content(work)
        differing = sorted(
            name
            for name in {*expected, *found}
            if expected.get(name) != found.get(name)
        )
        wrong += bool(differing)
        told = f"differs: {', '.join(differing)}" if differing else "like the first"
        harness.show(f"work{number}: {kills} kills so far; {told}")
    harness.show(f"{kills} kills in {number} folders: {wrong} unlike or failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
