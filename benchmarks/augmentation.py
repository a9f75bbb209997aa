"""Views of stage 1 made on the host, against the same made inside the compiled step.

    python -m benchmarks.augmentation

The host's way is `data.augment`, as a run has it, on as many threads. The other,
`device_views`, lives here alone: the host draws, the device warps and changes. Both
begin with decoded pictures, half as large again as the input, and use the same draws,
so they give the same views. README.md beside this file says what is measured.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app

from benchmarks import device_views, ours, recording, shared
from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.data import augment, pipeline, transforms
from mtpret_jax.stages import contrastive
from mtpret_jax.training import sharding

_ALL = schema.AUGMENT_PRESETS["contrastive"]
_WARP = dataclasses.replace(
    _ALL, brightness=0.0, contrast=0.0, gamma=0.0, blur_probability=0.0, noise=0.0
)
# What is done besides; the warp and the normalisation always are.
PARTS: Mapping[str, schema.AugmentConfig] = {
    "warp, normalisation": _WARP,
    "with brightness, contrast, gamma": dataclasses.replace(
        _WARP, brightness=_ALL.brightness, contrast=_ALL.contrast, gamma=_ALL.gamma
    ),
    "with blur": dataclasses.replace(_WARP, blur_probability=_ALL.blur_probability),
    "with noise": dataclasses.replace(_WARP, noise=_ALL.noise),
    "all": _ALL,
}


def pictures(count: int, size: int) -> np.ndarray:
    """Smooth noise, uint16 [count, 1.5 size, 1.5 size]."""
    rng, side = np.random.default_rng(0), size * 3 // 2
    small = rng.integers(0, 65_536, (count, 16, 16)).astype(np.float32)
    large = jax.image.resize(jnp.asarray(small), (count, side, side), "bilinear")
    return np.asarray(large).astype(np.uint16)


def on_host(
    picture: np.ndarray, rng: np.random.Generator, settings: schema.AugmentConfig
) -> tuple[np.ndarray, np.ndarray]:
    """A view as a run draws it; see `transforms.to_input`."""
    size = picture.shape[0] * 2 // 3
    view = augment.draw_view(rng, settings, picture, size=size, mode="pad")
    return transforms.to_input(view)


def _make_views(settings: schema.AugmentConfig) -> Callable[[int], types.Batch]:
    """Number of a batch to the batch as the step takes it."""
    stored, record = (
        pictures(shared.BATCH.value, shared.SIZE.value),
        np.arange(shared.BATCH.value),
    )

    def make(number: int) -> types.Batch:
        rng = np.random.default_rng(number)
        arrays = {"record": record.astype(np.int32)}
        for name in ("partner", "query_owner", "positive_owner"):
            arrays[name] = arrays["record"]
        for name in ("query", "positive"):
            drawn = zip(*(on_host(p, rng, settings) for p in stored), strict=True)
            arrays[name], arrays[f"{name}_statistics"] = map(np.stack, drawn)
        arrays["example_valid"] = np.ones(len(record), bool)
        return types.Batch(arrays, contrastive.TASK)

    return make


def _make_draws(settings: schema.AugmentConfig) -> Callable[[int], types.Batch]:
    """Number of a batch to pictures and draws, from which the step makes the same."""
    stored, record = (
        pictures(shared.BATCH.value, shared.SIZE.value),
        np.arange(shared.BATCH.value),
    )

    def make(number: int) -> types.Batch:
        rng = np.random.default_rng(number)
        arrays = {"record": record.astype(np.int32), "picture": stored}
        for name in ("partner", "query_owner", "positive_owner"):
            arrays[name] = arrays["record"]
        arrays["example_valid"] = np.ones(len(record), bool)
        for view in ("query", "positive"):
            drawn = [device_views.draw(rng, settings, stored.shape[1]) for _ in stored]
            for name in ("matrix", "draws"):
                arrays[f"{view}_{name}"] = np.stack([one[name] for one in drawn])
        return types.Batch(arrays, contrastive.TASK)

    return make


class _Expanding:
    """A stage whose step makes its views itself."""

    def __init__(self, stage: types.Stage) -> None:
        self.begin = stage.begin
        self._stage = stage

    def step(self, state: types.TrainState, batch: types.Batch) -> Any:
        """See `types.Stage`."""
        return self._stage.step(state, device_views.expand(batch, _ALL))


def _stream(
    make: Callable[[int], types.Batch], threads: int
) -> Generator[types.Batch, None, None]:
    """Batches that threads make ahead, a batch each, as a run's stream does."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting = collections.deque(pool.submit(make, i) for i in range(threads))
        for number in itertools.count(threads):
            yield waiting.popleft().result()
            waiting.append(pool.submit(make, number))


def _timed_parts(threads: int) -> dict[str, Any]:
    """Pairs a second of each part, on the host and on the device."""
    found = {}
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for name, settings in PARTS.items():
            make = _make_views(settings)
            expand = jax.jit(lambda batch, s=settings: device_views.expand(batch, s))
            batch = jax.device_put(_make_draws(settings)(0))
            host, device = [], []
            for _ in range(shared.ROUNDS.value + 1):
                begin = time.perf_counter()
                list(pool.map(make, range(2 * threads)))
                middle = time.perf_counter()
                for _ in range(2 * threads):
                    jax.block_until_ready(expand(batch))
                pairs = 2 * threads * shared.BATCH.value
                host.append(pairs / (middle - begin))
                device.append(pairs / (time.perf_counter() - middle))
            found[name] = {
                "host": recording.spread(host[1:]),  # The first round compiles.
                "device": recording.spread(device[1:]),
            }
    return found


def _timed_steps(threads: int) -> dict[str, Any]:
    """Pairs a second of training: with ready views, with either way's."""
    settings = {
        "kind": "contrastive",
        "network": shared.NETWORK.value,
        "image_size": shared.SIZE.value,
        "batch_size": shared.BATCH.value,
        "dtype": shared.DTYPE.value,
        "backbone": {"width": shared.WIDTH.value},
        "contrastive": {
            "queue_size": 128 * shared.BATCH.value,
            "batch_norm_rows": 0,
        },
    }
    trainer = ours.Trainer(ours.config(settings))
    expanding: Any = _Expanding(trainer.stage)
    _, inside = sharding.compile_stage(expanding, sharding.make_mesh())
    make, drawn = _make_views(_ALL), _make_draws(_ALL)
    ready = make(0)
    ways: dict[str, tuple[Any, Callable[[int], types.Batch]]] = {
        "ready views": (trainer.step, lambda _: ready),
        "on the host": (trainer.step, make),
        "in the step": (inside, drawn),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(shared.ROUNDS.value + 1):
        for name, (trainer.step, made) in ways.items():
            with contextlib.closing(_stream(made, threads)) as batches:
                trainer.run(shared.STEPS.value, batches)
                seconds = trainer.run(shared.STEPS.value, batches)
            if turn:  # In the first, programs are compiled.
                rates[name].append(shared.STEPS.value * shared.BATCH.value / seconds)
    return {name: recording.spread(found) for name, found in rates.items()}


def main(arguments: list[str]) -> None:
    """Measures, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    threads = pipeline.count_threads(schema.InputConfig())
    parts, steps = _timed_parts(threads), _timed_steps(threads)
    rows = [["pairs/s", "host", "device", "host over device"]]
    for name, found in parts.items():
        host, device = found["host"]["median"], found["device"]["median"]
        rows.append([name, f"{host:.0f}", f"{device:.0f}", f"{host / device:.2f}"])
    recording.table(rows)
    step = {name: found["median"] for name, found in steps.items()}
    recording.table(
        [["training", "pairs/s"], *([name, f"{r:.1f}"] for name, r in step.items())]
    )
    ratio = step["on the host"] / step["in the step"]
    recording.show(f"Training, host over in the step: {ratio:.3f}.")
    results = {"parts": parts, "training": steps, "host_over_step_ratio": ratio}
    sizes = {
        "image_size": shared.SIZE.value,
        "batch_size": shared.BATCH.value,
    }
    results |= {"threads": threads, **sizes}
    recording.write(
        f"augmentation {shared.NETWORK.value}",
        results,
        n=shared.ROUNDS.value,
        device=ours.device_name(),
    )


if __name__ == "__main__":
    app.run(main)
