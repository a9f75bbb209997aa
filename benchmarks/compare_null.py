"""Encoders that are alike by design: how often `compare` calls one better, how fast.

Small tables: an encoder's feature is a signal that all share, and noise of its own, of
one law for all. Each draw makes new patients and noise for every task and judges all
encoders: any verdict is an error of the family. With `--null=same` encoders differ on
the test split alone, so that the probes that were fitted are alike, too. Intervals of
values and of differences are held against what the same probes reach on many other
patients; those with other training patients against zero.

Run:     python -m benchmarks.compare_null [--count=500] [--null=same]
         python -m benchmarks.compare_null --speed
Expect:  family-wise error at most 0.05 (+ 2 SE), coverage 93 to 97 %, within 30 minutes
         on two cores; three tables of 768 features, five tasks, three shares in 5.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import multiprocessing
import pathlib
import sys
import tempfile
import time
import types
from typing import Any

import numpy as np

from benchmarks import harness
from mtpret_jax import config as schema
from mtpret_jax.comparison import features, gather, judge, page, sets
from mtpret_jax.metrics import classification, probes

TASKS, ENCODERS = 5, ("first", "second", "third")
TELLING = 4  # features that tell the label
TRUTH = 4000  # patients that tell what a probe really reaches
CLASSES = ("no", "yes")


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a table is: features, and patients of each split, two images each."""

    features: int = 16
    train: int = 100
    validation: int = 50
    test: int = 100


class Table:
    """An encoder of arrays."""

    def __init__(self, name: str, of_split: dict[str, dict[str, np.ndarray]]) -> None:
        """`of_split` has features by task and split."""
        self.about = features.About("table", name)
        self._of_split = of_split

    def features(self, task: sets.Task, split: str) -> np.ndarray:
        return self._of_split[task.name][split]


def people(
    rng: np.random.Generator, patients: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] of two images a patient, and the signal of each image [N, D]."""
    owner = np.repeat(np.arange(patients), 2)
    label = rng.integers(0, 2, patients)[owner]
    signal = 0.7 * rng.normal(size=(patients, width))[owner]
    signal += 0.7 * rng.normal(size=(len(owner), width))
    signal[:, :TELLING] += 0.45 * (2 * label[:, np.newaxis] - 1)
    return label, signal


def see(rng: np.random.Generator, signal: np.ndarray) -> np.ndarray:
    """What an encoder makes of images: the signal, and noise of its own."""
    return (signal + rng.normal(size=signal.shape)).astype(np.float32)


def make_split(name: str, label: np.ndarray) -> sets.Split:
    """A split without pixels."""
    rows = [
        {
            "image_id": f"{name}-{n}",
            "group": f"{name}-{n // 2}",
            "label": CLASSES[one],
        }
        for n, one in enumerate(label)
    ]
    source: Any = types.SimpleNamespace(index=rows)
    records = np.arange(len(label), dtype=np.int32)
    one_hot = np.eye(2, dtype=np.float32)[label]
    return sets.Split(source, records, one_hot, np.ones(one_hot.shape, bool))


def make(
    rng: np.random.Generator, size: Size, null: str
) -> tuple[list[sets.Task], dict[str, gather.Known], dict[str, Any]]:
    """Tasks, encoders, and of each task other patients as each encoder sees them."""
    tasks, others = [], {}
    seen: dict[str, dict[str, dict[str, np.ndarray]]] = {name: {} for name in ENCODERS}
    for number in range(TASKS):
        name, splits = f"task{number}", {}
        for part in sets.SPLITS:
            label, signal = people(rng, getattr(size, part), size.features)
            splits[part] = make_split(part, label)
            found = {each: see(rng, signal) for each in ENCODERS}
            if null == "same" and part != "test":
                found = dict.fromkeys(ENCODERS, found[ENCODERS[0]])
            for each, feature in found.items():
                seen[each].setdefault(name, {})[part] = feature
        label, signal = people(rng, TRUTH, size.features)
        others[name] = (label, {each: see(rng, signal) for each in ENCODERS})
        metric = classification.ClassificationMetric(CLASSES, exclusive=True)
        row = schema.TaskConfig(dataset=name)
        made = {"fingerprint": ""}
        tasks.append(sets.Task(name, row, made, metric, splits, {}))
    encoders = {
        name: gather.Known(Table(name, of_split), (), "")
        for name, of_split in seen.items()
    }
    return tasks, encoders, others


def reached(
    task: sets.Task, known: gather.Known, strength: float, other: Any, name: str
) -> float:
    """The primary value of a fitted probe among many other patients."""
    label, seen = other
    train = task.splits["train"]
    examples = probes.Examples(
        known.encoder.features(task, "train"), train.label, train.known, exclusive=True
    )
    probability = probes.linear(examples, seen[name], strength=strength)
    records = make_split("other", label).records_of(probability)
    return task.metric.compute(task.metric.summarise(records))[task.metric.primary]


def draw(number: int, *, seed: int, size: Size, null: str) -> dict[str, Any]:
    """One family: whether anything was claimed, and which intervals hold the truth."""
    rng = np.random.default_rng([seed, number])
    tasks, encoders, others = make(rng, size, null)
    settings = judge.Settings(fractions=(1.0,), seed=number)
    found = gather.build(tasks, encoders, settings, datasets=(), left_out={})
    truth = {
        (task.name, name): reached(
            task,
            known,
            found.probes[task.name]["1"][name].strength,
            others[task.name],
            name,
        )
        for task in tasks
        for name, known in encoders.items()
    }
    held = {"value": [], "difference": [], "refitted": []}
    for (task, name), true in truth.items():
        one = found.values[task]["1"][name]["linear"]["auroc"]
        held["value"].append(one.low <= true <= one.high)
    for row in found.judged:
        true = truth[row.task, row.encoder] - truth[row.task, row.baseline]
        held["difference"].append(row.low <= true <= row.high)
        held["refitted"].append(row.low_retrained <= 0 <= row.high_retrained)
    return {
        "claimed": any(row.p_corrected < 0.05 for row in found.judged),
        **{name: float(np.mean(each)) for name, each in held.items()},
    }


def simulate(options: argparse.Namespace) -> int:
    """Draws families; the exit code is 0 if the bar is met."""
    size = Size(options.features, options.train, options.train // 2, options.test)
    one = functools.partial(draw, seed=options.seed, size=size, null=options.null)
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(harness.CORES, context) as pool:
        draws = list(pool.map(one, range(options.count), chunksize=4))
    results: dict[str, Any] = {"seconds": time.monotonic() - start}
    rows = [["", "share", "SE"]]
    for name in draws[0]:
        values = np.array([each[name] for each in draws], float)
        error = values.std(ddof=1) / np.sqrt(len(values))
        results[name] = {"share": values.mean(), "error": error}
        rows.append([name, f"{values.mean():.3f}", f"{error:.3f}"])
    harness.table(rows)
    harness.show(f"{options.count} families in {results['seconds']:.0f} s")
    harness.write(f"compare_null_{options.null}", results, options, n=options.count)
    claimed, covered = results["claimed"], results["difference"]["share"]
    is_met = claimed["share"] <= 0.05 + 2 * claimed["error"] and 0.93 <= covered <= 0.97
    return 0 if is_met else 1


def speed(options: argparse.Namespace) -> int:
    """Times three tables, five tasks and three shares, the page included."""
    rng = np.random.default_rng(options.seed)
    tasks, encoders, _ = make(rng, Size(768, 350, 50, 100), "alike")
    start = time.monotonic()
    found = gather.build(
        tasks,
        encoders,
        judge.Settings(),
        datasets=(),
        left_out={},
        progress=harness.show,
    )
    with tempfile.TemporaryDirectory() as folder:
        page.write(pathlib.Path(folder), found)
    seconds = time.monotonic() - start
    harness.show(f"{seconds:.0f} s")
    harness.write("compare_speed", {"seconds": seconds}, options, n=1)
    return 0 if seconds < 300 else 1


def main() -> int:
    """Prints a table; the exit code is 0 if the bar is met."""
    made = harness.parser(__doc__, count=500, seed=0)
    made.add_argument("--null", choices=["alike", "same"], default="alike")
    made.add_argument("--features", type=int, default=16, help="of a table")
    made.add_argument("--train", type=int, default=100, help="patients")
    made.add_argument("--test", type=int, default=100, help="patients")
    made.add_argument("--speed", action="store_true", help="time large tables instead")
    options = made.parse_args()
    return speed(options) if options.speed else simulate(options)


if __name__ == "__main__":
    sys.exit(main())
