"""The only loop over an evaluation split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from mtpret_jax import types
from mtpret_jax.training import preemption, sharding

Records = dict[str, np.ndarray]


class Worst:
    """Keeps whole the examples that turned out worst, the worst first.

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
        error = np.concatenate([self._error, error])
        both = join([self.arrays, arrays]) if self.arrays else arrays
        known = np.flatnonzero(np.isfinite(error))
        order = known[np.argsort(-error[known], kind="stable")][: self._count]
        self._error = error[order]
        self.arrays = {name: value[order] for name, value in both.items()}


def evaluate(
    predict: Callable[[types.Batch], tuple[types.Tree, types.Tree]],
    batches: Iterable[types.Batch],
    metric: types.Metric,
    *,
    put: Callable[[types.Batch], types.Batch],
    samples: int = 0,
    worst: Worst | None = None,
) -> tuple[Records, Records]:
    """Runs a model over a split.

    Args:
      predict: Compiled; global batch to its predictions and its own arrays, both
        whole on every process.
      batches: Host batches; padding rows are dropped here.
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
    for batch in batches:
        preemption.check()
        outputs, arrays = predict(put(batch))
        sampling = sum(len(part["record"]) for part in kept) < samples
        if not sampling and worst is None:  # Pictures are not worth the copy.
            arrays = {name: arrays[name] for name in arrays if name != "image"}
        outputs, arrays = sharding.fetch((outputs, arrays))
        valid = arrays["example_valid"]
        outputs = {name: value[valid] for name, value in outputs.items()}
        arrays = {name: value[valid] for name, value in arrays.items()}
        parts.append({**metric.records(outputs, arrays), "record": arrays["record"]})
        truth = {
            f"{name}_true" if name in outputs else name: value
            for name, value in arrays.items()
        }
        if sampling:
            kept.append(truth | outputs)
        if worst is not None:
            worst.add(parts[-1], truth | outputs)
    if not parts:
        raise ValueError("Evaluation: the split gave no batch.")
    records = join(parts)
    order = np.argsort(records["record"], kind="stable")
    records = {name: value[order] for name, value in records.items()}
    chosen = join(kept) if kept else {}
    return records, {name: value[:samples] for name, value in chosen.items()}


def join(parts: list[Records]) -> Records:
    """Joins records along the example axis."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def values(metric: types.Metric, records: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metric's values over all records."""
    return metric.compute(metric.summarise(records))


def with_arrays(
    predict: Callable[[types.Tree, types.Tree, types.Batch], dict[str, jax.Array]],
) -> Callable[[types.Tree, types.Tree, types.Batch], tuple[types.Tree, types.Tree]]:
    """Adds the batch's arrays: every process then has the truth of all rows."""
    return lambda params, model_state, batch: (
        predict(params, model_state, batch),
        batch.arrays,
    )
