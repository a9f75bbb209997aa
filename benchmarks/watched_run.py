"""The command itself, ended after some steps, with the times at which its parts ended.

`start` runs `mtpret_jax.main` in a process of its own, as `python -m
benchmarks.watched_run`, which puts an eye on preparing, on the streams and on the step.
Needs Linux, which tells the peak of resident memory.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from benchmarks import harness
from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.cli import command, train
from mtpret_jax.experiment import preparation
from mtpret_jax.training import loop

# In their order. The first batch comes after the streams' opening; the first step with
# its compilation.
PARTS = ("imports", "sets ready", "state", "first batch", "first step")
_CONFIG = """
import json, pathlib
import ml_collections

def get_config():
    table = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())
    return ml_collections.ConfigDict(table, sort_keys=False)
"""


def start(
    config: schema.ExperimentConfig,
    folder: pathlib.Path,
    *,
    workdir: str,
    cache: str,
    steps: int = 3,
) -> dict[str, Any]:
    """Runs the command until some steps of its first run are done.

    Args:
      config: The experiment.
      folder: Holds the prepared sets, in `data`; gets config and results.
      workdir: Name of the work folder in it; one that was not there.
      cache: Name of the compilation cache in it, or a path.
      steps: Of the run.

    Returns:
      `seconds`: for each of `PARTS` the time from the start of the process to its end;
      `step_seconds`, of the last half of the steps, the median; `peak_mib` of resident
      memory and `device_peak_mib`, 0 where the device does not tell; `device`.

    Raises:
      RuntimeError: If the command ends before; with what it wrote.
    """
    stem = folder / f"{workdir}-config"
    stem.with_suffix(".py").write_text(_CONFIG)
    stem.with_suffix(".json").write_text(json.dumps(schema.as_dict(config)))
    result = folder / f"{workdir}-result.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.watched_run"),
            *(str(time.time()), str(result), str(steps)),
            f"--config={stem}.py",
            f"--workdir={folder / workdir}",
            f"--data_dir={folder / 'data'}",
        ],
        cwd=harness.REPOSITORY,
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not result.exists():
        raise RuntimeError(
            f"{workdir}: the command ended with {done.returncode} before its step "
            f"{steps}: {done.stderr[-2000:]}"
        )
    return json.loads(result.read_text())


def summary(starts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several starts alike took.

    Args:
      starts: As `start` returns them.

    Returns:
      `seconds`, by part, from the end of the part before it on; `first_step_seconds`
      from the command on; `step_seconds`; `peak_mib`; each a `harness.spread`.
    """
    parts: dict[str, list[float]] = {part: [] for part in PARTS}
    for one in starts:
        before = 0.0
        for part in PARTS:
            parts[part].append(one["seconds"][part] - before)
            before = one["seconds"][part]
    last = PARTS[-1]
    return {
        "first_step_seconds": harness.spread([s["seconds"][last] for s in starts]),
        "seconds": {part: harness.spread(found) for part, found in parts.items()},
        "step_seconds": harness.spread([s["step_seconds"] for s in starts]),
        "peak_mib": harness.spread([s["peak_mib"] for s in starts]),
        "device_peak_mib": max(s["device_peak_mib"] for s in starts),
        "device": starts[0]["device"],
    }


HEAD = ["seconds", *PARTS, "together", "ms of a step", "peak MiB"]


def row(name: str, found: dict[str, Any]) -> list[str]:
    """A summary under `HEAD`."""
    parts = [f"{part['median']:.1f}" for part in found["seconds"].values()]
    together = f"{found['first_step_seconds']['median']:.1f}"
    step = f"{1e3 * found['step_seconds']['median']:.0f}"
    return [name, *parts, together, step, f"{found['peak_mib']['median']:.0f}"]


class _Enough(BaseException):
    """All steps are done."""


class _Watch:
    """Takes the place of what the command calls, calls it, and looks at the clock."""

    def __init__(self, began: float, steps: int) -> None:
        self._began = began
        self._wanted = steps
        self._prepare, self._fit = preparation.prepare, loop.fit
        self.seconds: dict[str, float] = {}
        self.steps: list[float] = []
        self._note("imports")

    def _note(self, part: str) -> None:
        self.seconds.setdefault(part, time.time() - self._began)

    def prepare(self, *arguments: Any, **options: Any) -> Any:
        """`preparation.prepare`."""
        folders = self._prepare(*arguments, **options)
        self._note("sets ready")
        return folders

    def fit(self, segments: Any, state: Any, streams: Any, **options: Any) -> Any:
        """`loop.fit`, without what happens after a step."""
        jax.block_until_ready(state)
        self._note("state")
        step = options["step"]

        def watched(state: Any, batch: types.Batch) -> Any:
            begin = time.perf_counter()
            result = jax.block_until_ready(step(state, batch))
            self._note("first step")
            self.steps.append(time.perf_counter() - begin)
            if len(self.steps) == self._wanted:
                raise _Enough
            return result

        options |= {"step": watched, "hook": lambda *_: None}
        seen = {name: self._batches(stream) for name, stream in streams.items()}
        return self._fit(segments, state, seen, **options)

    def _batches(self, stream: Iterator[types.Batch]) -> Iterator[types.Batch]:
        for batch in stream:
            self._note("first batch")
            yield batch


def _facts(watch: _Watch) -> dict[str, Any]:
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    (peak,) = [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
    device = jax.devices()[0]
    on_device = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    late = sorted(watch.steps[len(watch.steps) // 2 :])
    return {
        "seconds": watch.seconds,
        "step_seconds": late[len(late) // 2],
        "peak_mib": peak / 1024,
        "device_peak_mib": on_device / 2**20,
        "device": "cpu" if device.platform == "cpu" else device.device_kind,
    }


def _watch_command() -> None:
    began, result, steps = sys.argv[1:4]
    del sys.argv[1:4]
    watch = _Watch(float(began), int(steps))
    preparation.prepare, loop.fit = watch.prepare, watch.fit
    try:
        command.run(train, "train", sys.argv[1:])
    except _Enough:
        pathlib.Path(result).write_text(json.dumps(_facts(watch)))
        sys.stderr.flush()
        os._exit(0)  # Not to wait for threads that read ahead.


if __name__ == "__main__":
    _watch_command()
