"""What all benchmarks share: options, turns, sides in processes, tables and figures.

A script makes its options with `parser`, times what it compares with `take_turns`,
shows rows with `table` and hands its figures to `write`, which adds command, machine,
versions and date. Standard library alone: the PyTorch side imports it in an interpreter
of its own.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0))

_OPTIONS: dict[str, dict[str, Any]] = {
    "network": {"choices": ["resnet18", "resnet50"], "help": "backbone"},
    "width": {"type": int, "help": "channels of the stem"},
    "image_size": {"type": int, "help": "side of the input, pixels"},
    "stored_size": {"type": int, "help": "longest side of stored images, pixels"},
    "images": {"type": int, "help": "stored images"},
    "batch_size": {"type": int, "help": "images, or pairs, of a batch"},
    "dtype": {"choices": ["float32", "bfloat16"], "help": "of the computation"},
    "steps": {"type": int, "help": "steps that are timed in one turn"},
    "warm_up": {"type": int, "help": "steps before the clock starts"},
    "rounds": {"type": int, "help": "turns of each"},
    "count": {"type": int, "help": "how often"},
    "seed": {"type": int, "help": "of what is drawn by chance"},
    "folder": {"help": "to work in, kept; empty: a temporary one"},
}
_PACKAGES = ("mtpret_jax", "jax", "jaxlib", "flax", "optax", "grain", "numpy")
_PACKAGES += ("opencv-python-headless",)
_CPU_INFO = pathlib.Path("/proc/cpuinfo")
_LAST_LINES = 30  # of a failed side's messages that are shown

T = TypeVar("T")


def parser(doc: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """A parser for a script.

    Args:
      doc: The script's docstring; its first line is shown.
      **defaults: Shared options that the script takes, each with its default.
    """
    made = argparse.ArgumentParser(
        description=(doc or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, default in defaults.items():
        made.add_argument(f"--{name}", default=default, **_OPTIONS[name])
    made.add_argument(
        "--results",
        default=str(pathlib.Path(__file__).parent / "results"),
        help="folder that gets the figures as JSON; empty: none are written",
    )
    return made


def take_turns(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Calls each way once a round; who is first alternates.

    A machine that drifts slows all, so the ratio of two neighbouring turns is steady
    where the rates are not.

    Returns:
      What each way returned, one for each round.
    """
    found: dict[str, list[T]] = {name: [] for name in ways}
    for index in range(rounds):
        for name in list(ways)[:: 1 if index % 2 == 0 else -1]:
            found[name].append(ways[name]())
    return found


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Median, lowest and highest of the rounds of a measurement, and their number."""
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "rounds": len(values),
    }


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """`ratio`, the median of the rounds' ratios, and `ratio_range`."""
    found = spread([a / b for a, b in zip(above, below, strict=True)])
    return {"ratio": found["median"], "ratio_range": [found["low"], found["high"]]}


class Side:
    """An object in a process of its own, whose methods take and return JSON."""

    def __init__(
        self, python: str, module: str, settings: Mapping[str, Any], **environment: str
    ) -> None:
        """Starts the process.

        Args:
          python: Interpreter.
          module: Of this repository, ends in `serve(...)` when run.
          settings: What the object is made from.
          **environment: Variables that are set unless the user has set them.
        """
        self._module = module
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, "-m", module, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            cwd=REPOSITORY,
            env={**environment, **os.environ},
        )

    def ask(self, method: str, **arguments: Any) -> Any:
        """Calls `method` over there and waits for the answer.

        Raises:
          RuntimeError: If the side failed; holds the end of what it wrote.
        """
        process = self._process
        answer = ""
        try:
            process.stdin.write(json.dumps([method, arguments]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            process.wait()
        if not answer:
            process.wait()
            self._messages.seek(0)
            lines = self._messages.read().splitlines()[-_LAST_LINES:]
            raise RuntimeError(
                f"{self._module} ended with {process.returncode} when asked for "
                f"'{method}':\n" + "\n".join(lines)
            )
        return json.loads(answer)

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._messages.close()


def serve(make: Callable[[dict[str, Any]], Any]) -> None:
    """Answers questions from standard input until it is closed.

    Args:
      make: Settings to the object whose methods are called.
    """
    # Whatever libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side = make(json.loads(sys.argv[1]))
    for line in sys.stdin:
        method, arguments = json.loads(line)
        answers.write(json.dumps(getattr(side, method)(**arguments)) + "\n")
        answers.flush()


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
    options: argparse.Namespace,
    *,
    n: int,
    device: str = "cpu",
    more_versions: Mapping[str, str] | None = None,
) -> None:
    """Writes `<question>_<device>.json` into the folder of the option `--results`.

    Args:
      question: Name of the file: what was asked, with the network where there are more.
      results: The figures.
      options: Of the script.
      n: Rounds, or whatever was repeated.
      device: "cpu", or the kind that JAX gives an accelerator.
      more_versions: Versions of further libraries, say PyTorch's.
    """
    if not options.results:
        return
    folder = pathlib.Path(options.results)
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


def machine(device: str) -> dict[str, Any]:
    """Processor, usable cores, memory in GiB, and the device that computed."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = platform.processor() or platform.machine()
    if _CPU_INFO.is_file():
        named = re.search(r"model name\s*:\s*(.+)", _CPU_INFO.read_text())
        cpu = named.group(1).strip() if named else cpu
    return {
        "cpu": cpu,
        "cores": CORES,
        "memory_gib": round(memory, 1),
        "device": device,
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that our side stands on."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


def _command() -> str:
    """The command line; of absolute paths, which mean nothing elsewhere, the name."""
    script = pathlib.Path(sys.argv[0]).stem
    arguments = [re.sub(r"(^|[=:])/\S*/", r"\1", a) for a in sys.argv[1:]]
    return " ".join(["python -m", f"benchmarks.{script}", *arguments])
