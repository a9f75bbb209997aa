"""What the intervals of one cell cost, by weights and the plain way.

    python -m benchmarks.resampling

Predictions as large as those of ChestX-ray14's test split are written as a run leaves
them. A report's cell is measured from them twice: draws made, then found again. The
first draws are also made the plain way, one resampled set at a time, and compared.
"""

from __future__ import annotations

import csv
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import app, flags
from etils import epath

from benchmarks import recording
from mtpret_jax.metrics import classification, intervals, ratios
from mtpret_jax.report import measured

_IMAGES = flags.DEFINE_integer("test_images", 25_596, "Images of the split.")
_PATIENTS = flags.DEFINE_integer("patients", 2797, "Groups that are drawn whole.")
_LABELS = flags.DEFINE_integer("labels", 14, "Labels that do not exclude each other.")
_DRAWS = flags.DEFINE_integer("draws", 1000, "Draws of the cell.")
_PLAIN = flags.DEFINE_integer("plain_draws", 50, "How many of them also plainly.")
_SEED = 0


def write_predictions(folder: pathlib.Path) -> epath.Path:
    """Writes invented predictions of `test` with their groups, as a run does."""
    rng = np.random.default_rng(_SEED)
    shape = (_IMAGES.value, _LABELS.value)
    label = rng.random(shape) < np.geomspace(0.002, 0.3, shape[1])
    odds = rng.normal(size=shape) + 1.2 * label - 2
    folder.mkdir(parents=True)
    path = folder / "test.npz"
    np.savez(
        path,
        probability=(1 / (1 + np.exp(-odds))).astype(np.float32),
        label=label.astype(np.float32),
        label_known=np.ones(shape, bool),
        record=np.arange(shape[0], dtype=np.int32),
    )
    with (folder / "test.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["record", "group"])
        rows.writerows(enumerate(rng.integers(_PATIENTS.value, size=shape[0])))
    return epath.Path(path)


def _area(rank: np.ndarray, positive: np.ndarray) -> float:
    """AUROC from ranks, ties one half."""
    won, lost = (
        np.bincount(rank[side], minlength=rank.max() + 1)
        for side in (positive, ~positive)
    )
    pairs = won.sum() * lost.sum()
    return float(won @ (lost.cumsum() - lost / 2) / pairs) if pairs else float("nan")


def _values(
    metric: classification.ClassificationMetric, summary: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """The values of one resampled set whose labels are all known."""
    true, decided = summary["positive"], summary["decided"]
    area = [_area(r, t) for r, t in zip(summary["rank"].T, true.T, strict=True)]
    agreed = (true == decided).mean(axis=0)
    p, q = true.mean(axis=0), decided.mean(axis=0)
    chance = p * q + (1 - p) * (1 - q)
    sides = (true & decided, true), (~true & ~decided, ~true)
    found, spared = (ratios.ratio(a.sum(axis=0), b.sum(axis=0)) for a, b in sides)
    kappa = ratios.ratio(agreed - chance, np.where(p * (1 - p) > 0, 1 - chance, 0))
    parts = {"auroc": area, "accuracy": agreed, "sensitivity": found}
    parts |= {"specificity": spared, "kappa": kappa}
    values = {name: float(ratios.mean(part)) for name, part in parts.items()}
    names = (f"auroc/{name}" for name in metric.class_names)
    return values | dict(zip(names, area, strict=True))


def plain(
    metric: classification.ClassificationMetric, cell: measured.Measured, resamples: int
) -> dict[str, np.ndarray]:
    """The first draws of a cell by index arrays, float64 [resamples] each."""
    names, code = np.unique(cell.groups, return_inverse=True)
    members = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code)))
    rng = np.random.default_rng(_SEED)
    drawn = []
    for _ in range(resamples):
        chosen = rng.integers(len(names), size=len(names))
        index = np.concatenate([members[group] for group in chosen])
        values = _values(metric, {k: x[index] for k, x in cell.summary.items()})
        drawn.append(intervals.comparable(values, cell.values))
    return {name: np.array([one[name] for one in drawn]) for name in drawn[0]}


def _timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a call gives, and its seconds: by the clock, and of all processors."""
    wall, processor = time.perf_counter(), time.process_time()
    found = call()
    return found, {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }


def main(arguments: list[str]) -> None:
    """Measures, shows and writes."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}.")
    names = tuple(f"finding {c}" for c in range(_LABELS.value))
    metric = classification.ClassificationMetric(names, exclusive=False)
    with tempfile.TemporaryDirectory() as temporary:
        path = write_predictions(pathlib.Path(temporary) / "predictions")

        def measure() -> measured.Measured:
            return measured.measure(path, metric, resamples=_DRAWS.value, seed=_SEED)

        cell, first = _timed(measure)
        _, again = _timed(measure)
    checked = min(_PLAIN.value, _DRAWS.value)
    expected, slow = _timed(lambda: plain(metric, cell, checked))
    largest = 0.0
    for name, values in expected.items():
        ours = cell.draws[name][:checked]
        if not np.array_equal(np.isnan(ours), np.isnan(values)):
            raise AssertionError(f"{name} is defined on other draws than plainly.")
        largest = max(largest, float(np.nanmax(np.abs(ours - values), initial=0)))
    slow = {key: value * _DRAWS.value / checked for key, value in slow.items()}
    parts = {"first": first, "again": again, "plain (reckoned)": slow}
    recording.table(
        [["cell", "seconds", "of processors"]]
        + [
            [name, *(f"{part[key]:.1f}" for key in ("seconds", "processor_seconds"))]
            for name, part in parts.items()
        ]
    )
    recording.show(f"Largest difference over {checked} draws: {largest:.1e}")
    results: dict[str, Any] = {**parts, "largest_difference": largest}
    results |= {"images": _IMAGES.value, "labels": _LABELS.value}
    recording.write("resampling", results, n=_DRAWS.value)


if __name__ == "__main__":
    app.run(main)
