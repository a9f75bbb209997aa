"""Tells what a config will cost before anything runs: parameters, memory, time.

    mtpret_jax config check --config=configs/demo.py
    mtpret_jax config check --config=configs/demo.py --for=tpu:v5e:4x4

Does a few steps of each kind of run on blank images, on this machine. With `--for` it
compiles each step for a slice of TPUs instead, on any machine with the extra `tpu`:
memory, operations, cycles and exchanges of a chip, and the largest batch.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence

from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.cli import command, config_slice, devices
from mtpret_jax.data import sources
from mtpret_jax.experiment import estimate, precision, preparation, workshop
from mtpret_jax.study import plan
from mtpret_jax.training import sharding


def add_options(parser: command.Parser) -> None:
    """Adds the options of the verb."""
    parser.add_config()
    parser.add_argument("--data_dir", help="prepared sets, to take their classes")
    parser.add_argument("--for", dest="topology", help="a slice, such as tpu:v5e:4x4")


def run(options: argparse.Namespace) -> int:
    """Exit code: 0, or 1 where the config does not fit its slice."""
    config = schema.parse(options.config)
    lines = []
    for line in check(config, options.data_dir, options.topology):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        lines.append(line)
    return code(lines)


def code(lines: Sequence[str]) -> int:
    """Exit code of what `check` said."""
    wrong = any(line.lstrip().startswith("problem:") for line in lines)
    return command.MISTAKE if wrong else command.DONE


def check(
    config: schema.ExperimentConfig, data_dir: str | None, topology: str | None = None
) -> Iterator[str]:
    """Lines on what the config costs, as they are known; its rules hold."""
    expanded = plan.expand(config)
    prepared = _names(expanded, data_dir)
    names = {**preparation.class_names(expanded.datasets), **prepared}
    if topology:
        yield from config_slice.check(expanded, names, topology)
    else:
        devices.require()
        yield from _tried(expanded, names)
    others = [name for name in expanded.datasets if name not in prepared]
    if others:
        yield (
            "Not prepared in --data_dir, taken to have the classes that the config "
            f"names: {', '.join(others)}."
        )


def _tried(expanded: schema.ExperimentConfig, names: estimate.Names) -> Iterator[str]:
    """Lines on what the config costs on this machine."""
    platform = precision.platform(sharding.make_mesh())
    expanded = precision.settle(expanded, platform)
    yield (
        "Compiles and tries a step of every kind of run, which may take minutes. In "
        f"{expanded.backbone.compute_dtype}, on '{platform}'."
    )
    yield (
        f"{'runs':>4} {'stage':<12}{'parameters':>12}{'state':>10}{'a step needs':>14}"
        f"{'a step':>10}{'all':>9}  tasks"
    )
    costs = []
    for cost in estimate.estimate(expanded, names):
        costs.append(cost)
        needs = "?" if math.isnan(cost.step_bytes) else _size(cost.step_bytes)
        yield (
            f"{len(cost.runs):>4} {cost.stage:<12}{cost.parameters:>12,}"
            f"{_size(cost.state_bytes):>10}{needs:>14}{cost.step_seconds:>8.3g} s"
            f"{_time(cost.seconds):>9}  {', '.join(cost.tasks) or 'all images'}"
        )
    total = sum(cost.seconds for cost in costs)
    yield (
        f"{len(expanded.runs)} runs, about {_time(total)} on this machine, without "
        "compiling, reading, evaluating and reporting."
    )


def _names(config: schema.ExperimentConfig, data_dir: str | None) -> estimate.Names:
    """Class names of the sets that are prepared."""
    found = {}
    if not data_dir:
        return found
    for name, row in config.datasets.items():
        try:
            folder = sources.locate(epath.Path(data_dir).expanduser(), name, row)
        except FileNotFoundError:
            continue  # `check` says so.
        found[name] = workshop.names_of(folder)
    return found


def _size(count: float) -> str:
    mebibytes = count / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.1f} GiB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
