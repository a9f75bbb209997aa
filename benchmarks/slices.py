"""What each stage's step computes, sends and holds on slices of TPUs, compiled only.

    python -m benchmarks.slices --network=resnet50 --image_size=224 --dtype=bfloat16

Each step is compiled by the TPU's own compiler for 1, 8 and 256 chips, with
`--batch_size` examples and `--groups` of BatchNorm on each; nothing is run. One chip's
cycles stand beside those of a plain program of Flax's own layers (`plain/`).

Cycles are the compiler's estimates, loops by their trips; what has none is listed. A
chip does `--clock` of them a second and sends `--link` bytes a second round a ring. No
exchange overlaps with computing, so that the fraction of time spent computing is a
lower bound: with a start of a collective for nothing, with one of `--start` seconds,
with all collectives of a kind merged into one, and if there were the gradient alone.

Programs take minutes each. Their figures are kept in `--kept` by what was compiled, so
that the same command goes on after a stop, and compiles what has changed alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import app, flags

from benchmarks import ours, recording, shared
from benchmarks.plain import steps as plain
from mtpret_jax import config as schema
from mtpret_jax.ahead import fitting, program, topologies
from mtpret_jax.experiment import estimate
from mtpret_jax.training import sharding

# Stage 1; stage 2, which holds two backbones beside its own; stage 3 for each kind.
STAGES = ("contrastive", "continual", "classification", "segmentation", "detection")

_STAGES = flags.DEFINE_multi_enum("stages", STAGES, STAGES, "Which.")
_SLICES = flags.DEFINE_multi_string(
    "slices", ["tpu:v5e:1", "tpu:v5e:2x4", "tpu:v5e:16x16"], "Topologies, small first."
)
_QUEUE = flags.DEFINE_integer("negatives", 65_536, "Negatives of stage 1.")
_GROUPS = flags.DEFINE_integer("groups", 1, "Of BatchNorm, on each chip.")
_SMALL = flags.DEFINE_bool("small_heads", False, "Few proposals, narrow heads: a test.")
_CLOCK = flags.DEFINE_float("clock", 1.5e9, "Cycles of a chip per second; v5e's.")
_LINK = flags.DEFINE_float("link", 50e9, "Bytes per second that a chip sends.")
_START = flags.DEFINE_float("start", 5e-6, "Seconds of a collective's start.")
_KEPT = flags.DEFINE_string("kept", "build/slices", "Folder of figures; empty: none.")

_SMALL_OPTIONS: dict[str, dict[str, Any]] = {
    "segmentation": {"channels": 8},
    "detection": {
        "channels": 8,
        "hidden": 16,
        "proposals_before_nms": 16,
        "proposals": 8,
        "regions": 8,
    },
}


def step(stage: str, chips: int) -> estimate.Step:
    """The step of a stage for so many chips, by the flags."""
    kind = "classification" if stage == "continual" else stage
    rows = {"batch_norm_rows": shared.BATCH.value // _GROUPS.value}
    settings: dict[str, Any] = {
        "kind": kind,
        "network": shared.NETWORK.value,
        "image_size": shared.SIZE.value,
        "batch_size": chips * shared.BATCH.value,
        "dtype": shared.DTYPE.value,
        "backbone": {"width": shared.WIDTH.value},
        "contrastive": {"queue_size": _QUEUE.value, **rows},
        "task": rows | ({"target": "label"} if kind == "classification" else {}),
    }
    made = ours.config(settings | (_SMALL_OPTIONS if _SMALL.value else {}))
    if stage == "continual":
        continual = schema.ContinualConfig(tasks=(ours.TASK,))
        row = dataclasses.replace(made.runs[ours.RUN], stage=stage, continual=continual)
        made = dataclasses.replace(made, runs={ours.RUN: row})
    (found,) = estimate.steps(made, {})
    return found


def _plain(stage: str, devices: Sequence[Any]) -> Any:
    """The plain program of a stage, lowered for a chip; None if there is none."""
    batch, size, dtype = shared.BATCH.value, shared.SIZE.value, shared.DTYPE.value
    if shared.NETWORK.value != "resnet50" or shared.WIDTH.value != 64:
        return None
    if stage == "contrastive":
        made = plain.contrastive(batch, size, _QUEUE.value, dtype)
    elif stage == "classification":
        made = plain.classification(batch, size, estimate.CLASSES, dtype)
    elif stage == "segmentation":
        options = schema.SegmentationConfig()
        made = plain.segmentation(
            batch,
            size,
            estimate.CLASSES,
            dtype,
            rates=options.rates,
            output_stride=options.output_stride,
            dropout=options.dropout,
        )
    else:
        return None
    where = sharding.replicated(sharding.make_mesh(devices))
    state, given = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        made[1:],
    )
    return jax.jit(made[0], donate_argnums=0).lower(state, given)


def _figures(name: str, lowered: Any, params: Any = None) -> dict[str, Any]:
    """Of a program that trains these, compiled unless its figures are kept."""
    said = lowered.as_text() + _compiler()["libtpu"]
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    kept = pathlib.Path(_KEPT.value, f"{digest}.json") if _KEPT.value else None
    if kept is not None and kept.is_file():
        return json.loads(kept.read_text())
    start = time.monotonic()
    found = fitting.compile_step(lowered)
    recording.show(f"{name}: compiled in {time.monotonic() - start:.0f} s")
    figures = summary(found) | {"gradient": gradient(found, params)}
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(figures))
    return figures


def _compiler() -> dict[str, str]:
    return {"libtpu": importlib.metadata.version("libtpu")}


def summary(found: program.Program) -> dict[str, Any]:
    """A program's figures as JSON has them."""
    return {
        "chips": found.devices,
        "operations": found.operations,
        "cycles": found.cycles,
        "bytes": found.bytes,
        "collectives": found.by_kind(),
        "largest": [
            {"kind": one.kind, "sent": one.sent, "source": one.source[-80:]}
            for one in sorted(found.collectives, key=lambda one: -one.sent)[:4]
        ],
        "loops": [dataclasses.asdict(loop) for loop in found.loops],
        "uncounted": dict(found.uncounted),
    }


def gradient(found: program.Program, params: Any) -> int:
    """Bytes of the gradient, each array of it in the dtype in which it is summed.

    Args:
      found: A program.
      params: What it trains. What is not found in a sum of its shape is float32.
    """
    summed = sorted(
        (
            shape
            for one in found.collectives
            if one.kind == "all-reduce"
            for shape in one.operands
        ),
        key=lambda shape: shape.bytes,
    )
    total = 0
    for leaf in jax.tree.leaves(params):
        same = [shape for shape in summed if shape.sides == leaf.shape]
        total += same[-1].bytes if same else 4 * math.prod(leaf.shape)
        if same:
            summed.remove(same[-1])
    return total


def predict(figures: Mapping[str, Any]) -> dict[str, float]:
    """What crosses the links beside the gradient, and the part of time computing.

    Args:
      figures: As `summary` gives them, with bytes of the `gradient`.
    """
    chips, kinds = figures["chips"], figures["collectives"].values()
    ring = program.SENT["all-reduce"](chips) * figures["gradient"]
    sent = sum(row["sent"] for row in kinds)
    count = sum(row["count"] for row in kinds)
    computing = figures["cycles"] / _CLOCK.value

    def fraction(size: float, starts: float) -> float:
        return computing / (computing + size / _LINK.value + starts * _START.value)

    return {
        "milliseconds_computing": 1e3 * computing,
        "megabytes_sent": sent / 1e6,
        "megabytes_beside_gradient": (sent - ring) / 1e6,
        "beside_gradient": (sent - ring) / ring if ring else 0.0,
        "gradient_alone": fraction(ring, 0),
        "free_starts": fraction(sent, 0),
        "slow_starts": fraction(sent, count),
        "slow_starts_merged": fraction(sent, len(kinds)),
    }


def measure(stage: str, slices: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """All figures of a stage.

    Args:
      stage: One of `STAGES`.
      slices: Devices by the name of their topology.
    """
    result: dict[str, Any] = {}
    for name, devices in slices.items():
        made = step(stage, len(devices))
        params = estimate.state_shapes(made).params
        figures = _figures(f"{stage}, {name}", estimate.lower(made, devices), params)
        figures["predicted"] = predict(figures)
        result[name] = figures
        if len(devices) == 1:
            other = _plain(stage, devices)
            if other is not None:
                result["plain"] = _figures(f"{stage}, plain", other)
    return result


def _rows(stage: str, result: dict[str, Any]) -> list[list[str]]:
    first, beside = next(iter(result.values())), result.get("plain")
    rows = []
    for name, figures in result.items():
        if name == "plain":
            continue
        found = figures["predicted"]
        ratio = f"{figures['cycles'] / beside['cycles']:.3f}" if beside else ""
        rows.append(
            [
                f"{stage} {name}",
                f"{figures['bytes'] / 2**30:.2f}",
                f"{figures['operations'] / 1e9:.4g}",
                f"{figures['operations'] / first['operations']:.3f}",
                f"{figures['cycles'] / 1e6:.4g}",
                ratio,
                f"{found['megabytes_sent']:.4g}",
                f"{100 * found['beside_gradient']:.3g}",
                f"{sum(row['count'] for row in figures['collectives'].values()):.0f}",
                f"{found['gradient_alone']:.3f}",
                f"{found['free_starts']:.3f}",
                f"{found['slow_starts']:.3f}",
                f"{found['slow_starts_merged']:.3f}",
            ]
        )
    return rows


def main(arguments: list[str]) -> None:
    """Compiles, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    jax.config.update("jax_platforms", "cpu")
    slices = {name: topologies.devices(name) for name in _SLICES.value}
    rows = [
        ["", "GiB", "Gflop", "of 1st", "Mcycles", "of plain", "MB sent", "% beside"]
    ]
    rows[0] += ["starts", "gradient", "free", "slow", "merged"]
    results: dict[str, Any] = {
        "network": shared.NETWORK.value,
        "image_size": shared.SIZE.value,
        "examples_on_each": shared.BATCH.value,
        "groups_on_each": _GROUPS.value,
        "dtype": shared.DTYPE.value,
        "assumed": {
            "cycles_per_second": _CLOCK.value,
            "link_bytes_per_second": _LINK.value,
            "seconds_of_a_start": _START.value,
        },
    }
    for stage in _STAGES.value:
        results[stage] = measure(stage, slices)
        rows += _rows(stage, results[stage])
    recording.table(rows)
    recording.write(
        f"slices {shared.NETWORK.value}",
        results,
        n=1,
        device=topologies.kind(_SLICES.value[0]),
        more_versions=_compiler(),
    )


if __name__ == "__main__":
    app.run(main)
