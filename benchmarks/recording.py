"""What every benchmark writes: a table to look at, and figures with their machine.

A script shows rows with `table`, and hands its figures to `write`, which adds command,
machine, versions and date. `spread` sums up the rounds of a measurement.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

_RESULTS = flags.DEFINE_string(
    "results",
    str(pathlib.Path(__file__).parent / "results"),
    "Folder that gets the figures as JSON; empty: none are written.",
)

_PACKAGES = ("mtpret_jax", "jax", "jaxlib", "flax", "optax", "grain", "numpy")
_PACKAGES += ("opencv-python-headless",)
_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def machine(device: str) -> dict[str, Any]:
    """Processor, usable cores, memory in GiB, and the device that computed."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "device": device,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """The processor's name where the system tells it."""
    if _CPU_INFO.is_file():
        found = re.search(r"model name\s*:\s*(.+)", _CPU_INFO.read_text())
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of the libraries that our side stands on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Median, lowest and highest of the rounds of a measurement, and their number."""
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "rounds": len(values),
    }


def show(text: str) -> None:
    """Writes a line to the terminal at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(rows: Sequence[Sequence[str]]) -> None:
    """Shows rows in columns; the first row is the heading, the first column text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        show("  ".join(cells))


def write(
    question: str,
    results: Mapping[str, Any],
    *,
    n: int,
    device: str = "cpu",
    more_versions: Mapping[str, str] | None = None,
) -> None:
    """Writes `<question>_<device>.json` into the folder of the flag `--results`.

    Args:
      question: Name of the file: what was asked, with the network where there are more.
      results: The figures.
      n: Rounds, or whatever was repeated.
      device: "cpu", or the kind that JAX gives an accelerator.
      more_versions: Of libraries beside ours, say PyTorch's.
    """
    if not _RESULTS.value:
        return
    folder = pathlib.Path(_RESULTS.value)
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "_", f"{question} {device}".lower())
    record = {
        "question": question,
        "command": _command(),
        "machine": machine(device),
        "versions": {**versions(), **(more_versions or {})},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "n": n,
        "results": results,
    }
    path = folder / f"{name}.json"
    # Five digits: no measurement here has more.
    record = json.loads(
        json.dumps(record), parse_float=lambda x: float(f"{float(x):.5g}")
    )
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    show(f"Written: {os.path.relpath(path)}")


def _round(number: str) -> float:
    """Five digits: no measurement here has more."""
    return float(f"{float(number):.5g}")


def _command() -> str:
    """The command line; of absolute paths, which mean nothing elsewhere, the name."""
    script = pathlib.Path(sys.argv[0]).stem
    arguments = [re.sub(r"(^|[=:])/\S*/", r"\1", a) for a in sys.argv[1:]]
    return " ".join(["python -m", f"benchmarks.{script}", *arguments])
