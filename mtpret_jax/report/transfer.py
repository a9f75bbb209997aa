"""Continual learning measured: what later tasks did to earlier ones, and the reverse.

A matrix (`forgetting.json`) holds, after each segment of stage 2, the validation value
of every task trained so far.

Backward transfer of a task is its value at the end of stage 2 less that right after
its own last segment: negative where later tasks made it forgotten. With one round this
is that of Lopez-Paz and Ranzato 2017, and like theirs it is averaged over all tasks but
the last one trained, whose own is zero.

Their forward transfer is the value of a task before it is trained. It can't be measured
here: before that a task's head is random, and `forgetting.json` holds no value. What
can is what earlier tasks did to the learning of a new one: its value right after its
first segment, less that of the control (arm `control`: the same start, the task alone)
after as many steps of the task. This is the intransigence of Chaudhry et al. 2018 with
its sign turned: negative where what came before, or the memorization of it, keeps a
task from being learnt. Averaged over all tasks but the first one trained.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.study import arms, plan
from tfds_builders import whole

Matrix = Mapping[str, Any]
NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class _Origin:
    """A run of stage 2: of which arm, and what it has in common with others."""

    arm: str
    task: str  # that the control trained alone
    fraction: float
    seed: int


def read(path: epath.Path) -> dict[str, Any]:
    """The matrix of stage 2 and, for each task, its best, last and lost value.

    Lost is the best value after segments of the task's own less that at the end.
    """
    matrix = whole.read_json(path)
    rows = {}
    for task in matrix["tasks"]:
        after = [_value(segment, task) for segment in matrix["segments"]]
        best = max((v for v in after if math.isfinite(v)), default=NAN)
        last = after[-1] if after else NAN
        lost = best - last if is_enough(matrix, task) else NAN
        rows[task] = {"best": best, "last": last, "forgotten": lost}
    return {**matrix, "summary": rows}


def is_enough(matrix: Matrix, task: str) -> bool:
    """Whether a task has the positives to tell what it forgot; if unknown, it has."""
    return matrix.get("measured_on", {}).get(task, {}).get("is_enough", True)


def describe(
    config: schema.ExperimentConfig, matrices: Mapping[str, Matrix]
) -> dict[str, dict[str, Any]]:
    """Adds what `backward` and `forward` find to each matrix of stage 2.

    Args:
      config: Expanded.
      matrices: The matrices that are there, by run, as `read` gives them.

    Returns:
      Each matrix with `arm`, `fraction`, `seed`, whether it trains one task `alone` for
      the comparison of another, whether it has `memorization`, the
      `order` of its tasks, `backward_by_task`, `forward_by_task`, their means
      `backward_transfer` and `forward_transfer`.
    """
    origins, found = _origins(config), {}
    for run, matrix in matrices.items():
        this, steps = origins[run], config.runs[run].steps
        controls = {
            other.task: name
            for name, other in origins.items()
            if other.arm == arms.CONTROL
            and (other.fraction, other.seed) == (this.fraction, this.seed)
            and name in matrices
        }
        behind = backward(matrix)
        ahead = forward(
            matrix,
            {task: matrices[name] for task, name in controls.items()},
            steps,
            config.study.continual.steps,
        )
        found[run] = {
            **matrix,
            "arm": this.arm,
            "fraction": f"{this.fraction:g}",
            "seed": this.seed,
            "alone": bool(this.task) and arms.ARMS[this.arm].trains != "all",
            **_way(config.runs[run].continual),
            "backward_by_task": behind,
            "backward_transfer": mean(_told(matrix, behind)),
            "forward_by_task": ahead,
            "forward_transfer": mean(_told(matrix, ahead)),
        }
    return found


def transfer(
    described: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Both transfers by arm and fraction: with and without what MTPret adds.

    Args:
      described: What `describe` gave.

    Returns:
      For each arm and fraction `backward` and `forward`, each with the mean over seeds
      as `value`, `by_seed`, and `spread`, the standard deviation (NaN of one seed).
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in described.values():
        if run["alone"]:
            continue
        row = found.setdefault(run["arm"], {}).setdefault(run["fraction"], {})
        for name in ("backward", "forward"):
            by_seed = row.setdefault(name, {}).setdefault("by_seed", [])
            by_seed.append(run[f"{name}_transfer"])
    for row in (row for arm in found.values() for row in arm.values()):
        for values in row.values():
            by_seed = values["by_seed"]
            values["value"] = float(np.mean(by_seed))
            several = len(by_seed) > 1
            values["spread"] = float(np.std(by_seed, ddof=1)) if several else NAN
    return found


def _origins(config: schema.ExperimentConfig) -> dict[str, _Origin]:
    """Every run of stage 2 that a cell of a study starts from; else every one."""
    if not config.study.tasks:
        return {
            name: _Origin(name, "", row.label_fraction, 0)
            for name, row in config.runs.items()
            if row.stage == "continual"
        }
    found = {}
    for cell in plan.cells(config):
        start = config.runs[cell.run].init_from
        if start in config.runs and config.runs[start].stage == "continual":
            # Arms such as head_carried start from that of another.
            arm = start.partition(".")[0]
            found[start] = _Origin(arm, cell.task, cell.fraction, cell.seed)
    return found


def _way(stage: schema.ContinualConfig) -> dict[str, Any]:
    """Whether a stage memorizes, and in which order its tasks come."""
    kept = (stage.anchor_previous, stage.anchor_pretrained, stage.feature_memory)
    if stage.rounds == 1:
        order = "once each, fixed order"
    else:
        order = "reshuffled each round" if stage.reshuffle else "in turn, fixed order"
    return {"memorization": any(kept), "order": order}


def backward(matrix: Matrix) -> dict[str, float]:
    """Backward transfer of each task but the last one trained.

    NaN where a task was not measured after its own last segment (`evaluate_every`), or
    not at the end.
    """
    segments = matrix["segments"]
    own = _own(matrix)
    found = {}
    for task in matrix["tasks"] if segments else ():
        after = own.get(task, [])
        is_measured = after and after[-1]["round"] == segments[-1]["round"]
        learnt = _value(after[-1], task) if is_measured else NAN
        if task != segments[-1]["task"]:
            found[task] = _value(segments[-1], task) - learnt
    return found


def forward(
    matrix: Matrix, alone: Mapping[str, Matrix], steps: int, steps_alone: int
) -> dict[str, float]:
    """Forward transfer of each task but the first one trained.

    NaN where there is no control, or one of the two was not measured in time.

    Args:
      matrix: The matrix of the run.
      alone: The matrix of each task's control, from the same start.
      steps: Steps of a segment of the run.
      steps_alone: Steps of a segment of the controls.
    """
    own = _own(matrix)
    found = {}
    for task in matrix["tasks"] if matrix["segments"] else ():
        after = own.get(task, [])
        is_measured = after and after[0]["round"] == 0
        learnt = _value(after[0], task) if is_measured else NAN
        control = [
            _value(segment, task)
            for segment in alone.get(task, {"segments": ()})["segments"]
            if (segment["round"] + 1) * steps_alone == steps
        ]
        if task != matrix["segments"][0]["task"]:
            found[task] = learnt - control[0] if control else NAN
    return found


def _told(matrix: Matrix, transfer: Mapping[str, float]) -> dict[str, float]:
    """Transfers of the tasks with enough positives, which are alike in every arm."""
    return {t: v for t, v in transfer.items() if is_enough(matrix, t)}


def mean(transfer: Mapping[str, float]) -> float:
    """Over all tasks; NaN of none, or if one is, since it would be of other tasks."""
    return float(np.mean(list(transfer.values()))) if transfer else NAN


def _own(matrix: Matrix) -> dict[str, list[Matrix]]:
    """Measurements right after a task's own segments, in order."""
    found: dict[str, list[Matrix]] = {}
    for segment in matrix["segments"]:
        found.setdefault(segment["task"], []).append(segment)
    return found


def _value(segment: Matrix, task: str) -> float:
    """After a segment, on all validation images that may be used, where known apart."""
    value = segment.get("whole", segment["values"]).get(task)
    return NAN if value is None else float(value)
