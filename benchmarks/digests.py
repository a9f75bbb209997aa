"""What digests and waiting for the disk cost: their share of a whole experiment's time.

A config is run in this process with every function timed that hashes a file, looks a
digest up or waits until something is on disk, in whichever thread it is called.

Run:     python -m benchmarks.digests [--config=configs/demo.py] [--folder=FOLDER]
Expect:  at most 3 % of the demonstration's time, ten minutes on two cores.
"""

from __future__ import annotations

import collections
import functools
import os
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable
from typing import Any

from benchmarks import harness
from mtpret_jax import main as command
from tfds_builders import whole

_TIMED = ("note", "compare", "digests", "seal", "check", "sync", "sync_folder")


class Clock:
    """Seconds within timed calls, by name; a call within another counts for that.

    Attributes:
      seconds: By name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self._inside = threading.local()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        @functools.wraps(call)
        def run(*given: Any, **options: Any) -> Any:
            if getattr(self._inside, "busy", False):
                return call(*given, **options)
            self._inside.busy, start = True, time.perf_counter()
            try:
                return call(*given, **options)
            finally:
                self._inside.busy = False
                self.seconds[name] += time.perf_counter() - start

        return run


def main() -> None:
    """Runs the config; prints and writes what its parts took."""
    parser = harness.parser(__doc__, folder="")
    parser.add_argument("--config", default="configs/demo.py", help="to run")
    options = parser.parse_args()
    folder = options.folder or tempfile.mkdtemp(prefix="digests-")
    clock, hashes = Clock(), whole.hashlib
    for name in _TIMED:
        setattr(whole, name, clock.timed(name, getattr(whole, name)))
    os.fsync = clock.timed("fsync", os.fsync)
    timed_hash = clock.timed("sha256", hashes.sha256)
    whole.hashlib = types.SimpleNamespace(sha256=timed_hash)
    start = time.perf_counter()
    try:
        command.run(
            [
                "train",
                f"--config={options.config}",
                f"--workdir={folder}/work",
                f"--data_dir={folder}/data",
            ]
        )
    except SystemExit as stop:
        if stop.code:
            raise
    total = time.perf_counter() - start
    spent = dict(sorted(clock.seconds.items(), key=lambda part: -part[1]))
    harness.table(
        [["part", "seconds"], *([name, f"{s:.2f}"] for name, s in spent.items())]
    )
    share = sum(spent.values()) / total
    harness.show(f"{sum(spent.values()):.1f} of {total:.0f} s: {100 * share:.2f} %")
    sys.exit(share > 0.03)


if __name__ == "__main__":
    main()
