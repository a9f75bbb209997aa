"""The only loop over an evaluation split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from mtpret_jax import types
from mtpret_jax.training import preemption, sharding

Records = dict[str, np.ndarray]


class Worst:
    """Keeps whole the examples that turned out worst, the worst first.

    Each process looks at its own, and `join` leaves those of all.

    Attributes:
      arrays: Inputs and predictions of these, as `evaluate` gives samples.
    """

    def __init__(self, metric: types.Metric, count: int) -> None:
        """Keeps `count` examples at most, by `metric.error`."""
        self.arrays: Records = {}
        self._metric, self._count = metric, count
        self._error = np.empty(0)

    def add(self, records: Records, arrays: Records) -> None:
        """Looks at a batch: what the metric needs of it, and the whole of it."""
        error = np.asarray(self._metric.error(records), float)
        self._keep(
            np.concatenate([self._error, error]),
            join([self.arrays, arrays]) if self.arrays else arrays,
        )

    def join(self) -> None:
        """Keeps the worst of what all processes kept."""
        both = {**self.arrays, "": self._error}
        both = sharding.join_processes(both, self._count)
        self._keep(both.pop(""), both)

    def _keep(self, error: np.ndarray, arrays: Records) -> None:
        known = np.flatnonzero(np.isfinite(error))
        order = np.lexsort((arrays["record"][known], -error[known]))
        kept = known[order][: self._count]
        self._error = error[kept]
        self.arrays = {name: value[kept] for name, value in arrays.items()}


def evaluate(
    predict: Callable[[types.Batch], types.Tree],
    batches: Iterable[types.Batch],
    metric: types.Metric,
    *,
    put: Callable[[types.Batch], types.Batch],
    samples: int = 0,
    worst: Worst | None = None,
) -> tuple[Records, Records]:
    """Runs a model over a split.

    Each process measures the rows that it read; then only records are exchanged, and
    the few examples that are kept whole.

    Args:
      predict: Compiled; global batch to predictions, whose rows lie where the batch's
        do.
      batches: This process's rows of each batch; padding rows are dropped here.
      metric: Says what to keep of each example.
      put: Host batch to global batch.
      samples: How many of the first examples to keep whole, inputs included.
      worst: Is shown every example, to keep the worst.

    Returns:
      The metric's records of all examples in order of `record`, and of the first
      `samples` examples every array of batch and prediction (where both have a
      name, the batch's gets `_true` at its end).
    """
    parts: list[Records] = []
    kept: list[Records] = []
    read = 0
    for batch in batches:
        preemption.check()
        outputs = sharding.fetch_rows(predict(put(batch)))
        read += len(batch.arrays["record"])
        valid = batch.arrays["example_valid"]
        outputs = {name: value[valid] for name, value in outputs.items()}
        arrays = {name: value[valid] for name, value in batch.arrays.items()}
        parts.append({**metric.records(outputs, arrays), "record": arrays["record"]})
        truth = {
            f"{name}_true" if name in outputs else name: value
            for name, value in arrays.items()
        }
        missing = samples - sum(len(part["record"]) for part in kept)
        if missing > 0:
            first = truth | outputs
            kept.append({name: value[:missing] for name, value in first.items()})
        if worst is not None:
            worst.add(parts[-1], truth | outputs)
    if not parts:
        raise ValueError("Evaluation: the split gave no batch.")
    if worst is not None:
        worst.join()
    records = _ordered(sharding.join_processes(join(parts), read))
    chosen = join(kept) if kept else {}
    if chosen:
        chosen = _ordered(sharding.join_processes(chosen, samples))
    return records, {name: value[:samples] for name, value in chosen.items()}


def _ordered(records: Records) -> Records:
    """By `record`."""
    order = np.argsort(records["record"], kind="stable")
    return {name: value[order] for name, value in records.items()}


def join(parts: list[Records]) -> Records:
    """Joins records along the example axis."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def values(metric: types.Metric, records: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metric's values over all records."""
    return metric.compute(metric.summarise(records))
