"""Gathers what a work folder holds into one dict: `report.json` or `study.json`.

A config of runs is a study of one seed and one fraction of the labels. Every value is
measured again here, from the predictions on disk. Works on a folder that is not
finished, too: what is missing is listed, and verdicts are on what is there.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import budget
from mtpret_jax.metrics import intervals
from mtpret_jax.report import comparisons, grid, measured, transfer
from mtpret_jax.study import arms, plan
from tfds_builders import whole

_CURVES = ("loss", "accuracy")  # of training, that are kept
Index = Sequence[Mapping[str, str]]


def build(
    workdir: epath.PathLike,
    config: schema.ExperimentConfig,
    metrics: Mapping[str, types.Metric],
    indices: Mapping[str, Index],
) -> dict[str, Any]:
    """Measures every finished cell, judges the claims and gathers the rest.

    Args:
      workdir: The work folder.
      config: What it was made from, expanded.
      metrics: The metric of each task.
      indices: Rows of the index of each set's test split, by record.

    Returns:
      What the file for machines holds; what is undefined is NaN. Fractions of the
      labels are keys such as "0.1". `values`, `efficiency`, `calibration`, `frozen`,
      `confusion`, `compute`, `subgroups` and `samples` are by task; the last two are of
      the cells that `shown` names.

    Raises:
      FileNotFoundError: If a finished run has no predictions.
      ValueError: If two arms were measured on different examples.
    """
    facts = _facts(epath.Path(workdir), config)
    remembered = transfer.describe(config, facts["forgetting"])
    planned = plan.cells(config)
    fractions = [comparisons.key(cell.fraction) for cell in planned] or ["1"]
    return {
        **facts,
        **_measured(epath.Path(workdir), config, metrics, indices, facts),
        "seed": config.seed,
        "baseline": config.report.baseline,
        "fractions": list(dict.fromkeys(fractions)),
        "seeds": list(config.study.seeds),
        "arms": _arms(config, facts),
        "shown": {
            "fraction": fractions[0],
            "seed": 0,
            "pictures": config.report.samples,
        },
        "cells": [dataclasses.asdict(cell) for cell in planned],
        "compute": compute(config),
        "forgetting": remembered,
        "transfer": transfer.transfer(remembered),
        "labels": {name: run.get("labels", {}) for name, run in facts["runs"].items()},
    }


def _measured(
    folder: epath.Path,
    config: schema.ExperimentConfig,
    metrics: Mapping[str, types.Metric],
    indices: Mapping[str, Index],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The parts that rest on predictions: by task those of `grid`, areas and claims."""
    enough = comparisons.resamples(config)
    # A config of runs names the resamples of its intervals.
    drawn = enough if config.study.tasks else config.report.bootstrap
    interval = {"level": intervals.LEVEL, "resamples": drawn, "unit": "group"}
    found: dict[str, Any] = {part: {} for part in ("tasks", *grid.PARTS)}
    found |= {"interval": interval | {"judged": enough}, "areas": []}
    compared: list[comparisons.Compared] = []
    pairs, ended = comparisons.pairs(config), _ended(config, facts)
    for name in _tasks(config, facts):
        metric, options = metrics[name], config.tasks[name]
        mine = [cell for cell in ended if cell.task == name]
        task = grid.Grid(folder, config, metric, mine)
        cells = task.measure(drawn)
        judged = cells if drawn == enough else task.measure(enough)
        planned = [pair for pair in pairs if pair.task == name]
        compared += comparisons.compare(planned, judged, metric)
        found["areas"] += comparisons.areas(planned, judged, metric)
        found["tasks"][name] = _task(config, name, metric, cells, facts["runs"])
        told = task.describe(cells, indices.get(options.dataset, ()), drawn)
        for part, value in told.items():
            found[part][name] = value
    return found | {"claims": comparisons.claims(config, compared)}


def without_nan(value: Any) -> Any:
    """A tree with None for NaN and infinity, and plain numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(name): without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [without_nan(part) for part in value]
    if isinstance(value, np.generic):
        return without_nan(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _facts(folder: epath.Path, config: schema.ExperimentConfig) -> dict[str, Any]:
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
        "split": measured.SPLIT,
        "curves": {name: _curves(folder / "runs" / name) for name in runs},
        "forgetting": {
            name: transfer.read(path)
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


def _curves(folder: epath.Path) -> dict[str, dict[str, list[float]]]:
    """Scalars of a run that are shown, by name: all of validation, how training went.

    Returns:
      `step` and `value` lists of each; empty without a file.
    """
    path = folder / "metrics.jsonl"
    curves: dict[str, dict[str, list[float]]] = {}
    for line in whole.read(path).splitlines() if path.exists() else ():
        scalars = json.loads(line)
        step = scalars.pop("step")
        for name, value in scalars.items():
            if name.startswith("validation/") or name.rpartition("/")[2] in _CURVES:
                curve = curves.setdefault(name, {"step": [], "value": []})
                curve["step"].append(step)
                curve["value"].append(math.nan if value is None else value)
    return curves


def _ended(
    config: schema.ExperimentConfig, facts: Mapping[str, Any]
) -> list[plan.Cell]:
    """The cells whose run has finished."""
    return [c for c in plan.cells(config) if c.run not in facts["unfinished"]]


def _tasks(
    config: schema.ExperimentConfig, facts: Mapping[str, Any]
) -> tuple[str, ...]:
    """All tasks of a study; of a config of runs, those of which a run has ended."""
    found = {cell.task for cell in _ended(config, facts)}
    return config.study.tasks or tuple(task for task in config.tasks if task in found)


def _arms(config: schema.ExperimentConfig, facts: Mapping[str, Any]) -> dict[str, str]:
    """What each arm is: as the table of arms says, or where its weights come from.

    Those of a config of runs in the order of their tasks, the baseline first.
    """
    if config.study.tasks:
        return {arm: arms.ARMS[arm].meaning for arm in config.study.arms}
    ended, found = _ended(config, facts), {}
    for task in _tasks(config, facts):
        for cell in ended:
            if cell.task == task and cell.arm not in found:
                share = config.runs[cell.run].label_fraction
                part = "" if share == 1 else f"; {100 * share:g} % of the labels"
                found[cell.arm] = _start(cell.run, facts["runs"]) + part
    return dict(sorted(found.items(), key=lambda x: x[0] != config.report.baseline))


def _start(run: str, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Where a run's weights come from, through all parents."""
    parent, chain = runs[run]["parent"], []
    while parent in runs and len(chain) < len(runs):
        row = runs[parent]
        chain.append(f"{parent} ({row['stage']}, {row['steps']} steps)")
        parent = row["parent"]
    if parent:
        chain.append(str(parent))
    return f"starts from {', which started from '.join(chain) or 'random weights'}"


def _task(
    config: schema.ExperimentConfig,
    name: str,
    metric: types.Metric,
    cells: comparisons.Cells,
    runs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What a task is; numbers of its test split once a cell has ended."""
    options = config.tasks[name]
    first = next((one for row in cells.values() for one in row.values()), None)
    run = {} if first is None else runs[grid.run_of(first)]
    labels = run["labels"][run["task"]]["test"] if run else {}
    found = {
        "kind": options.kind,
        "dataset": options.dataset,
        "external": name in config.study.hold_out,
        "exclusive": options.exclusive,
        "primary": metric.primary,
        "class_names": list(metric.class_names),
        "image_size": options.image_size,
        "images": labels.get("records"),
        "groups": labels.get("groups"),
        "positives": labels.get("positives"),
        "studies": first.studies if first else 0,
        "best_dice_of_grid": run.get("best_dice_of_grid"),
        # Arms that come to the same as another, such as the control of a task that is
        # held out.
        "same_as": plan.same_as(config, name),
    }
    if not config.study.tasks:
        found["arms"] = grid.one_by_one(cells, config.report.baseline, runs)
    return found


def compute(config: schema.ExperimentConfig) -> dict[str, dict[str, dict[str, Any]]]:
    """What each cell takes, with all that it descends from, alike for every seed.

    Returns:
      By task, fraction and arm: `updates`, `images`, and `start`, the same of what its
      fine-tuning starts from.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in plan.cells(config):
        start = config.runs[cell.run].init_from
        none = budget.Compute(0, 0)
        before = budget.compute(config, start) if start in config.runs else none
        row = dataclasses.asdict(budget.compute(config, cell.run))
        row["start"] = dataclasses.asdict(before)
        by_fraction = found.setdefault(cell.task, {})
        by_fraction.setdefault(comparisons.key(cell.fraction), {})[cell.arm] = row
    return found


def _read_json(path: epath.Path) -> Any:
    """The file's content, or None where the work folder has no such file."""
    return whole.read_json(path) if path.exists() else None
