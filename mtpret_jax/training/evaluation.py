"""The only loop over an evaluation split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np

from mtpret_jax import types
from mtpret_jax.training import sharding

Records = dict[str, np.ndarray]


def evaluate(
    predict: Callable[[types.Batch], tuple[types.Tree, types.Tree]],
    batches: Iterable[types.Batch],
    metric: types.Metric,
    *,
    put: Callable[[types.Batch], types.Batch],
    samples: int = 0,
) -> tuple[Records, Records]:
    """Runs a model over a split.

    Args:
      predict: Compiled; global batch to its predictions and its own arrays, both
        whole on every process.
      batches: Host batches; padding rows are dropped here.
      metric: Says what to keep of each example.
      put: Host batch to global batch.
      samples: How many of the first examples to keep whole, inputs included.

    Returns:
      The metric's records of all examples in order of `record`, and of the first
      `samples` examples every array of batch and prediction (where both have a
      name, the batch's gets `_true` at its end).
    """
    parts: list[Records] = []
    kept: list[Records] = []
    for batch in batches:
        outputs, arrays = predict(put(batch))
        sampling = sum(len(part["record"]) for part in kept) < samples
        if not sampling:  # Pictures are not worth the copy.
            arrays = {name: arrays[name] for name in arrays if name != "image"}
        outputs, arrays = sharding.fetch((outputs, arrays))
        valid = arrays["example_valid"]
        outputs = {name: value[valid] for name, value in outputs.items()}
        arrays = {name: value[valid] for name, value in arrays.items()}
        parts.append({**metric.records(outputs, arrays), "record": arrays["record"]})
        if sampling:
            truth = {
                f"{name}_true" if name in outputs else name: value
                for name, value in arrays.items()
            }
            kept.append(truth | outputs)
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
