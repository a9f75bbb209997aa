"""Gathers what a work folder holds into one dict, which is also `report.json`.

Every value of every arm is measured again here, from the predictions on disk, with an
interval that draws whole groups (patients). The same draws serve all arms of a task,
so differences are paired.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import budget
from mtpret_jax.metrics import classification, intervals
from mtpret_jax.report import keeping
from tfds_builders import whole
from tfds_builders.sources import cells

SPLIT = "test"


@dataclasses.dataclass(frozen=True)
class Measured:
    """One arm on one task.

    Attributes:
      folder: Of the predictions.
      records: The predictions, `record` (position in the split) rising; axis 0 of
        each array is the example.
      groups: Group of each example, [N].
      summary: What the metric's `summarise` made of the records.
      values: The metric's values on all examples.
      draws: The same values on every resample, float64 [R].
    """

    folder: epath.Path
    records: dict[str, np.ndarray]
    groups: np.ndarray
    summary: dict[str, np.ndarray]
    values: dict[str, float]
    draws: dict[str, np.ndarray]

    @property
    def record(self) -> np.ndarray:
        """Position of each example in the split, rising, int [N]."""
        return self.records["record"]

    @property
    def studies(self) -> int:
        """How many studies the examples belong to; 0 where none is known."""
        study = self.records.get("study", np.empty(0, np.int32))
        return len(np.unique(study[study >= 0]))


def build(
    workdir: epath.PathLike,
    config: schema.ExperimentConfig,
    metrics: Mapping[str, types.Metric],
) -> dict[str, Any]:
    """Measures every finished fine-tuning run and gathers the rest.

    Args:
      workdir: The work folder.
      config: What it was made from.
      metrics: The metric of each task.

    Returns:
      Title, settings, `tasks` (each with its `arms`), `curves` of every run,
      `forgetting` of stage 2, `runs`, `unfinished`, `audit` (what each pool of stage 1
      lost, and why), `datasets`, `versions`, `config`. What is undefined is NaN.

    Raises:
      FileNotFoundError: If a finished run has no predictions.
      ValueError: If two arms were measured on different examples.
    """
    folder = epath.Path(workdir)
    found = facts(folder, config)
    runs = found["runs"]
    compared: dict[str, dict[str, str]] = {}
    for name, run in runs.items():
        if name in found["unfinished"]:
            continue
        if run["stage"] == "finetune" and run.get("arm"):
            arms = compared.setdefault(run["task"], {})
            label = run["arm"] if run["arm"] not in arms else f"{run['arm']} ({name})"
            arms[label] = name
    return found | {
        "seed": config.seed,
        "baseline": config.report.baseline,
        "samples": config.report.samples,
        "interval": {
            "level": intervals.LEVEL,
            "resamples": config.report.bootstrap,
            "unit": "group",
        },
        "tasks": {
            task: _task(folder, config, task, arms, runs, metrics[task])
            for task, arms in sorted(
                compared.items(), key=lambda item: list(config.tasks).index(item[0])
            )
        },
    }


def facts(folder: epath.Path, config: schema.ExperimentConfig) -> dict[str, Any]:
    """What a work folder holds besides predictions.

    Returns:
      `title`, `split` (that is measured), `curves` of every run, `forgetting` of
      stage 2, `runs` (those that have a `run.json`; with `compute`), names of the
      `unfinished`, `audit`, `datasets`, `versions`, `config`.
    """
    runs = {}
    for name in config.runs:
        path = folder / "runs" / name / "run.json"
        if path.exists():
            cost = dataclasses.asdict(budget.compute(config, name))
            runs[name] = whole.read_json(path) | {"compute": cost}
    return {
        "title": config.report.title,
        "split": SPLIT,
        "curves": {name: read_curves(folder / "runs" / name) for name in runs},
        "forgetting": {
            name: _forgetting(path)
            for name in runs
            if (path := folder / "runs" / name / "forgetting.json").exists()
        },
        "runs": runs,
        "unfinished": [
            name for name in config.runs if not runs.get(name, {}).get("finished")
        ],
        "audit": {
            "pools": _read_json(folder / "audit" / "pool.json") or {},
            "findings": _read_json(folder / "audit" / "audit.json"),
        },
        "datasets": _read_json(folder / "datasets.json"),
        "versions": _read_json(folder / "versions.json"),
        "config": _read_json(folder / "config.json"),
    }


def without_nan(value: Any) -> Any:
    """The same tree with None for NaN and infinity, and plain numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(name): without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [without_nan(part) for part in value]
    if isinstance(value, np.generic):
        return without_nan(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_curves(folder: epath.Path) -> dict[str, dict[str, list[float]]]:
    """Scalars of a run: `step` and `value` lists by name; empty without a file."""
    path = folder / "metrics.jsonl"
    curves: dict[str, dict[str, list[float]]] = {}
    if not path.exists():
        return curves
    for line in whole.read(path).splitlines():
        scalars = json.loads(line)
        step = scalars.pop("step")
        for name, value in scalars.items():
            curve = curves.setdefault(name, {"step": [], "value": []})
            curve["step"].append(step)
            curve["value"].append(math.nan if value is None else value)
    return curves


def _task(
    folder: epath.Path,
    config: schema.ExperimentConfig,
    task: str,
    arms: Mapping[str, str],
    runs: Mapping[str, Mapping[str, Any]],
    metric: types.Metric,
) -> dict[str, Any]:
    """All arms of one task, measured, and compared with the baseline."""
    measured = {
        arm: measure(
            predictions(folder, run, task),
            metric,
            resamples=config.report.bootstrap,
            seed=config.seed,
        )
        for arm, run in arms.items()
    }
    baseline = measured.get(config.report.baseline)
    rows = {}
    for arm, run in arms.items():
        this = measured[arm]
        row: dict[str, Any] = {
            "run": run,
            "images": len(this.record),
            "groups": len(np.unique(this.groups)),
            "studies": this.studies,
            "values": {name: _value(this, name) for name in this.values},
        }
        if baseline is not None and this is not baseline:
            row["difference"] = _difference(task, arm, this, baseline)
        for key in ("best_step", "best_value", "steps", "seconds", "parent", "compute"):
            row[key] = runs[run].get(key)
        if isinstance(metric, classification.ClassificationMetric):
            row["confusion"] = metric.confusion(this.summary)
        rows[arm] = row
    options = config.tasks[task]
    grid = [runs[run].get("best_dice_of_grid") for run in arms.values()]
    names = getattr(metric, "class_names", None)
    return {
        "kind": options.kind,
        "dataset": options.dataset,
        "exclusive": options.exclusive,
        "image_size": options.image_size,
        "primary": metric.primary,
        "class_names": None if names is None else list(names),
        "best_dice_of_grid": next((value for value in grid if value is not None), None),
        "arms": rows,
    }


def predictions(
    folder: epath.Path, run: str, task: str, file: str = f"{SPLIT}.npz"
) -> epath.Path:
    """Where a run of a work folder keeps what it predicted."""
    return folder / "runs" / run / "predictions" / task / file


def measure(
    path: epath.Path, metric: types.Metric, *, resamples: int, seed: int
) -> Measured:
    """Measures predictions on all examples and on every resample; see `keeping`.

    Args:
      path: As `read_predictions` takes it.
      metric: Of the task.
      resamples: Number of draws.
      seed: Of the draws; with one seed, the same examples are drawn for every path.
    """
    records, groups = read_predictions(path)
    summary = metric.summarise(records)
    values = metric.compute(summary)
    draws = keeping.draws(
        path.parent, metric, summary, groups, resamples=resamples, seed=seed
    )
    return Measured(path.parent, records, groups, summary, values, draws)


def read_predictions(path: epath.Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reads predictions, sorted by record, and the group of each example.

    Args:
      path: `<split>.npz`, or `<split>.<what>.npz`, in the folder that `predictions`
        names; `<split>.csv` beside it knows the groups.

    Raises:
      FileNotFoundError: If the file is missing.
      ValueError: If an example has no group.
    """
    advice = (
        f"Run {path.parents[2].name!r} is marked as finished: delete {path.parent} and "
        "the run's run.json, then run the same command again."
    )
    records = whole.read_arrays(path, advice)
    order = np.argsort(records["record"], kind="stable")
    records = {name: array[order] for name, array in records.items()}
    listed = path.with_name(f"{path.name.partition('.')[0]}.csv")
    rows = cells.rows(whole.read(listed, advice).decode())
    known = {int(row["record"]): row["group"] for row in rows}
    missing = [int(r) for r in records["record"] if int(r) not in known]
    if missing:
        raise ValueError(
            f"{listed} has no group for records {missing[:5]} ({len(missing)} in all) "
            f"of {path.name}. {advice}"
        )
    return records, np.array([known[int(r)] for r in records["record"]])


def _value(measured: Measured, name: str) -> dict[str, float]:
    """A value, its interval, and how many resamples the interval rests on."""
    drawn = measured.draws[name]
    low, high = intervals.interval(drawn)
    return {
        "value": measured.values[name],
        "low": low,
        "high": high,
        "resamples": int(np.isfinite(drawn).sum()),
    }


def _difference(
    task: str, arm: str, this: Measured, baseline: Measured
) -> dict[str, dict[str, float]]:
    """Every value minus the baseline's, on the same draws."""
    require_same_examples(f"Arm {arm!r} of task {task!r}", this, baseline)
    compared = {}
    for name, value in this.values.items():
        drawn = this.draws[name] - baseline.draws[name]
        low, high = intervals.interval(drawn)
        compared[name] = {
            "difference": value - baseline.values[name],
            "low": low,
            "high": high,
            "resamples": int(np.isfinite(drawn).sum()),
        }
    return compared


def require_same_examples(name: str, this: Measured, other: Measured) -> None:
    """Raises ValueError unless both were measured on the same examples and groups."""
    if not np.array_equal(this.record, other.record) or not np.array_equal(
        this.groups, other.groups
    ):
        raise ValueError(
            f"{name} was measured on {len(this.record)} examples that are not the "
            f"{len(other.record)} that it is compared on. Run both in one work folder "
            "on the same prepared data."
        )


def _forgetting(path: epath.Path) -> dict[str, Any]:
    """The matrix of stage 2 and, for each task, its best, last and lost value."""
    matrix = whole.read_json(path)
    rows = {}
    for task in matrix["tasks"]:
        after = [_number(on_all(s).get(task)) for s in matrix["segments"]]
        known = [value for value in after if math.isfinite(value)]
        best = max(known, default=math.nan)
        last = after[-1] if after else math.nan
        rows[task] = {
            "best": best,
            "last": last,
            "forgotten": best - last if is_enough(matrix, task) else math.nan,
        }
    return {**matrix, "summary": rows}


def on_all(segment: Mapping[str, Any]) -> Mapping[str, float | None]:
    """Values after a segment of stage 2 on all validation images that may be used.

    Matrices of earlier versions have one kind of values.
    """
    return segment.get("whole", segment["values"])


def is_enough(matrix: Mapping[str, Any], task: str) -> bool:
    """Whether a task has the positives to tell what it forgot; if unknown, it has."""
    return matrix.get("measured_on", {}).get(task, {}).get("is_enough", True)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _read_json(path: epath.Path) -> Any:
    """The file's content, or None where the work folder has no such file."""
    return whole.read_json(path) if path.exists() else None
