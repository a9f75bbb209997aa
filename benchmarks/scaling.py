"""Bytes that collectives move in a step, and what they predict for many accelerators.

    python -m benchmarks.scaling

Each stage's step is compiled for 1, 2, 4 and 8 virtual CPU devices with as many
examples on each, and its collectives are read from the program that would run. Nothing
is run. The bytes of a kind are a constant (gradients, statistics) and a part that grows
with the global batch (images, keys); both follow from the two largest meshes, and give
those of 8 and 256 accelerators with `--real_examples` on each.

Their time: in a ring of n, an all-reduce of N bytes sends 2 N (n - 1) / n over each
one's link, an all-gather half of that; each collective starts 2 log2(n) messages, as a
tree does. Speed of the links, time of a start and the rate of computing are assumed:
see the flags. Nothing is assumed to overlap with computing, so that the fraction of
time spent computing is a lower bound.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from absl import app, flags

from benchmarks import programs, recording, shared

_DEVICES = flags.DEFINE_multi_integer("devices", [1, 2, 4, 8], "Of the meshes.")
_STAGES = flags.DEFINE_multi_enum(
    "stages", list(programs.STAGES), programs.STAGES, "Which."
)
_EACH = flags.DEFINE_integer("examples", 4, "Of the batch, on each device.")
_REAL = flags.DEFINE_integer(
    "real_examples", 32, "On each accelerator, of the prediction."
)
_LINK = flags.DEFINE_float(
    "link", 50e9, "Bytes per second that an accelerator sends; 50e9: 400 Gbit/s."
)
_START = flags.DEFINE_float("start", 5e-6, "Seconds of a hop before bytes flow.")
_RATE = flags.DEFINE_float(
    "rate", 1000.0, "Examples per second that one accelerator computes."
)

# Of the bytes of a result, how many times as many each of n devices sends.
FACTORS: Mapping[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: n - 1.0,
    "collective-permute": lambda n: 1.0,
    "all-to-all": lambda n: (n - 1) / n,
}
_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4}
_SIZES |= {"f32": 4, "s64": 8, "u64": 8, "f64": 8}
_KINDS = "|".join(FACTORS)
_INSTRUCTION = re.compile(rf"= (.*?) ({_KINDS})\(")  # CPUs start none ahead.
_SHAPE = re.compile(r"\b([a-z]+[0-9]*)\[([0-9,]*)\]")
_BODY = re.compile(r"body=%?([\w.\-]+)(?:.*?known_trip_count[^0-9]*([0-9]+))?")


@dataclasses.dataclass(frozen=True)
class Collective:
    """An exchange between all devices.

    Attributes:
      kind: all-reduce, all-gather, reduce-scatter, collective-permute or all-to-all.
      size: Bytes of its result, on a device.
      times: That it is done in a step.
      source: What it was made for, as the program tells it.
    """

    kind: str
    size: int
    times: int
    source: str


def _bytes(shapes: str) -> int:
    found = _SHAPE.findall(shapes)
    return sum(
        _SIZES[kind] * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in found
    )


def collectives(program: str) -> list[Collective]:
    """The collectives of a compiled program's text; those in loops count as often.

    Raises:
      ValueError: If one is in a loop of unknown length.
    """
    repeated = dict(_BODY.findall(program))
    found = []
    for computation, kind, size, source in _instructions(program):
        times = repeated.get(computation, "1")
        if not times:
            raise ValueError(
                f"'{computation}' holds an {kind} and is repeated an unknown number of "
                "times: its bytes cannot be counted."
            )
        found.append(Collective(kind, size, int(times), source))
    return found


def _instructions(program: str) -> Iterator[tuple[str, str, int, str]]:
    """Computation, kind, bytes and source of each collective."""
    computation = ""
    for line in program.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            computation = line.removeprefix("ENTRY ").split()[0].lstrip("%")
        found = _INSTRUCTION.search(line)
        if found is None:
            continue
        shapes, kind = found.groups()
        named = re.search(r'op_name="([^"]*)"', line)
        yield computation, kind, _bytes(shapes), named.group(1) if named else ""


def _by_kind(found: Sequence[Collective]) -> dict[str, dict[str, int]]:
    """Number and bytes of each kind in a step."""
    total: dict[str, dict[str, int]] = {}
    for one in found:
        row = total.setdefault(one.kind, {"count": 0, "bytes": 0})
        row["count"] += one.times
        row["bytes"] += one.times * one.size
    return total


def _largest(found: Sequence[Collective]) -> list[dict[str, Any]]:
    """The largest collectives, with the last of what each was made for."""
    ordered = sorted(found, key=lambda one: -one.times * one.size)
    return [
        {
            "kind": one.kind,
            "bytes": one.times * one.size,
            "times": one.times,
            "source": one.source.split(":")[-1].strip("()")[-80:],
        }
        for one in ordered[:4]
    ]


def predict(
    meshes: Mapping[int, Mapping[str, Mapping[str, int]]], devices: int
) -> dict[str, float]:
    """What a step of many accelerators sends, and the part of it spent computing.

    Args:
      meshes: By number of devices, what `_by_kind` found with `--examples` on each.
      devices: Accelerators.
    """
    (fewer, low), (more, high) = sorted(meshes.items())[-2:]
    sent, seconds = 0.0, 0.0
    for kind, row in high.items():
        before = low.get(kind, {"bytes": 0})["bytes"]
        growth = (row["bytes"] - before) / (more - fewer)
        constant = row["bytes"] - growth * more
        size = constant + growth * devices * _REAL.value / _EACH.value
        sent += size * FACTORS[kind](devices)
        seconds += row["count"] * _START.value * 2 * math.log2(devices)
    seconds += sent / _LINK.value
    computing = _REAL.value / _RATE.value
    return {
        "megabytes_sent": sent / 1e6,
        "milliseconds": 1e3 * seconds,
        "fraction_computing": computing / (computing + seconds),
    }


def _measure(stage: str) -> dict[str, Any]:
    """All meshes of a stage."""
    meshes, largest, parameters = {}, [], 0
    for count in _DEVICES.value:
        config = programs.config(stage, batch_size=count * _EACH.value)
        program = programs.lower(config, jax.devices()[:count])
        found = collectives(program.text())
        meshes[count], largest = _by_kind(found), _largest(found)
        parameters = program.parameters()
    return {
        "parameters": parameters,
        "devices": meshes,
        "largest": largest,
        "predicted": {count: predict(meshes, count) for count in (8, 256)},
    }


def _megabytes(meshes: Mapping[int, Any], count: int) -> str:
    return f"{sum(row['bytes'] for row in meshes[count].values()) / 1e6:.1f}"


def main(arguments: list[str]) -> None:
    """Compiles, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(_DEVICES.value))
    head = [f"MB, {count}" for count in _DEVICES.value]
    rows = [["stages", "weights, MB", *head, "ms of 8", "ms of 256", "computing"]]
    results: dict[str, Any] = {
        "examples": _EACH.value,
        "image_size": shared.SIZE.value,
        "assumed": {
            "examples_on_each": _REAL.value,
            "link_bytes_per_second": _LINK.value,
            "seconds_of_a_start": _START.value,
            "examples_per_second": _RATE.value,
        },
    }
    for stage in _STAGES.value:
        found = results[stage] = _measure(stage)
        moved = [_megabytes(found["devices"], count) for count in _DEVICES.value]
        times = [f"{row['milliseconds']:.2f}" for row in found["predicted"].values()]
        computing = f"{found['predicted'][256]['fraction_computing']:.2f}"
        weights = f"{4e-6 * found['parameters']:.1f}"
        rows.append([stage, weights, *moved, *times, computing])
    recording.table(rows)
    recording.write(f"scaling {shared.NETWORK.value}", results, n=len(rows) - 1)


if __name__ == "__main__":
    app.run(main)
