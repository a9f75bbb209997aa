"""The report of a study, with numbers made by formula: no models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax import report
from mtpret_jax.config import budget
from mtpret_jax.metrics import calibration, comparison
from mtpret_jax.report import comparisons, contents, parts
from mtpret_jax.study import plan

NASTY = "<b>\"x\"&'y'"  # comes as a class, a title, a level
PRIMARY = {"classification": "auroc", "segmentation": "dice", "detection": "ap50"}
LIFT = {"scratch": 0.0, "contrastive": 0.02, "control": 0.03, "mtpret": 0.05}
_TRANSFER = parts.Transfer(-0.041, [-0.04, -0.042], 0.001)
VERDICTS = (comparison.BETTER, comparison.UNDECIDED, comparison.WORSE)
SHORT = dict(zip(VERDICTS, ("better", "undecided", "worse"), strict=True))


@pytest.fixture
def nasty() -> str:
    """A name that is markup, unless it is escaped."""
    return NASTY


@pytest.fixture(scope="session")
def finished(study: Any) -> parts.Report:
    """A study in which nearly everything has finished."""
    config = study(
        tasks=("opacity", "lungs", "fracture"),
        arms=("scratch", "control", "mtpret"),
        finetune_steps={},
        claims=("mtpret - scratch", "mtpret - control"),
    )
    return _make(plan.expand(config))


@pytest.fixture(scope="session")
def written(finished: parts.Report, tmp_path_factory: Any) -> str:
    """The page of the finished study."""
    folder = tmp_path_factory.mktemp("page")
    report.write(epath.Path(folder) / "study.json", finished)
    assert not (folder / "study.html.new").exists()
    return (folder / "study.html").read_text()


def _make(config: schema.ExperimentConfig) -> parts.Report:
    study, rng = config.study, np.random.default_rng(0)
    tasks = {name: _task(config, name) for name in study.tasks}
    fractions = [comparisons.key(fraction) for fraction in study.fractions]
    cells = plan.cells(config)
    values: parts.Cells[parts.Values] = {}
    for cell in cells:
        found = values.setdefault(cell.task, {})
        arms = found.setdefault(comparisons.key(cell.fraction), {})
        arms[cell.arm] = _values(cell, tasks[cell.task].primary, rng)
    return parts.Report(
        title=f"What helps {NASTY}?",
        split="test",
        seed=config.seed,
        baseline="scratch",
        interval=parts.Bootstrap(0.95, 1000, 1000, "group"),
        pictures=6,
        cells=list(cells),
        confusion={"opacity": {"0.1": {"scratch": [[60, 29], [4, 27]]}}},
        froc={},
        fractions=fractions,
        seeds=list(study.seeds),
        arms={arm: f"what {arm} starts from {NASTY}" for arm in study.arms},
        tasks=tasks,
        claims=[_claim(name, tasks, fractions, rng) for name in study.claims],
        areas=[_area(name, fractions[0]) for name in study.claims],
        values=values,
        calibration=_of_classes(config, fractions, rng),
        frozen=_frozen(config, fractions, rng),
        subgroups={"opacity": {"sex": [_level(study, n) for n in ("F", NASTY)]}},
        forgetting={
            name: _matrix(config, name, rng)
            for name, row in config.runs.items()
            if row.stage == "continual"
        },
        transfer={"mtpret": {"0.1": {"backward": _TRANSFER, "forward": _TRANSFER}}},
        curves={name: _curves(config, name, rng) for name in config.runs},
        compute=contents.compute(config),
        runs={name: _run(config, name) for name in config.runs},
        unfinished=[NASTY],
        audit=parts.Audit({}, None, False),
        splits={},
        datasets=None,
        versions={"device": "cpu", "devices": 1},
        config=schema.as_dict(config),
        samples={
            cell.task: {
                c.arm: c.run for c in cells if c.seed == 0 and c.task == cell.task
            }
            for cell in cells
        },
    )


def _task(config: schema.ExperimentConfig, name: str) -> parts.Task:
    row = config.tasks[name]
    return parts.Task(
        kind=row.kind,
        dataset=row.dataset,
        external=name in config.study.hold_out,
        primary=PRIMARY[row.kind],
        class_names=["normal", NASTY],
        image_size=row.image_size,
        images=120,
        groups=90,
        positives=31,
        studies=0,
        exclusive=True,
        best_dice_of_grid=None,
        same_as={},
    )


def _values(cell: plan.Cell, primary: str, rng: np.random.Generator) -> parts.Values:
    value = 0.7 + 0.1 * cell.fraction + LIFT[cell.arm] + float(rng.normal(0, 0.01))
    low, high = value - 0.06, value + 0.05
    by_seed = (value - 0.01, value + 0.01)
    each = parts.Value(value, low, high, by_seed, 0.014, low, high, (0, 1))
    return {primary: each, f"{primary}/{NASTY}": each}


def _claim(
    name: str,
    tasks: dict[str, parts.Task],
    fractions: list[str],
    rng: np.random.Generator,
) -> parts.Claim:
    arm, _, baseline = name.partition(" - ")
    rows, summary = [], {f: dict.fromkeys(SHORT.values(), 0) for f in fractions}
    for fraction in fractions:
        for place, (task, about) in enumerate(tasks.items()):
            verdict = VERDICTS[place % 3]
            sign = {"better": 1, "worse": -1, "undecided": 0.1}[SHORT[verdict]]
            gap = sign * float(rng.uniform(0.04, 0.09))
            rows.append(
                parts.Difference(
                    task=task,
                    fraction=fraction,
                    metric=about.primary,
                    difference=gap,
                    low=gap - 0.03,
                    high=gap + 0.034,
                    by_seed=(gap, gap),
                    spread=0.01,
                    low_retrained=gap - 0.05,
                    high_retrained=gap + 0.05,
                    p=0.0004,
                    p_corrected=0.012,
                    verdict=verdict,
                    detectable=0.061 + 0.001 * place,
                    seeds=(0, 1),
                    images=120,
                    groups=90,
                )
            )
            summary[fraction][SHORT[verdict]] += 1
    return parts.Claim(name, arm, baseline, rows, summary)


def _area(name: str, fraction: str) -> parts.Area:
    return parts.Area(
        area=0.8,
        other_area=0.769,
        difference=0.031,
        error=0.01,
        low=0.001,
        high=0.06,
        p=0.04,
        positives=31,
        negatives=89,
        name=name,
        task="opacity",
        fraction=fraction,
        class_name=NASTY,
        seeds=(0, 1),
    )


def _proportion(value: float) -> calibration.Proportion:
    low, high = max(0, value - 0.2), min(1, value + 0.2)
    return calibration.Proportion(value, low, high, images=31, groups=30)


def _of_classes(
    config: schema.ExperimentConfig, fractions: list[str], rng: np.random.Generator
) -> parts.Cells[dict[str, parts.Decision]]:
    bins = np.linspace(0.05, 0.95, 5)
    seen = np.clip(bins + rng.normal(0, 0.1, 5), 0, 1)
    found = parts.Decision(
        error=0.08,
        floor=0.05,
        confidence=tuple(bins.tolist()),
        observed=tuple(_proportion(float(v)) for v in seen),
        threshold=0.37,
        sensitivity=_proportion(0.87),
        specificity=_proportion(0.64),
    )
    return {
        task: {f: {arm: {NASTY: found} for arm in config.study.arms} for f in fractions}
        for task in ("opacity", "fracture")
    }


def _frozen(
    config: schema.ExperimentConfig, fractions: list[str], rng: np.random.Generator
) -> parts.Cells[dict[str, parts.Values]]:
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


def _level(study: schema.StudyConfig, name: str) -> parts.Level:
    value = parts.Range(0.7, 0.6, 0.8)
    return parts.Level(name, 60, 50, dict.fromkeys(study.arms, value))


def _matrix(
    config: schema.ExperimentConfig, name: str, rng: np.random.Generator
) -> parts.Forgetting:
    row = config.runs[name]
    tasks, segments = list(row.continual.tasks), []
    values = dict.fromkeys(tasks, 0.35)
    for turn in range(row.continual.rounds):
        for task in rng.permutation(tasks):
            values = {t: max(0.3, v - 0.03) for t, v in values.items()}
            values[str(task)] = min(0.95, 0.7 + 0.05 * turn)
            segments.append(parts.Segment(str(task), turn, values, values, 30))
    return parts.Forgetting(
        tasks=tasks,
        metric={t: PRIMARY[config.tasks[t].kind] for t in tasks},
        segments=segments,
        measured_on={},
        summary={t: parts.Kept(0.9, v, 0.9 - v) for t, v in values.items()},
        arm=name.partition(".")[0],
        fraction=comparisons.key(row.label_fraction),
        seed=0,
        memorization=True,
        order="in turn",
        alone=len(tasks) == 1,
        backward_by_task={},
        backward_transfer=-0.04,
        forward_by_task={},
        forward_transfer=-0.04,
    )


def _curves(
    config: schema.ExperimentConfig, name: str, rng: np.random.Generator
) -> dict[str, parts.Curve]:
    row, steps = config.runs[name], list(range(10, 101, 10))
    fall = [float(np.exp(-s / 40) + rng.normal(0, 0.02)) for s in steps]
    found = {"train/loss": parts.Curve(steps, fall)}
    if row.stage == "finetune":
        key = f"validation/{PRIMARY[config.tasks[row.finetune.task].kind]}"
        found[key] = parts.Curve(steps[4::5], [0.7, 0.8])
    if row.stage == "contrastive":
        found["train/accuracy"] = parts.Curve(steps, [1 - x for x in fall])
    return found


def _run(config: schema.ExperimentConfig, name: str) -> parts.Run:
    row = config.runs[name]
    labels = parts.Labels(12, 10, 4, row.label_fraction, "0123456789abcdef" * 4)
    return parts.Run(
        compute=budget.compute(config, name),
        stage=row.stage,
        arm=row.arm or None,
        task=row.finetune.task or None,
        parent=row.init_from or None,
        finished=True,
        steps=100,
        seconds=61.0,
        images_per_second=41.3,
        negatives=row.contrastive.rivals,
        labels={row.finetune.task: {"train": labels}} if row.finetune.task else {},
    )
