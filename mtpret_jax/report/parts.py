"""The parts of a report, between what measures them and the page that shows them.

Undefined numbers are NaN (in the file null). Shares of the labels are keys as "0.1".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from mtpret_jax.audit import findings
from mtpret_jax.config import budget
from mtpret_jax.metrics import calibration, delong
from mtpret_jax.study import plan

T = TypeVar("T")
ByArm = dict[str, dict[str, T]]  # by share of the labels and arm
Cells = dict[str, ByArm[T]]  # by task, share and arm


@dataclasses.dataclass(frozen=True)
class Range:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Value(Range):
    """A value averaged over seeds; see `comparison.Estimate`."""

    by_seed: tuple[float, ...]
    spread: float
    low_retrained: float
    high_retrained: float
    seeds: tuple[int, ...]  # that have finished, by number


Values = dict[str, Value]  # by name


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two arms on one task, the baseline's value subtracted, and the verdict."""

    task: str
    fraction: str
    metric: str
    difference: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    spread: float
    low_retrained: float
    high_retrained: float
    p: float
    p_corrected: float
    verdict: str
    detectable: float
    seeds: tuple[int, ...]
    images: int
    groups: int


@dataclasses.dataclass(frozen=True)
class Claim:
    """Every difference of two arms, and how many verdicts there are of each kind."""

    name: str
    arm: str
    baseline: str
    rows: list[Difference]
    summary: dict[str, dict[str, int]]  # by share of the labels and verdict


@dataclasses.dataclass(frozen=True)
class Area(delong.AreaDifference):
    """DeLong's test of one class, for the claim of that name."""

    name: str
    task: str
    fraction: str
    class_name: str
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Level:
    """Part of the test images, and the primary value of each arm on it."""

    level: str
    images: int
    groups: int
    values: dict[str, Range]


@dataclasses.dataclass(frozen=True)
class Decision(calibration.Calibration, calibration.OperatingPoint):
    """Calibration of one class, and its decisions at a threshold of validation."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """What is measured of one task: of the first seed all but `values` and `frozen`."""

    values: ByArm[Values]
    frozen: ByArm[dict[str, Values]]  # by method
    calibration: ByArm[dict[str, Decision]]  # by class
    confusion: ByArm[list[list[int]]]  # true classes by likeliest ones
    froc: ByArm[dict[str, list[float]]]  # by class; see `DetectionMetric.curves`
    subgroups: dict[str, list[Level]]  # by column of the index
    samples: dict[str, str]  # the run of each arm whose images are shown


@dataclasses.dataclass(frozen=True)
class Task:
    """A task and the size of its test split, None before a cell has ended."""

    kind: str
    dataset: str
    external: bool
    exclusive: bool
    primary: str
    class_names: list[str]
    image_size: int  # pixels
    images: int | None
    groups: int | None
    positives: int | dict[str, int] | None
    studies: int
    best_dice_of_grid: float | None
    same_as: dict[str, str]  # arms that come to the same as another, and that one
    flip_at_test: bool = False
    unit: str = ""  # of the errors of a task of numbers, where one is told


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels of a split that a run used: their number, and the digest of the list."""

    records: int = 0
    groups: int | None = None
    positives: int | dict[str, int] | None = None
    fraction: float = 1.0
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Pool:
    """The pool of a pre-training that a run descends from; see `pool.lineage`."""

    run: str
    pool: str
    audit: str | None = None
    start: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as `run.json` has it; what it took, with all that it descends from."""

    compute: budget.Compute
    stage: str
    arm: str | None = None
    task: str | None = None
    parent: str | None = None
    finished: bool = False
    steps: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    resumed_at: int | None = None
    best_step: int | None = None
    best_value: float | None = None
    best_dice_of_grid: float | None = None
    batch_norm: int | None = None  # batches, before frozen features were measured
    negatives: int = 0  # of each query in stage 1, where views are told apart
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)  # of fine-tuning
    pools: tuple[Pool, ...] = ()
    labels: dict[str, dict[str, Labels]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Cost(budget.Compute):
    """What a cell takes, and what the start of its fine-tuning took of it."""

    start: budget.Compute


@dataclasses.dataclass(frozen=True)
class Curve:
    """A scalar by training step."""

    step: list[int]
    value: list[float]


@dataclasses.dataclass(frozen=True)
class Segment:
    """Validation values of all tasks after a segment of stage 2; NaN: not measured."""

    task: str
    round: int
    values: dict[str, float]
    whole: dict[str, float]  # on all images that may be used, where these are more
    steps: int = 0


@dataclasses.dataclass(frozen=True)
class Used:
    """Validation images of a task: each time, in the end, and in all."""

    records: int
    of: int
    whole: int | None = None
    is_enough: bool = True  # of positives, to tell what was forgotten


@dataclasses.dataclass(frozen=True)
class Matrix:
    """What a run of stage 2 measured; see `transfer`."""

    tasks: list[str]
    segments: list[Segment]
    metric: dict[str, str]
    measured_on: dict[str, Used]


@dataclasses.dataclass(frozen=True)
class Kept:
    """A task's best value after segments of its own, the last one, and what is lost."""

    best: float
    last: float
    forgotten: float


@dataclasses.dataclass(frozen=True)
class Forgetting(Matrix):
    """The same with what follows from it."""

    summary: dict[str, Kept]
    arm: str
    fraction: str
    seed: int
    alone: bool  # trains one task, for the comparison of another arm
    memorization: bool
    order: str  # of the tasks, in words
    backward_by_task: dict[str, float]
    backward_transfer: float
    forward_by_task: dict[str, float]
    forward_transfer: float


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A transfer of each seed, their mean and standard deviation."""

    value: float
    by_seed: list[float]
    spread: float


@dataclasses.dataclass(frozen=True)
class AuditedPool:
    """What a run of stage 1 read: a clean pool, or the one of the paper.

    `sets` has the number of training `images` of each set, and how many were `removed`.
    """

    pool: str
    sets: dict[str, dict[str, int]]


@dataclasses.dataclass(frozen=True)
class Audit:
    """The pools of stage 1, and what the audit found; None without one."""

    pools: dict[str, AuditedPool]
    findings: findings.Report | None
    exclude_copies: bool  # from all stages


@dataclasses.dataclass(frozen=True)
class Splits:
    """The manifest by which a set was read, and the images of its splits."""

    name: str
    version: int
    sha256: str
    images: dict[str, int]
    groups_in_several_splits: int


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals were drawn: `resamples` of whole groups, for verdicts `judged`."""

    level: float
    resamples: int
    judged: int
    unit: str


@dataclasses.dataclass(frozen=True)
class Report:
    """All that `report.json` or `study.json` holds.

    What is of tasks or runs is by their names; `transfer` by arm, share and direction.
    `datasets`, `versions` and `config` are the files of these names, None without one.
    """

    title: str
    split: str
    seed: int
    baseline: str
    interval: Bootstrap
    pictures: int  # shown of each task at most
    fractions: list[str]
    seeds: list[int]  # how many, for each share of the labels
    arms: dict[str, str]  # and what each is
    tasks: dict[str, Task]
    cells: list[plan.Cell]
    claims: list[Claim]
    areas: list[Area]
    values: Cells[Values]
    frozen: Cells[dict[str, Values]]
    calibration: Cells[dict[str, Decision]]
    confusion: Cells[list[list[int]]]
    froc: Cells[dict[str, list[float]]]
    subgroups: dict[str, dict[str, list[Level]]]
    samples: dict[str, dict[str, str]]
    compute: Cells[Cost]
    runs: dict[str, Run]
    unfinished: list[str]
    curves: dict[str, dict[str, Curve]]
    forgetting: dict[str, Forgetting]
    transfer: Cells[Transfer]
    audit: Audit
    splits: dict[str, Splits]
    datasets: Any
    versions: Any
    config: Any


def known(part: type[T], facts: Mapping[str, object]) -> dict[str, Any]:
    """The entries of a file that a part has fields for."""
    names = {field.name for field in dataclasses.fields(part)}  # pyright: ignore
    return {name: value for name, value in facts.items() if name in names}
