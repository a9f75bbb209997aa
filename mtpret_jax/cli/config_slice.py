"""What each step of a config needs on a slice of TPUs that is not here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax

from mtpret_jax import config as schema
from mtpret_jax.ahead import fitting, program, topologies
from mtpret_jax.experiment import estimate, precision

_INDENT = " " * 5


def check(
    config: schema.ExperimentConfig, names: estimate.Names, topology: str
) -> Iterator[str]:
    """Lines on every step, as its programs are compiled; problems begin with "problem".

    Args:
      config: The whole config, its study expanded.
      names: As `estimate.steps` takes them.
      topology: As `topologies.devices` takes it.

    Raises:
      ValueError: If there is no such slice.
      ModuleNotFoundError: If the compiler of TPUs is not installed.
    """
    jax.config.update("jax_platforms", "cpu")  # A TPU that is here is left alone.
    devices = topologies.devices(topology)
    config = precision.settle(config, devices[0].platform)
    steps = estimate.steps(config, names)
    memory = topologies.MEMORY[topologies.kind(topology)]
    yield (
        f"For {topology}, {len(devices)} chips of {memory:g} GiB, in "
        f"{config.backbone.compute_dtype}. {len(steps)} steps are compiled, each twice "
        "more for the largest batch: minutes each."
    )
    yield (
        f"{'runs':>4} {'stage':<12}{'batch':>6}{'a chip needs':>14}{'operations':>13}"
        f"{'cycles':>10}  tasks"
    )
    for step in steps:
        yield from _check(step, devices, topology)


def _check(step: estimate.Step, devices: Any, topology: str) -> Iterator[str]:
    every, devices = len(devices), estimate.fit(step, devices)
    batch, chips = step.part.batch_size, len(devices)
    head = f"{len(step.runs):>4} {step.row.stage:<12}{batch:>6}"
    tasks = ", ".join(step.names) if step.row.tasks else "all images"

    def build(size: int) -> Any:
        return estimate.lower(step.resized(size), devices)

    least = unit = chips * step.part.microbatches
    if not step.row.tasks and step.part.microbatches > 1:
        unit *= step.part.batch_norm_rows  # Stage 1 shares whole groups.
    known: dict[int, int | None] = {}
    try:
        found = fitting.compile_step(build(batch))
    except (ValueError, MemoryError) as error:
        yield f"{head}{'?':>14}{'?':>13}{'?':>10}  {tasks}"
        yield f"{_INDENT}problem: {error}"
        if isinstance(error, MemoryError):
            known[batch] = None
    else:
        known[batch] = found.bytes
        yield (
            f"{head}{_gibibytes(found):>14}{found.operations / 1e9:>8,.4g} Gflop"
            f"{found.cycles / 1e6:>8,.4g} M  {tasks}"
        )
        if chips < every:
            yield f"{_INDENT}on {chips} of {every} chips: they share its batches evenly"
        yield from (_INDENT + line for line in _lines(found))
        wrong = fitting.padding(batch // least)
        if wrong:
            yield f"{_INDENT}advice: {wrong}"
    yield _INDENT + fitting.largest(topology, known, unit, build)


def _lines(found: program.Program) -> Iterator[str]:
    """Loops, what has no estimate, exchanges."""
    for loop in found.loops:
        trips = "an unknown number of" if loop.trips is None else loop.trips
        once = ", counted as one" if loop.trips is None else ""
        yield f"loop of {trips} trips{once}: {loop.cycles / 1e6:.4g} M cycles"
    if found.uncounted:
        named = (f"{name} ({times})" for name, times in found.uncounted.items())
        yield f"without an estimate of cycles: {', '.join(named)}"
    for kind, row in found.by_kind().items():
        yield (
            f"{kind}: {row['count']:.0f}, {row['bytes'] / 1e6:.4g} MB, "
            f"sends {row['sent'] / 1e6:.4g} MB"
        )


def _gibibytes(found: program.Program) -> str:
    return f"{found.bytes / 2**30:.3g} GiB"
