"""Does a program fit a chip, up to which batch, and what is wrong with a batch."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax

from mtpret_jax.ahead import program, topologies

# TPUs hold arrays in tiles of eight rows, and convolutions have the batch in these:
# four images cost what eight cost, twelve what sixteen cost, or more.
ROWS = 8
_USABLE = 63 / 64  # Of a chip's memory: the rest is the system's.


def compile_step(lowered: Any) -> program.Program:
    """Compiles what `jax.jit(...).lower(...)` gave, and reads it.

    Raises:
      MemoryError: If a chip's memory is too small.
    """
    try:
        with _unkept():
            return program.read(lowered.compile())
    except RuntimeError as error:
        needed = re.search(
            r"\(([0-9.]+[KMGT])\) exceeds available HBM \((\S+)\)", str(error)
        )
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said = f"{needed[1]}iB of {needed[2]}iB" if needed else str(error)
        raise MemoryError(f"does not fit: a chip needs {said}") from error


@contextlib.contextmanager
def _unkept() -> Iterator[None]:
    """Keeps them out of JAX's compilation cache, from which none can be read again."""
    option = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, option)
    jax.config.update(option, math.inf)
    try:
        yield
    finally:
        jax.config.update(option, before)


def padding(batch_size: int) -> str:
    """What is wrong with so many images on a chip; "" if nothing."""
    padded = -(-batch_size // ROWS) * ROWS
    if padded == batch_size:
        return ""
    return (
        f"{batch_size} images on a chip are padded to {padded} and cost as much: "
        f"better a multiple of {ROWS}"
    )


def largest(
    topology: str, known: dict[int, int | None], unit: int, build: Callable[[int], Any]
) -> str:
    """A line on the largest batch that fits: reckoned from two, and compiled.

    Args:
      topology: As `topologies.devices` takes it.
      known: What the config's own batch needs, bytes by batch; None: it does not fit.
      unit: What every batch is a multiple of, such as one image on each chip.
      build: Batch to its step, lowered.
    """
    known = dict(known)
    batch = max(known, default=1) // unit
    # Halves of the config's batch, whole rows on each chip as long as there are any.
    batch = max(2 * ROWS, batch // ROWS * ROWS)
    while batch and sum(map(bool, known.values())) < 2:
        if batch * unit not in known:
            known[batch * unit] = _bytes(build, batch * unit)
        batch //= 2
    sizes = {size: needed for size, needed in known.items() if needed is not None}
    if not sizes:
        return f"problem: not even a batch of {unit} fits."
    if len(sizes) < 2:
        return f"largest batch: {max(sizes)}, the only one of {sorted(known)} that fits"
    (fewer, low), (more, high) = sorted(sizes.items())[-2:]
    each = max(1.0, (high - low) / (more - fewer))
    memory = topologies.MEMORY[topologies.kind(topology)] * 2**30 * _USABLE
    step = unit * ROWS if memory > high + each * unit * ROWS else unit
    most = int((memory - high) / each + more) // step * step
    needed = known[most] if most in known else _bytes(build, most)
    if needed is None:
        return f"largest batch: at least {more}; {most}, reckoned, does not fit"
    return (
        f"largest batch: {most}, {needed / 2**30:.3g} GiB a chip when compiled; "
        f"reckoned from {fewer} and {more}"
    )


def _bytes(build: Callable[[int], Any], batch: int) -> int | None:
    """What a batch needs on a chip; None if it does not fit there, or not even here."""
    try:
        return compile_step(build(batch)).bytes
    except MemoryError:
        return None
