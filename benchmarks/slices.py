r"""What each stage's step computes, sends and holds on slices of TPUs, compiled only.

Each step is compiled by the TPU's own compiler for 1, 8 and 256 chips, with
`--batch_size` examples and `--groups` of BatchNorm on each; nothing is run. One chip's
cycles stand beside those of a plain program of Flax's own layers (`plain/`).

Cycles are the compiler's estimates, loops by their trips; what has none is listed. A
chip does `--clock` of them a second and sends `--link` bytes a second round a ring. No
exchange overlaps with computing, so that the fraction of time spent computing is a
lower bound: with a start of a collective for nothing, with one of `--start` seconds,
with all collectives of a kind merged into one, and if there were the gradient alone.

Programs take minutes each. Their figures are kept in `--kept` by what was compiled, so
that the same command resumes after a stop, and compiles what has changed alone.

Run:     python -m benchmarks.slices --network=resnet50 --image_size=224 \
             --dtype=bfloat16
"""

from __future__ import annotations

import argparse
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

from benchmarks import harness, ours
from benchmarks.plain import steps as plain
from mtpret_jax import config as schema
from mtpret_jax.ahead import fitting, program, topologies
from mtpret_jax.experiment import estimate
from mtpret_jax.training import sharding

# Stage 1; stage 2, which holds two backbones beside its own; stage 3 for each kind.
STAGES = ("contrastive", "continual", "classification", "segmentation", "detection")

_SLICES = ("tpu:v5e:1", "tpu:v5e:2x4", "tpu:v5e:16x16")
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


def parser() -> argparse.ArgumentParser:
    """The script's options."""
    made = harness.parser(
        __doc__,
        network="resnet18",
        width=64,
        image_size=128,
        batch_size=32,
        dtype="float32",
    )
    made.add_argument(
        "--encoder", default="", help="instead of --network: vit_base,dinov2, say"
    )
    made.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    made.add_argument(
        "--slices", nargs="+", default=list(_SLICES), help="topologies, small first"
    )
    made.add_argument("--negatives", type=int, default=65_536, help="of stage 1")
    made.add_argument(
        "--groups", type=int, default=1, help="of BatchNorm, on each chip"
    )
    made.add_argument(
        "--small_heads", action="store_true", help="few proposals, narrow: a test"
    )
    made.add_argument(
        "--clock", type=float, default=1.5e9, help="cycles of a chip per second; v5e's"
    )
    made.add_argument(
        "--link", type=float, default=50e9, help="bytes per second that a chip sends"
    )
    made.add_argument(
        "--start", type=float, default=5e-6, help="seconds of a collective's start"
    )
    made.add_argument(
        "--kept", default="build/slices", help="folder of figures; empty: none"
    )
    return made


def step(stage: str, chips: int, options: argparse.Namespace) -> estimate.Step:
    """The step of a stage for so many chips, by the options."""
    kind = "classification" if stage == "continual" else stage
    network, _, family = (options.encoder or options.network).partition(",")
    rows = {"batch_norm_rows": options.batch_size // options.groups}
    settings: dict[str, Any] = {
        "kind": kind,
        "network": network,
        "image_size": options.image_size,
        "batch_size": chips * options.batch_size,
        "dtype": options.dtype,
        "backbone": {"width": options.width, "family": family},
        "contrastive": {"queue_size": options.negatives, **rows},
        "task": rows | ({"target": "label"} if kind == "classification" else {}),
    }
    made = ours.config(settings | (_SMALL_OPTIONS if options.small_heads else {}))
    if stage == "continual":
        continual = schema.ContinualConfig(tasks=(ours.TASK,))
        row = dataclasses.replace(made.runs[ours.RUN], stage=stage, continual=continual)
        made = dataclasses.replace(made, runs={ours.RUN: row})
    (found,) = estimate.steps(made, {})
    return found


def _plain(stage: str, devices: Sequence[Any], options: argparse.Namespace) -> Any:
    """The plain program of a stage, lowered for a chip; None if there is none."""
    batch, size, dtype = options.batch_size, options.image_size, options.dtype
    if options.network != "resnet50" or options.width != 64 or options.encoder:
        return None
    if stage == "contrastive":
        made = plain.contrastive(batch, size, options.negatives, dtype)
    elif stage == "classification":
        made = plain.classification(batch, size, estimate.CLASSES, dtype)
    elif stage == "segmentation":
        head = schema.SegmentationConfig()
        made = plain.segmentation(
            batch,
            size,
            estimate.CLASSES,
            dtype,
            rates=head.rates,
            output_stride=head.output_stride,
            dropout=head.dropout,
        )
    else:
        return None
    where = sharding.replicated(sharding.make_mesh(devices))
    state, given = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        made[1:],
    )
    return jax.jit(made[0], donate_argnums=0).lower(state, given)


def _figures(
    name: str, lowered: Any, kept_in: str, params: Any = None
) -> dict[str, Any]:
    """Of a program that trains these, compiled unless its figures are kept."""
    said = lowered.as_text() + _compiler()["libtpu"]
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    kept = pathlib.Path(kept_in, f"{digest}.json") if kept_in else None
    if kept is not None and kept.is_file():
        return json.loads(kept.read_text())
    start = time.monotonic()
    found = fitting.compile_step(lowered)
    harness.show(f"{name}: compiled in {time.monotonic() - start:.0f} s")
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


def predict(
    figures: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, float]:
    """What crosses the links beside the gradient, and the part of time computing.

    Args:
      figures: As `summary` gives them, with bytes of the `gradient`.
      options: `clock`, `link` and `start`.
    """
    chips, kinds = figures["chips"], figures["collectives"].values()
    ring = program.SENT["all-reduce"](chips) * figures["gradient"]
    sent = sum(row["sent"] for row in kinds)
    count = sum(row["count"] for row in kinds)
    computing = figures["cycles"] / options.clock

    def fraction(size: float, starts: float) -> float:
        return computing / (computing + size / options.link + starts * options.start)

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


def measure(
    stage: str, slices: Mapping[str, Sequence[Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """All figures of a stage.

    Args:
      stage: One of `STAGES`.
      slices: Devices by the name of their topology.
      options: Of the script.
    """
    result: dict[str, Any] = {}
    for name, devices in slices.items():
        made = step(stage, len(devices), options)
        params = estimate.state_shapes(made).params
        lowered = estimate.lower(made, devices)
        figures = _figures(f"{stage}, {name}", lowered, options.kept, params)
        figures["predicted"] = predict(figures, options)
        result[name] = figures
        if len(devices) == 1:
            other = _plain(stage, devices, options)
            if other is not None:
                name = f"{stage}, plain"
                result["plain"] = _figures(name, other, options.kept)
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


def main() -> None:
    """Compiles, shows and writes."""
    options = parser().parse_args()
    jax.config.update("jax_platforms", "cpu")
    slices = {name: topologies.devices(name) for name in options.slices}
    rows = [
        ["", "GiB", "Gflop", "of 1st", "Mcycles", "of plain", "MB sent", "% beside"]
    ]
    rows[0] += ["starts", "gradient", "free", "slow", "merged"]
    results: dict[str, Any] = {
        "network": options.encoder or options.network,
        "image_size": options.image_size,
        "examples_on_each": options.batch_size,
        "groups_on_each": options.groups,
        "dtype": options.dtype,
        "assumed": {
            "cycles_per_second": options.clock,
            "link_bytes_per_second": options.link,
            "seconds_of_a_start": options.start,
        },
    }
    for stage in options.stages:
        results[stage] = measure(stage, slices, options)
        rows += _rows(stage, results[stage])
    harness.table(rows)
    harness.write(
        f"slices {options.encoder or options.network}",
        results,
        options,
        n=1,
        device=topologies.kind(options.slices[0]),
        more_versions=_compiler(),
    )


if __name__ == "__main__":
    main()
