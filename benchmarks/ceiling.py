"""What part of this device's own ceiling each stage's step reaches.

    python -m benchmarks.ceiling

The ceiling is measured here, through JAX, in turn with the step: operations per second
of the best of some matrix products, and bytes per second of a scaled copy of an array
far larger than any cache. The step's own operations and bytes are what the compiler
counts in the program that runs (`cost_analysis`); its bytes are an upper bound of what
memory sees, since what stays in a cache is counted too. The roof of a step is the time
that the slower of the two would take at the ceiling.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks import programs, recording, shared

# The compiler counts a loop's body once, and detection has loops.
_WITHOUT_LOOPS = [stage for stage in programs.STAGES if stage != "detection"]
_STAGES = flags.DEFINE_multi_enum("stages", _WITHOUT_LOOPS, _WITHOUT_LOOPS, "Which.")
_SIDES = flags.DEFINE_multi_integer(
    "side", [1024, 2048], "Of the square matrices; 8192 on a GPU."
)
_MIB = flags.DEFINE_integer("copied", 256, "Size of the copied array, MiB.")


def _seconds(work: Callable[[], Any], repeats: int) -> float:
    """Of one of several calls, the last waited for."""
    start = time.perf_counter()
    for _ in range(repeats):
        result = work()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / repeats


def _matmul(side: int, dtype: str) -> Callable[[], float]:
    """Measures operations per second of a product of square matrices."""
    one = jax.random.normal(jax.random.key(0), (side, side), jnp.dtype(dtype))
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(product(one, one))
    return lambda: 2 * side**3 / _seconds(lambda: product(one, one), 3)


def _copy() -> Callable[[], float]:
    """Measures bytes per second, read and written, of a scaled copy."""
    array = jnp.zeros((_MIB.value, 2**18), jnp.float32)
    scale = jax.jit(lambda a: a * 1.5)
    jax.block_until_ready(scale(array))
    return lambda: 2 * array.nbytes / _seconds(lambda: scale(array), 2)


def _step(stage: str) -> tuple[Callable[[], float], dict[str, float]]:
    """Measures seconds of a step; and what the compiler counts in it."""
    program = programs.lower(programs.config(stage), jax.devices()[:1])
    compiled = program.compiled
    cost = compiled.cost_analysis()
    if not cost or not {"flops", "bytes accessed"} <= cost.keys():
        raise RuntimeError(
            f"The compiler counts no operations or bytes, only {sorted(cost or {})}."
        )
    counted = {"operations": cost["flops"], "bytes": cost["bytes accessed"]}
    state, batch = program.start()

    def measure() -> float:
        nonlocal state
        start = time.perf_counter()
        for _ in range(shared.STEPS.value):
            state, _ = compiled(state, batch)
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / shared.STEPS.value

    measure()
    return measure, counted


def _measure(
    stage: str, products: list[Callable[[], float]], copy: Callable[[], float]
) -> dict[str, Any]:
    """Fractions of both ceilings that a stage's step reaches."""
    step, counted = _step(stage)
    rounds = [
        (step(), max(product() for product in products), copy())
        for _ in range(shared.ROUNDS.value)
    ]
    operations, moved = counted["operations"], counted["bytes"]
    of_operations = [operations / seconds / flops for seconds, flops, _ in rounds]
    of_bytes = [moved / seconds / rate for seconds, _, rate in rounds]
    return {
        **counted,
        "seconds": recording.spread([seconds for seconds, _, _ in rounds]),
        "ceiling_operations_per_second": recording.spread([f for _, f, _ in rounds]),
        "ceiling_bytes_per_second": recording.spread([r for _, _, r in rounds]),
        "fraction_of_operations": recording.spread(of_operations),
        "fraction_of_bytes": recording.spread(of_bytes),
        "fraction_of_roof": recording.spread(list(map(max, of_operations, of_bytes))),
    }


def main(arguments: list[str]) -> None:
    """Measures, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    products = [_matmul(side, shared.DTYPE.value) for side in _SIDES.value]
    copy = _copy()
    rows = [["stages", "ms", "Gflop", "GB", "Gflop/s", "of ceiling", "GB/s", "of it"]]
    results: dict[str, Any] = {
        "network": shared.NETWORK.value,
        "image_size": shared.SIZE.value,
        "batch_size": shared.BATCH.value,
        "dtype": shared.DTYPE.value,
    }
    for stage in _STAGES.value:
        found = results[stage] = _measure(stage, products, copy)
        seconds = found["seconds"]["median"]
        rows.append(
            [
                stage,
                f"{1e3 * seconds:.0f}",
                f"{found['operations'] / 1e9:.0f}",
                f"{found['bytes'] / 1e9:.1f}",
                f"{found['operations'] / seconds / 1e9:.0f}",
                f"{found['fraction_of_operations']['median']:.2f}",
                f"{found['bytes'] / seconds / 1e9:.1f}",
                f"{found['fraction_of_bytes']['median']:.2f}",
            ]
        )
    recording.table(rows)
    device = jax.devices()[0]
    kind = "cpu" if device.platform == "cpu" else device.device_kind
    question = f"ceiling {shared.NETWORK.value}"
    recording.write(question, results, n=shared.ROUNDS.value, device=kind)


if __name__ == "__main__":
    flags.set_default(shared.STEPS, 3)
    app.run(main)
