"""A study as `study.json` holds it, with numbers made by formula: no models."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import report
from mtpret_jax.config import budget
from mtpret_jax.metrics import comparison
from mtpret_jax.report import comparisons, contents
from mtpret_jax.study import plan

NASTY = "<b>\"x\"&'y'"  # comes as a class, a title, a level
PRIMARY = {"classification": "auroc", "segmentation": "dice", "detection": "ap50"}
LIFT = {"scratch": 0.0, "contrastive": 0.02, "control": 0.03, "mtpret": 0.05}
_TRANSFER = {"value": -0.041, "by_seed": [-0.04, -0.042], "spread": 0.001}
VERDICTS = (comparison.BETTER, comparison.UNDECIDED, comparison.WORSE)
SHORT = dict(zip(VERDICTS, ("better", "undecided", "worse"), strict=True))


@pytest.fixture
def nasty() -> str:
    """A name that is markup, unless it is escaped."""
    return NASTY


@pytest.fixture(scope="session")
def finished(study: Any) -> dict[str, Any]:
    """A study in which nearly everything has finished; not to be changed."""
    config = study(
        tasks=("opacity", "lungs", "fracture"),
        arms=("scratch", "control", "mtpret"),
        finetune_steps={},
        claims=("mtpret - scratch", "mtpret - control"),
    )
    return _make(plan.expand(config))


@pytest.fixture
def made(finished: dict[str, Any]) -> dict[str, Any]:
    """The same, to be changed."""
    return copy.deepcopy(finished)


@pytest.fixture(scope="session")
def written(finished: dict[str, Any], tmp_path_factory: Any) -> str:
    """The page of the finished study."""
    folder = tmp_path_factory.mktemp("page")
    report.write(epath.Path(folder) / "study.json", finished)
    assert not (folder / "study.html.new").exists()
    return (folder / "study.html").read_text()


def _make(config: schema.ExperimentConfig) -> dict[str, Any]:
    study, rng = config.study, np.random.default_rng(0)
    tasks = {name: _task(config, name) for name in study.tasks}
    fractions = [comparisons.key(fraction) for fraction in study.fractions]
    cells = plan.cells(config)
    values: dict[str, Any] = {}
    for cell in cells:
        found = values.setdefault(cell.task, {})
        arms = found.setdefault(comparisons.key(cell.fraction), {})
        arms[cell.arm] = _values(cell, tasks[cell.task]["primary"], rng)
    return {
        "title": f"What helps {NASTY}?",
        "split": "test",
        "seed": config.seed,
        "baseline": "scratch",
        "interval": {
            "level": 0.95,
            "resamples": 1000,
            "judged": 1000,
            "unit": "group",
        },
        "shown": {"fraction": fractions[0], "seed": 0, "pictures": 6},
        "cells": [dataclasses.asdict(cell) for cell in cells],
        "confusion": {"opacity": {"0.1": {"scratch": [[60, 29], [4, 27]]}}},
        "fractions": fractions,
        "seeds": list(study.seeds),
        "arms": {arm: f"what {arm} starts from {NASTY}" for arm in study.arms},
        "tasks": tasks,
        "claims": [_claim(name, tasks, fractions, rng) for name in study.claims],
        "areas": [_area(name, fractions[0]) for name in study.claims],
        "values": values,
        "calibration": _of_classes(config, fractions, rng),
        "frozen": _frozen(config, fractions, rng),
        "subgroups": {"opacity": {"sex": [_level(study, n) for n in ("F", NASTY)]}},
        "efficiency": {
            task: {arm: _points(found, arm) for arm in study.arms}
            for task, found in values.items()
        },
        "forgetting": {
            name: _matrix(config, name, rng)
            for name, row in config.runs.items()
            if row.stage == "continual"
        },
        "transfer": {"mtpret": {"0.1": {"backward": _TRANSFER, "forward": _TRANSFER}}},
        "curves": {name: _curves(config, name, rng) for name in config.runs},
        "compute": contents.compute(config),
        "labels": {cell.run: {cell.task: {"train": _labels(cell)}} for cell in cells},
        "runs": {name: _run(config, name) for name in config.runs},
        "unfinished": [NASTY],
        "audit": {"pools": {}, "findings": None},
        "datasets": None,
        "versions": {"device": "cpu", "devices": 1},
        "config": schema.as_dict(config),
        "samples": {
            cell.task: {
                c.arm: c.run for c in cells if c.seed == 0 and c.task == cell.task
            }
            for cell in cells
        },
    }


def _task(config: schema.ExperimentConfig, name: str) -> dict[str, Any]:
    row = config.tasks[name]
    return {
        "kind": row.kind,
        "dataset": row.dataset,
        "external": name in config.study.hold_out,
        "primary": PRIMARY[row.kind],
        "class_names": ["normal", NASTY],
        "image_size": row.image_size,
        "images": 120,
        "groups": 90,
        "positives": 31,
        "studies": 0,
        "exclusive": True,
        "best_dice_of_grid": None,
        "same_as": {},
    }


def _values(cell: plan.Cell, primary: str, rng: np.random.Generator) -> dict[str, Any]:
    value = 0.7 + 0.1 * cell.fraction + LIFT[cell.arm] + float(rng.normal(0, 0.01))
    row = {"value": value, "low": value - 0.06, "high": value + 0.05}
    each = {**row, "by_seed": [value - 0.01, value + 0.01], "spread": 0.014}
    return {primary: each, f"{primary}/{NASTY}": each}


def _claim(
    name: str, tasks: Any, fractions: list[str], rng: np.random.Generator
) -> dict[str, Any]:
    arm, _, baseline = name.partition(" - ")
    rows, summary = [], {f: dict.fromkeys(SHORT.values(), 0) for f in fractions}
    for fraction in fractions:
        for place, (task, about) in enumerate(tasks.items()):
            verdict = VERDICTS[place % 3]
            sign = {"better": 1, "worse": -1, "undecided": 0.1}[SHORT[verdict]]
            gap = sign * float(rng.uniform(0.04, 0.09))
            row = {"task": task, "fraction": fraction, "metric": about["primary"]}
            row |= {"difference": gap, "low": gap - 0.03, "high": gap + 0.034}
            row |= {"low_retrained": gap - 0.05, "high_retrained": gap + 0.05}
            row |= {"p": 0.0004, "p_corrected": 0.012, "verdict": verdict}
            row |= {"detectable": 0.061 + 0.001 * place}
            row |= {"seeds": [0, 1], "spread": 0.01, "images": 120, "groups": 90}
            rows.append(row)
            summary[fraction][SHORT[verdict]] += 1
    found = {"name": name, "arm": arm, "baseline": baseline}
    return {**found, "rows": rows, "summary": summary}


def _area(name: str, fraction: str) -> dict[str, Any]:
    row = {"name": name, "task": "opacity", "fraction": fraction, "class": NASTY}
    row |= {"difference": 0.031, "low": 0.001, "high": 0.06, "p": 0.04}
    return {**row, "positives": 31, "negatives": 89}


def _proportion(value: float) -> dict[str, Any]:
    ends = {"low": max(0, value - 0.2), "high": min(1, value + 0.2)}
    return {"value": value, **ends, "images": 31, "groups": 30}


def _of_classes(
    config: schema.ExperimentConfig, fractions: list[str], rng: np.random.Generator
) -> dict[str, Any]:
    bins = np.linspace(0.05, 0.95, 5)
    found: dict[str, Any] = {"error": 0.08, "floor": 0.05, "threshold": 0.37}
    found |= {"confidence": bins.tolist()}
    seen = np.clip(bins + rng.normal(0, 0.1, 5), 0, 1)
    found |= {"observed": [_proportion(float(v)) for v in seen]}
    found |= {"sensitivity": _proportion(0.87), "specificity": _proportion(0.64)}
    return {
        task: {f: {arm: {NASTY: found} for arm in config.study.arms} for f in fractions}
        for task in ("opacity", "fracture")
    }


def _frozen(
    config: schema.ExperimentConfig, fractions: list[str], rng: np.random.Generator
) -> dict[str, Any]:
    cell = plan.Cell("scratch", "opacity", 0.1, 0, "")
    return {
        "opacity": {
            fraction: {
                arm: {way: _values(cell, "auroc", rng) for way in ("linear", "knn")}
                for arm in config.study.arms
            }
            for fraction in fractions
        }
    }


def _level(study: schema.StudyConfig, name: str) -> dict[str, Any]:
    value = {"value": 0.7, "low": 0.6, "high": 0.8}
    values = dict.fromkeys(study.arms, value)
    return {"level": name, "images": 60, "groups": 50, "values": values}


def _points(found: dict[str, Any], arm: str) -> list[dict[str, float]]:
    points = []
    for fraction, arms in found.items():
        for name, value in arms.get(arm, {}).items():
            if "/" not in name:
                ends = {end: value[end] for end in ("value", "low", "high")}
                points.append({"fraction": float(fraction), **ends})
    return points


def _matrix(
    config: schema.ExperimentConfig, name: str, rng: np.random.Generator
) -> dict[str, Any]:
    row = config.runs[name]
    tasks, segments = list(row.continual.tasks), []
    values = dict.fromkeys(tasks, 0.35)
    for turn in range(row.continual.rounds):
        for task in rng.permutation(tasks):
            values = {t: max(0.3, v - 0.03) for t, v in values.items()}
            values[str(task)] = min(0.95, 0.7 + 0.05 * turn)
            segment = {"task": str(task), "round": turn, "steps": 30}
            segments.append({**segment, "values": dict(values)})
    summary = {
        t: {"best": 0.9, "last": v, "forgotten": 0.9 - v} for t, v in values.items()
    }
    return {
        "tasks": tasks,
        "metric": {t: PRIMARY[config.tasks[t].kind] for t in tasks},
        "segments": segments,
        "summary": summary,
        "arm": name.partition(".")[0],
        "fraction": comparisons.key(row.label_fraction),
        "memorization": True,
        "order": "in turn",
        "alone": len(tasks) == 1,
    }


def _curves(
    config: schema.ExperimentConfig, name: str, rng: np.random.Generator
) -> dict[str, Any]:
    row, steps = config.runs[name], list(range(10, 101, 10))
    fall = [float(np.exp(-s / 40) + rng.normal(0, 0.02)) for s in steps]
    found = {"train/loss": {"step": steps, "value": fall}}
    if row.stage == "finetune":
        key = f"validation/{PRIMARY[config.tasks[row.finetune.task].kind]}"
        found[key] = {"step": steps[4::5], "value": [0.7, 0.8]}
    if row.stage == "contrastive":
        found["train/accuracy"] = {"step": steps, "value": [1 - x for x in fall]}
    return found


def _labels(cell: plan.Cell) -> dict[str, Any]:
    counts = {"records": 12, "groups": 10, "positives": 4}
    return {"fraction": cell.fraction, **counts, "sha256": "0123456789abcdef" * 4}


def _run(config: schema.ExperimentConfig, name: str) -> dict[str, Any]:
    row = config.runs[name]
    found = {"name": name, "stage": row.stage, "arm": row.arm or None, "steps": 100}
    found |= {"parent": row.init_from or None, "finished": True, "seconds": 61.0}
    found |= {"task": row.finetune.task}
    found |= {"compute": dataclasses.asdict(budget.compute(config, name))}
    return {**found, "images_per_second": 41.3, "pools": []}
