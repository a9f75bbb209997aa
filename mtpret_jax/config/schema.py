"""The schema: runs, study and report; with `parts` and `stages` every option.

Each stands there once, with its default and its unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from mtpret_jax.config import parts, stages

# Of a stage's table: what a run trains on and starts with, and what makes none better.
_NO_RECIPE = ("task", "tasks", "datasets", "head", "frozen", "batch_norm_batches")
# Options of `config` that a run's encoder does not change.
SHARED: Mapping[str, tuple[str, ...]] = {
    "backbone": ("compute_dtype",),
    "input": ("workers", "threads", "buffer"),
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """A published encoder for some runs, fed as it was trained."""

    weights: str = ""  # file that an arm of a study starts from
    image_size: parts.Number = 0  # of a study's tasks, pixels; 0: the task's own
    backbone: parts.BackboneConfig = parts.BackboneConfig()  # but compute_dtype, which
    # all runs share
    input: parts.InputConfig = parts.InputConfig()  # but workers, threads and buffer,
    # which all runs share


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One stage, from a start to a backbone on disk."""

    stage: str = "finetune"  # contrastive, continual or finetune
    arm: str = ""  # fine-tuning: the row of the report this run belongs to
    seed: Annotated[int, (-1, parts.LARGEST_SEED)] = -1  # of weights, order,
    # augmentation, dropout, labels; -1: the config's
    label_fraction: Annotated[float, (0.001, 1)] = 1.0  # of the groups whose labels are
    # used
    encoder: str = ""  # a row of config.encoders; "": config.backbone and config.input
    init_from: str = ""  # another run, a backbone folder, a file of weights, or nothing
    steps: int = 1000  # optimiser steps; of each segment in stage 2
    log_every: int = 50  # steps between logged figures
    checkpoint_every: int = 500  # steps between saved states
    evaluate_every: parts.Number = 0  # steps between validations; 0: at the end. Stage
    # 2: at the end of a segment when so many have passed; 0: at the end of every
    # segment
    monitor: stages.MonitorConfig = stages.MonitorConfig()
    optimizer: parts.OptimizerConfig = parts.OptimizerConfig()
    contrastive: stages.ContrastiveConfig = stages.ContrastiveConfig()
    continual: stages.ContinualConfig = stages.ContinualConfig()
    finetune: stages.FinetuneConfig = stages.FinetuneConfig()

    @property
    def options(self) -> stages.StageConfig:
        """The options of its stage."""
        return getattr(self, self.stage)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The supervised tasks of the run; none in stage 1."""
        return self.options.tasks

    @property
    def recipe(self) -> dict[str, Any]:
        """What runs should have alike but for their start, by the names of options."""
        tables = {"optimizer": self.optimizer, self.stage: self.options}
        return {"label_fraction": self.label_fraction} | {
            f"{table}.{name}": value
            for table, options in tables.items()
            for name, value in vars(options).items()
            if name not in _NO_RECIPE
        }


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """A comparison of arms, from which `study.plan` makes every run."""

    tasks: tuple[str, ...] = ()  # rows of config.tasks; none: there is no study
    arms: tuple[str, ...] = ()  # what is compared; of study.arms.ARMS, or
    # rows of config.encoders
    hold_out: tuple[str, ...] = ()  # external tasks: in no pre-training stage
    fractions: tuple[float, ...] = (1.0,)  # of the labels, each (0, 1]
    seeds: tuple[int, ...] = (1,)  # how many, at each fraction
    contrastive: RunConfig = RunConfig(stage="contrastive")  # what all runs of it share
    continual: RunConfig = RunConfig(stage="continual")  # without tasks, those above
    finetune: RunConfig = RunConfig()  # steps and rates by task: below
    finetune_steps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    # by task; the others do those of finetune
    learning_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # of fine-tuning, by task; the others take that of finetune
    single_queue_size: int = 0  # negatives of arm contrastive_single; 0: as contrastive
    unetplusplus: parts.SegmentationConfig = parts.SegmentationConfig(
        head="unetplusplus"
    )
    frozen: bool = False  # as that of FinetuneConfig, of the classification tasks
    claims: tuple[str, ...] = ()  # differences to judge, such as "mtpret - scratch"


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What report.json and report.html say."""

    title: str = "MTPret in JAX"  # of report.html
    baseline: str = "scratch"  # the arm that others are compared with
    bootstrap: parts.Count = 1000  # resamples of an interval
    samples: parts.Number = 6  # pictures shown for each task and arm


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything a work folder is made from. `runs` are done in their order."""

    seed: Annotated[int, (0, parts.LARGEST_SEED)] = 0  # of every run that names none
    input: parts.InputConfig = parts.InputConfig()
    backbone: parts.BackboneConfig = parts.BackboneConfig()
    encoders: Mapping[str, EncoderConfig] = dataclasses.field(default_factory=dict)
    report: ReportConfig = ReportConfig()
    exclude_copies: bool = False  # also from stages 2 and 3: training images that
    # validation or test holds again, which `contrastive.pool` keeps from stage 1
    datasets: Mapping[str, parts.DatasetConfig] = dataclasses.field(
        default_factory=dict
    )
    tasks: Mapping[str, parts.TaskConfig] = dataclasses.field(default_factory=dict)
    runs: Mapping[str, RunConfig] = dataclasses.field(default_factory=dict)
    study: StudyConfig = StudyConfig()

    def of(self, row: RunConfig) -> ExperimentConfig:
        """The config as a run sees it: backbone and input are those of its encoder."""
        if not row.encoder:
            return self
        changed = {}
        for part, names in SHARED.items():
            own = getattr(self, part)
            shared = {name: getattr(own, name) for name in names}
            given: Any = getattr(self.encoders[row.encoder], part)
            changed[part] = dataclasses.replace(given, **shared)
        return dataclasses.replace(self, **changed)

    def seed_of(self, row: RunConfig) -> int:
        """The seed that a run draws everything from."""
        return self.seed if row.seed < 0 else row.seed

    def batches_of(
        self, row: RunConfig
    ) -> Mapping[str, parts.TaskConfig | stages.ContrastiveConfig]:
        """Where the sizes of a run's batches stand, for each task that a step is of.

        A stage without labels has one such task, of its own name.
        """
        own: Any = row.options
        return {name: self.tasks[name] for name in row.tasks} or {row.stage: own}

    def monitored(self, row: RunConfig) -> tuple[str, ...]:
        """The tasks whose labels tell how good a run's features are as it trains."""
        named = row.monitor.tasks or row.tasks or tuple(self.tasks)
        sets = self.datasets_of(row)
        return tuple(
            name
            for name in named
            if self.tasks[name].can_be_probed and self.tasks[name].dataset in sets
        )

    def datasets_of(self, row: RunConfig) -> tuple[str, ...]:
        """The sets whose training images a run reads."""
        named = [self.tasks[task].dataset for task in row.tasks]
        return tuple(dict.fromkeys([*named, *row.options.datasets]))


CHOICES: Mapping[tuple[type, str], tuple[str, ...]] = {
    (RunConfig, "stage"): ("contrastive", "continual", "finetune"),
    (parts.TaskConfig, "kind"): (
        "classification",
        "segmentation",
        "detection",
        "regression",
        "ordinal",
        "landmarks",
    ),
    (parts.TaskConfig, "class_weights"): ("", "balanced"),
    (parts.SegmentationConfig, "head"): ("deeplabv3", "unetplusplus"),
    (parts.DetectionConfig, "head"): ("faster_rcnn", "retinanet"),
    (stages.ContrastiveConfig, "objective"): (
        "moco",
        "moco_v3",
        "dino",
        "lejepa",
        "mae",
        "distillation",
    ),
    (stages.ContrastiveConfig, "pool"): ("clean", "paper"),
    (stages.FinetuneConfig, "head"): ("new", "carried"),
    (stages.FinetuneConfig, "trains"): ("all", "head", "lora"),
    (stages.FinetuneConfig, "selection"): ("validation", "last", "auto"),
    (parts.InputConfig, "fit"): ("pad", "crop", "stretch"),
    (parts.InputConfig, "resample"): ("area", "bicubic", "gaussian"),
    (parts.InputConfig, "normalisation"): ("image", "dataset", "fixed"),
    (parts.BackboneConfig, "compute_dtype"): ("auto", "float32", "bfloat16"),
}
