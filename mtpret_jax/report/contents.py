"""Gathers what a work folder holds: `report.json` or `study.json`.

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
from mtpret_jax.audit import findings
from mtpret_jax.config import budget
from mtpret_jax.metrics import intervals, regression, representations
from mtpret_jax.report import comparisons, grid, measured, parts, transfer
from mtpret_jax.study import arms, plan
from tfds_builders import whole

_CURVES = ("loss", "accuracy", "embedding_spread")  # of training, that are kept
_WHOLE = ("validation/", representations.PREFIX)  # of which all are
Index = Sequence[Mapping[str, str]]


def build(
    workdir: epath.PathLike,
    config: schema.ExperimentConfig,
    metrics: Mapping[str, types.Metric],
    indices: Mapping[str, Index],
) -> parts.Report:
    """Measures every finished cell, judges the claims and gathers the rest.

    Args:
      workdir: The work folder.
      config: What it was made from, expanded.
      metrics: The metric of each task.
      indices: Rows of the index of each set's test split, by record.

    Raises:
      FileNotFoundError: If a finished run has no predictions.
      ValueError: If two arms were measured on different examples.
    """
    folder = epath.Path(workdir)
    runs = _runs(folder, config)
    unfinished = [n for n in config.runs if n not in runs or not runs[n].finished]
    planned = plan.cells(config)
    ended = [cell for cell in planned if cell.run not in unfinished]
    found = _measure(folder, config, metrics, indices, ended, runs)
    compared = [pair for each in found.values() for pair in each.compared]
    forgetting = transfer.describe(config, _matrices(folder, runs))
    fractions = [comparisons.key(cell.fraction) for cell in planned] or ["1"]
    datasets = _read_json(folder / "datasets.json")
    return parts.Report(
        title=config.report.title,
        split=measured.SPLIT,
        seed=config.seed,
        baseline=config.report.baseline,
        interval=parts.Bootstrap(intervals.LEVEL, *_resamples(config), "group"),
        pictures=config.report.samples,
        fractions=list(dict.fromkeys(fractions)),
        seeds=list(config.study.seeds),
        arms=_arms(config, list(found), ended, runs),
        tasks={name: each.task for name, each in found.items()},
        cells=list(planned),
        claims=comparisons.claims(config, compared),
        areas=[area for each in found.values() for area in each.areas],
        **{
            field.name: {
                name: getattr(each.told, field.name) for name, each in found.items()
            }
            for field in dataclasses.fields(parts.Parts)
        },
        compute=compute(config),
        runs=runs,
        unfinished=unfinished,
        curves={name: _curves(folder / "runs" / name) for name in runs},
        forgetting=forgetting,
        transfer=transfer.transfer(forgetting),
        audit=_audit(folder / "audit", config),
        splits=_splits(datasets or {}),
        datasets=datasets,
        versions=_read_json(folder / "versions.json"),
        config=_read_json(folder / "config.json"),
    )


def plain(value: Any) -> Any:
    """A report as JSON has it: tables and lists, null for NaN and infinity."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclasses.dataclass(frozen=True)
class _Measured:
    """A task, what its cells came to, and how its arms compare."""

    task: parts.Task
    told: parts.Parts
    compared: list[comparisons.Compared]
    areas: list[parts.Area]


def _measure(
    folder: epath.Path,
    config: schema.ExperimentConfig,
    metrics: Mapping[str, types.Metric],
    indices: Mapping[str, Index],
    ended: Sequence[plan.Cell],
    runs: Mapping[str, parts.Run],
) -> dict[str, _Measured]:
    """Measures the tasks of a study, or those of a config of runs that have a cell."""
    there = {cell.task for cell in ended}
    drawn, enough = _resamples(config)
    pairs, found = comparisons.pairs(config), {}
    for name in config.study.tasks or (n for n in config.tasks if n in there):
        metric, index = metrics[name], indices.get(config.tasks[name].dataset, ())
        mine = [cell for cell in ended if cell.task == name]
        task = grid.Grid(folder, config, metric, mine)
        cells = task.measure(drawn)
        judged = cells if drawn == enough else task.measure(enough)
        of_task = [pair for pair in pairs if pair.task == name]
        found[name] = _Measured(
            task=_task(config, name, metric, cells, runs),
            told=task.describe(cells, index, drawn),
            compared=comparisons.compare(of_task, judged, metric),
            areas=comparisons.areas(of_task, judged, metric),
        )
    return found


def _resamples(config: schema.ExperimentConfig) -> tuple[int, int]:
    """Draws of an interval, which a config of runs names, and of a comparison."""
    enough = comparisons.resamples(config)
    return enough if config.study.tasks else config.report.bootstrap, enough


def _runs(folder: epath.Path, config: schema.ExperimentConfig) -> dict[str, parts.Run]:
    """The runs that have a `run.json`."""
    runs = {}
    for name, row in config.runs.items():
        path = folder / "runs" / name / "run.json"
        if path.exists():
            facts = whole.read_json(path)
            labels = {
                task: {
                    split: parts.Labels(**parts.known(parts.Labels, used))
                    for split, used in splits.items()
                }
                for task, splits in facts.get("labels", {}).items()
            }
            pools = facts.get("pools", ())
            facts |= {
                "labels": labels,
                "pools": tuple(
                    parts.Pool(**parts.known(parts.Pool, pool)) for pool in pools
                ),
                "batch_norm": (facts.get("frozen") or {}).get("batch_norm"),
                "compute": budget.compute(config, name),
                "negatives": row.contrastive.rivals,
                "recipe": row.recipe if row.options.is_tested else {},
            }
            runs[name] = parts.Run(**parts.known(parts.Run, facts))
    return runs


def _audit(folder: epath.Path, config: schema.ExperimentConfig) -> parts.Audit:
    pools = {
        name: parts.AuditedPool(row["pool"], row["sets"])
        for name, row in (_read_json(folder / "pool.json") or {}).items()
    }
    found = _read_json(folder / "audit.json")
    report = None if found is None else findings.Report.of_json(found)
    return parts.Audit(pools, report, config.exclude_copies)


def _splits(datasets: Mapping[str, Any]) -> dict[str, parts.Splits]:
    """The splits in use of the sets that have some of their own."""
    return {
        name: parts.Splits(**parts.known(parts.Splits, made["splits_in_use"]))
        for name, made in datasets.items()
        if made.get("splits_in_use")
    }


def _matrices(
    folder: epath.Path, runs: Mapping[str, parts.Run]
) -> dict[str, parts.Matrix]:
    """The matrices of the runs of stage 2 that are there."""
    return {
        name: transfer.read(path)
        for name in runs
        if (path := folder / "runs" / name / "forgetting.json").exists()
    }


def _curves(folder: epath.Path) -> dict[str, parts.Curve]:
    """Scalars of a run that are shown: of validation and monitor, how training went.

    Empty without a file.
    """
    path = folder / "metrics.jsonl"
    curves: dict[str, parts.Curve] = {}
    for line in whole.read(path).splitlines() if path.exists() else ():
        scalars = json.loads(line)
        step = scalars.pop("step")
        for name, value in scalars.items():
            if name.startswith(_WHOLE) or name.rpartition("/")[2] in _CURVES:
                curve = curves.setdefault(name, parts.Curve([], []))
                curve.step.append(step)
                curve.value.append(math.nan if value is None else value)
    return curves


def _arms(
    config: schema.ExperimentConfig,
    tasks: Sequence[str],
    ended: Sequence[plan.Cell],
    runs: Mapping[str, parts.Run],
) -> dict[str, str]:
    """What each arm is: as the table of arms says, or where its weights come from.

    Those of a config of runs in the order of their tasks, the baseline first.
    """
    if config.study.tasks:
        return {arm: arms.arm(config, arm).meaning for arm in config.study.arms}
    found = {}
    for task in tasks:
        for cell in ended:
            if cell.task == task and cell.arm not in found:
                share = config.runs[cell.run].label_fraction
                part = "" if share == 1 else f"; {100 * share:g} % of the labels"
                found[cell.arm] = _start(cell.run, runs) + part
    return dict(sorted(found.items(), key=lambda x: x[0] != config.report.baseline))


def _start(run: str, runs: Mapping[str, parts.Run]) -> str:
    """Where a run's weights come from, through all parents."""
    parent, chain = runs[run].parent, []
    while parent and parent in runs and len(chain) < len(runs):
        row = runs[parent]
        chain.append(f"{parent} ({row.stage}, {row.steps} steps)")
        parent = row.parent
    if parent:
        chain.append(parent)
    return f"starts from {', which started from '.join(chain) or 'random weights'}"


def _task(
    config: schema.ExperimentConfig,
    name: str,
    metric: types.Metric,
    cells: comparisons.Cells,
    runs: Mapping[str, parts.Run],
) -> parts.Task:
    """What a task is; numbers of its test split once a cell has ended."""
    row = config.tasks[name]
    first = next((one for seeds in cells.values() for one in seeds.values()), None)
    run = None if first is None else runs[first.run]
    labels = run.labels[run.task or name][measured.SPLIT] if run else None
    return parts.Task(
        kind=row.kind,
        dataset=row.dataset,
        external=name in config.study.hold_out,
        exclusive=row.exclusive,
        primary=metric.primary,
        class_names=list(metric.class_names),
        image_size=row.image_size,
        images=labels and labels.records,
        groups=labels and labels.groups,
        positives=labels and labels.positives,
        studies=first.studies if first else 0,
        best_dice_of_grid=run and run.best_dice_of_grid,
        same_as=plan.same_as(config, name),
        flip_at_test=row.flip_at_test,
        unit=metric.unit if isinstance(metric, regression.RegressionMetric) else "",
    )


def compute(config: schema.ExperimentConfig) -> parts.Cells[parts.Cost]:
    """What each cell takes, with all that it descends from, alike for every seed."""
    found: parts.Cells[parts.Cost] = {}
    for cell in plan.cells(config):
        start = config.runs[cell.run].init_from
        none = budget.Compute(0, 0)
        before = budget.compute(config, start) if start in config.runs else none
        row = parts.Cost(**vars(budget.compute(config, cell.run)), start=before)
        by_fraction = found.setdefault(cell.task, {})
        by_fraction.setdefault(comparisons.key(cell.fraction), {})[cell.arm] = row
    return found


def _read_json(path: epath.Path) -> Any:
    """The file's content, or None where the work folder has no such file."""
    return whole.read_json(path) if path.exists() else None
