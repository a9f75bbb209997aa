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

Differences of an error, of which lower is better, have their sign turned. They are in
a unit, and so in no mean over tasks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from etils import epath

from mtpret_jax import config as schema
from mtpret_jax.metrics import table
from mtpret_jax.report import parts
from mtpret_jax.study import arms, plan
from tfds_builders import whole

NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class _Origin:
    """A run of stage 2: of which arm, and what it has in common with others."""

    arm: str
    task: str  # that the control trained alone
    fraction: float
    seed: int


def read(path: epath.Path) -> parts.Matrix:
    """The matrix of a run of stage 2."""
    facts = whole.read_json(path)
    return parts.Matrix(
        facts["tasks"],
        [
            parts.Segment(
                row["task"],
                row["round"],
                _numbers(row["values"]),
                _numbers(row.get("whole", row["values"])),
                row.get("steps", 0),
            )
            for row in facts["segments"]
        ],
        facts.get("metric", {}),
        {
            task: parts.Used(**parts.known(parts.Used, used))
            for task, used in facts.get("measured_on", {}).items()
        },
    )


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {task: NAN if v is None else float(v) for task, v in values.items()}


def _is_enough(matrix: parts.Matrix, task: str) -> bool:
    """Whether a task has the positives to tell what it forgot; if unknown, it has."""
    return task not in matrix.measured_on or matrix.measured_on[task].is_enough


def _kept(matrix: parts.Matrix, task: str) -> parts.Kept:
    """Best and last value of a task; lost is what lies between them."""
    after, sign = [_value(each, task) for each in matrix.segments], _sign(matrix, task)
    known = (v for v in after if math.isfinite(v))
    best = max(known, key=lambda value: sign * value, default=NAN)
    last = after[-1] if after else NAN
    lost = sign * (best - last) if _is_enough(matrix, task) else NAN
    return parts.Kept(best, last, lost)


def _sign(matrix: parts.Matrix, task: str) -> int:
    """-1 for a task of whose value lower is better."""
    return table.sign(matrix.metric.get(task, ""))


def describe(
    config: schema.ExperimentConfig, matrices: Mapping[str, parts.Matrix]
) -> dict[str, parts.Forgetting]:
    """Adds to each matrix of stage 2 what was kept, lost and transferred.

    Args:
      config: Expanded.
      matrices: The matrices that are there, by run, as `read` gives them.
    """
    origins, found = _origins(config, matrices), {}
    for run, matrix in matrices.items():
        this, row = origins[run], config.runs[run]
        controls = {
            other.task: matrices[name]
            for name, other in origins.items()
            if other.arm == arms.CONTROL
            and (other.fraction, other.seed) == (this.fraction, this.seed)
        }
        behind = backward(matrix)
        ahead = forward(matrix, controls, row.steps, config.study.continual.steps)
        options = row.continual
        order = "reshuffled each round" if options.reshuffle else "in turn, fixed order"
        found[run] = parts.Forgetting(
            **vars(matrix),
            summary={task: _kept(matrix, task) for task in matrix.tasks},
            arm=this.arm,
            fraction=f"{this.fraction:g}",
            seed=this.seed,
            alone=bool(this.task) and arms.ARMS[this.arm].trains != "all",
            memorization=any(
                (
                    options.anchor_previous,
                    options.anchor_pretrained,
                    options.feature_memory,
                )
            ),
            order="once each, fixed order" if options.rounds == 1 else order,
            backward_by_task=behind,
            backward_transfer=mean(matrix, behind),
            forward_by_task=ahead,
            forward_transfer=mean(matrix, ahead),
        )
    return found


def transfer(
    described: Mapping[str, parts.Forgetting],
) -> parts.Cells[parts.Transfer]:
    """Both transfers by arm and fraction: with and without what MTPret adds.

    Args:
      described: What `describe` gave.

    Returns:
      For each arm and fraction `backward` and `forward`; the spread is NaN of one seed.
    """
    cells: dict[tuple[str, str], list[parts.Forgetting]] = {}
    for run in described.values():
        if not run.alone:
            cells.setdefault((run.arm, run.fraction), []).append(run)
    found: parts.Cells[parts.Transfer] = {}
    for (arm, fraction), runs in cells.items():
        row = found.setdefault(arm, {}).setdefault(fraction, {})
        for name in ("backward", "forward"):
            by_seed = [getattr(run, f"{name}_transfer") for run in runs]
            spread = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else NAN
            row[name] = parts.Transfer(float(np.mean(by_seed)), by_seed, spread)
    return found


def _origins(
    config: schema.ExperimentConfig, matrices: Mapping[str, parts.Matrix]
) -> dict[str, _Origin]:
    """Of every run that has a matrix; of a study those that a cell starts from."""
    if not config.study.tasks:
        return {
            name: _Origin(name, "", config.runs[name].label_fraction, 0)
            for name in matrices
        }
    found = {}
    for cell in plan.cells(config):
        start = config.runs[cell.run].init_from
        if start in matrices:
            # Arms such as head_carried start from that of another.
            arm = start.partition(".")[0]
            found[start] = _Origin(arm, cell.task, cell.fraction, cell.seed)
    return found


def backward(matrix: parts.Matrix) -> dict[str, float]:
    """Backward transfer of each task but the last one trained.

    NaN where a task was not measured after its own last segment (`evaluate_every`), or
    not at the end.
    """
    segments, own = matrix.segments, _own(matrix)
    found = {}
    for task in matrix.tasks if segments else ():
        after = own.get(task, [])
        is_measured = after and after[-1].round == segments[-1].round
        learnt = _value(after[-1], task) if is_measured else NAN
        if task != segments[-1].task:
            change = _value(segments[-1], task) - learnt
            found[task] = _sign(matrix, task) * change
    return found


def forward(
    matrix: parts.Matrix,
    alone: Mapping[str, parts.Matrix],
    steps: int,
    steps_alone: int,
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
    for task in matrix.tasks if matrix.segments else ():
        after = own.get(task, [])
        is_measured = after and after[0].round == 0
        learnt = _value(after[0], task) if is_measured else NAN
        control = [
            _value(segment, task)
            for segment in (alone[task].segments if task in alone else ())
            if (segment.round + 1) * steps_alone == steps
        ]
        if task != matrix.segments[0].task:
            gained = learnt - control[0] if control else NAN
            found[task] = _sign(matrix, task) * gained
    return found


def mean(matrix: parts.Matrix, transfers: Mapping[str, float]) -> float:
    """Over the tasks of shares with enough positives, which are alike in every arm.

    NaN of none, or if one is, since it would be of other tasks.
    """
    told = [
        value
        for task, value in transfers.items()
        if _is_enough(matrix, task) and _sign(matrix, task) > 0
    ]
    return float(np.mean(told)) if told else NAN


def _own(matrix: parts.Matrix) -> dict[str, list[parts.Segment]]:
    """Measurements right after a task's own segments, in order."""
    found: dict[str, list[parts.Segment]] = {}
    for segment in matrix.segments:
        found.setdefault(segment.task, []).append(segment)
    return found


def _value(segment: parts.Segment, task: str) -> float:
    """After a segment, on all validation images that may be used, where known apart."""
    return segment.whole.get(task, NAN)
