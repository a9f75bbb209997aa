"""What the comparisons with PyTorch share: flags, both sides, ratios and the table."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from benchmarks import pairing, recording, shared

_TORCH = flags.DEFINE_string(
    "torch_python",
    sys.executable,
    "Interpreter that has PyTorch and torchvision; empty: ours alone is measured.",
)
_COMPILE = flags.DEFINE_boolean(
    "torch_compile", None, "torch.compile on the PyTorch side; default: on a GPU."
)

OURS, TORCH = "ours", "pytorch"
# Both sides share one GPU: JAX must not take all of its memory.
_SHARED_GPU = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}


def settings(kind: str, **options: Any) -> dict[str, Any]:
    """What both sides are made from; see `ours.config` for the keys."""
    return {
        "kind": kind,
        "network": shared.NETWORK.value,
        "image_size": shared.SIZE.value,
        "batch_size": shared.BATCH.value,
        "dtype": shared.DTYPE.value,
        **options,
    }


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
    made_from: Mapping[str, Any], reference: str, *, ours: str = "benchmarks.ours"
) -> Iterator[tuple[dict[str, pairing.Side], dict[str, dict[str, Any]]]]:
    """Starts both sides and asks for their facts.

    Args:
      made_from: See `settings`.
      reference: Module of the PyTorch side. It may say in its facts that it is not
        `comparable`; then ours goes on alone.
      ours: Module of our side.

    Yields:
      The sides by name, and what each says of itself.

    Raises:
      RuntimeError: If the sides do not compute the same network on the same device.
    """
    with contextlib.ExitStack() as stack:
        started = {OURS: pairing.Side(sys.executable, ours, made_from, **_SHARED_GPU)}
        stack.enter_context(started[OURS])
        facts = {OURS: started[OURS].ask("facts")}
        if _has_torch(_TORCH.value):
            asked = {**made_from, "torch_compile": _COMPILE.value}
            started[TORCH] = pairing.Side(_TORCH.value, reference, asked)
            stack.enter_context(started[TORCH])
            facts[TORCH] = started[TORCH].ask("facts")
            for same in ("parameters", "device"):
                if facts[OURS][same] != facts[TORCH][same]:
                    raise RuntimeError(
                        f"The sides differ in {same}: ours {facts[OURS][same]}, "
                        f"PyTorch {facts[TORCH][same]}; they cannot be compared."
                    )
            if not facts[TORCH].pop("comparable", True):
                del started[TORCH]
                recording.show("torchvision's operators are missing: ours alone.")
        else:
            recording.show(
                "No PyTorch here, so ours alone: name an interpreter that has it by "
                "--torch_python."
            )
        yield started, facts


def images(steps: int) -> int:
    """Images, or pairs, that one side takes in so many steps."""
    return shared.BATCH.value * steps


def rates(seconds: Mapping[str, Sequence[float]], steps: int) -> dict[str, Any]:
    """Images (pairs) a second of each side, and ours over PyTorch's.

    Args:
      seconds: Of each turn, by side.
      steps: Of a turn.

    Returns:
      For each side a `recording.spread`; with both also `ratio`, the median of the
      rounds' ratios, and `ratio_range`.
    """
    found: dict[str, Any] = {
        name: recording.spread([images(steps) / second for second in values])
        for name, values in seconds.items()
    }
    if TORCH in seconds:
        paired = zip(seconds[OURS], seconds[TORCH], strict=True)
        ratios = recording.spread([theirs / ours for ours, theirs in paired])
        found["ratio"] = ratios["median"]
        found["ratio_range"] = [ratios["low"], ratios["high"]]
    return found


def measure(
    started: Mapping[str, pairing.Side],
    method: str,
    *,
    steps: int | None = None,
    **more: Any,
) -> Any:
    """The `rates` of a method of both sides; `steps` a turn, else --steps."""
    steps = steps or shared.STEPS.value
    seconds = pairing.take_turns(
        started, shared.ROUNDS.value, method, steps=steps, **more
    )
    return rates(seconds, steps)


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
    recording.table(rows)


def write(
    question: str,
    found: Mapping[str, Mapping[str, Any]],
    made_from: Mapping[str, Any],
    facts: Mapping[str, dict[str, Any]],
    **more: Any,
) -> None:
    """Writes the figures, with `<measurement>_ratio` at the top where there are two.

    Args:
      question: First word of the file's name; network, size and dtype follow.
      found: As `show` takes it.
      made_from: See `settings`.
      facts: Of both sides.
      **more: Further results.
    """
    results: dict[str, Any] = {}
    for name, row in found.items():
        for key in ("ratio", "ratio_range"):
            if key in row:
                results[f"{name}_{key}"] = row[key]
    results["rates"] = found
    results["settings"] = dict(made_from)
    results |= more
    theirs = dict(facts.get(TORCH, {}))
    device = facts[OURS]["device"]
    versions = theirs.pop("versions", {})
    results["pytorch"] = theirs
    results["parameters"] = facts[OURS]["parameters"]
    part = [question, shared.NETWORK.value, str(shared.SIZE.value)]
    if shared.DTYPE.value != "float32":
        part.append(shared.DTYPE.value)
    recording.write(
        "_".join(part),
        results,
        n=shared.ROUNDS.value,
        device=device,
        more_versions=versions,
    )
