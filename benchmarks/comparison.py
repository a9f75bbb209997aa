"""What the comparisons with PyTorch share: options, both sides, ratios, the table."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import harness

OURS, TORCH = "ours", "pytorch"
# Both sides share one GPU: JAX must not take all of its memory.
_SHARED_GPU = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all comparisons have."""
    made = harness.parser(
        doc,
        network="resnet18",
        image_size=128,
        batch_size=32,
        dtype="float32",
        steps=6,
        rounds=5,
    )
    made.add_argument(
        "--torch_python",
        default=sys.executable,
        help="interpreter with PyTorch and torchvision; empty: ours alone is measured",
    )
    made.add_argument(
        "--torch_compile",
        action=argparse.BooleanOptionalAction,
        help="torch.compile on the PyTorch side; default: on a GPU",
    )
    return made


def settings(kind: str, options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """What both sides are made from; see `ours.config` for the keys."""
    names = ("network", "image_size", "batch_size", "dtype")
    return {"kind": kind, **{name: getattr(options, name) for name in names}, **more}


def _has_torch(python: str) -> bool:
    """Whether the interpreter has PyTorch. One that was named must have it."""
    if not python:
        return False
    if python == sys.executable:
        return importlib.util.find_spec("torchvision") is not None
    subprocess.run([python, "-c", "import torch, torchvision"], check=True)
    return True


@contextlib.contextmanager
def sides(
    kind: str, made_from: Mapping[str, Any], options: argparse.Namespace
) -> Iterator[tuple[dict[str, harness.Side], dict[str, dict[str, Any]]]]:
    """Starts both sides and asks for their facts.

    Args:
      kind: Module of `reference/`. That side may say in its facts that it is not
        `comparable`; then ours goes on alone.
      made_from: See `settings`.
      options: Of the script.

    Yields:
      The sides by name, and what each says of itself.

    Raises:
      RuntimeError: If the sides do not compute the same network on the same device.
    """
    with contextlib.ExitStack() as stack:
        started: dict[str, harness.Side] = {}
        facts: dict[str, dict[str, Any]] = {}

        def start(name: str, *arguments: Any, **environment: str) -> None:
            started[name] = side = harness.Side(*arguments, **environment)
            stack.enter_context(side)
            facts[name] = side.ask("facts")

        start(OURS, sys.executable, "benchmarks.ours", made_from, **_SHARED_GPU)
        if _has_torch(options.torch_python):
            asked = {**made_from, "torch_compile": options.torch_compile}
            start(TORCH, options.torch_python, f"benchmarks.reference.{kind}", asked)
            for same in ("parameters", "device"):
                if facts[OURS][same] != facts[TORCH][same]:
                    raise RuntimeError(
                        f"The sides differ in {same}: ours {facts[OURS][same]}, "
                        f"PyTorch {facts[TORCH][same]}; they cannot be compared."
                    )
            if not facts[TORCH].pop("comparable", True):
                del started[TORCH]
                harness.show("torchvision's operators are missing: ours alone.")
        else:
            harness.show(
                "No PyTorch here, so ours alone: name an interpreter that has it by "
                "--torch_python."
            )
        yield started, facts


def rates(seconds: Mapping[str, Sequence[float]], images: int) -> dict[str, Any]:
    """Images (pairs) a second of each side, and ours over PyTorch's.

    Args:
      seconds: Of each turn, by side.
      images: Of a turn.

    Returns:
      A `harness.spread` for each side; with both also what `harness.ratio` gives.
    """
    found: dict[str, Any] = {
        name: harness.spread([images / second for second in values])
        for name, values in seconds.items()
    }
    if TORCH in seconds:
        found |= harness.ratio(seconds[TORCH], seconds[OURS])
    return found


def measure(
    started: Mapping[str, harness.Side],
    options: argparse.Namespace,
    method: str,
    *,
    steps: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The `rates` of a method of the sides; `steps` a turn, else those of `options`."""
    steps = steps or options.steps
    ways = {
        name: lambda side=side: side.ask(method, steps=steps, **more)
        for name, side in started.items()
    }
    seconds = harness.take_turns(ways, options.rounds)
    return rates(seconds, steps * options.batch_size)


def show(found: Mapping[str, Mapping[str, Any]], unit: str) -> None:
    """Shows a row for each measurement."""
    rows = [["", f"ours, {unit}", f"PyTorch, {unit}", "ratio", "range of rounds"]]
    for name, row in found.items():
        cells = [name]
        for side in (OURS, TORCH):
            cells.append(f"{row[side]['median']:.1f}" if side in row else "-")
        if "ratio" in row:
            low, high = row["ratio_range"]
            cells += [f"{row['ratio']:.3f}", f"{low:.3f} to {high:.3f}"]
        else:
            cells += ["-", "-"]
        rows.append(cells)
    harness.table(rows)


def write(
    question: str,
    found: Mapping[str, Mapping[str, Any]],
    made_from: Mapping[str, Any],
    facts: Mapping[str, dict[str, Any]],
    options: argparse.Namespace,
    **more: Any,
) -> None:
    """Writes the figures, with `<measurement>_ratio` at the top where there are two.

    Args:
      question: First word of the file's name; network, size and dtype follow.
      found: As `show` takes it.
      made_from: See `settings`.
      facts: What each side says of itself.
      options: Of the script.
      **more: Further results.
    """
    results: dict[str, Any] = {}
    for name, row in found.items():
        for key in ("ratio", "ratio_range"):
            if key in row:
                results[f"{name}_{key}"] = row[key]
    theirs = dict(facts.get(TORCH, {}))
    versions = theirs.pop("versions", {})
    results |= {"rates": found, "settings": dict(made_from), **more}
    results |= {"pytorch": theirs, "parameters": facts[OURS]["parameters"]}
    part = [question, options.network, str(options.image_size)]
    if options.dtype != "float32":
        part.append(options.dtype)
    harness.write(
        "_".join(part),
        results,
        options,
        n=options.rounds,
        device=facts[OURS]["device"],
        more_versions=versions,
    )


def compare_steps(
    kind: str, question: str, made_from: Mapping[str, Any], options: argparse.Namespace
) -> None:
    """Measures the training step of both sides; shows and writes it."""
    with sides(kind, made_from, options) as (started, facts):
        found = {"step": measure(started, options, "step")}
    show(found, "images/s")
    write(question, found, made_from, facts, options)
