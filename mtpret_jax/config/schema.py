"""The schema: stages, runs, study and report; with `parts` every option of a config.

Each stands there once, with its default and its unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from mtpret_jax.config import objectives, parts

CONTRASTIVE = "contrastive"  # what the batches and the head of stage 1 are called
_NO_SETS: Mapping[str, float] = {}


class StageConfig:
    """What the options of every stage answer about a run; a stage changes what it must.

    Attributes:
      datasets: Sets whose training images are read without labels, and weights.
      pool: Which images are read without labels; see `ContrastiveConfig.pool`.
      rounds: Times that every task comes.
      batch_norm_batches: Batches of a task from which statistics are taken anew.
      validation_batches: Batches that a task is validated on, at most; 0: see there.
      selection: Which step's state is tested; see `FinetuneConfig.selection`.
      frozen: Whether the features of the start are measured, too.
      carry_memory: Whether the memory of the start is carried on.
      is_tested: Whether validation chooses among the states of its one task, whose test
        split is then predicted once.
      validates_all: Whether every task so far is validated as tasks come in turn, each
        with statistics of its own.
      is_monitored: Whether its features are looked at meanwhile; see `MonitorConfig`.
      embedding_size: Width of the unit-length embeddings whose deviation the stage
        tells as `embedding_spread`; 0: it has none.
    """

    datasets = _NO_SETS
    pool = ""
    rounds = 1
    batch_norm_batches = 0
    validation_batches = 0
    selection = "last"
    frozen = False
    carry_memory = False
    is_tested = False
    validates_all = False
    is_monitored = True
    embedding_size = 0

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that a run trains with labels, rows of `config.tasks`."""
        return ()

    @property
    def carries_head(self) -> bool:
        """Whether the head of the start is carried on."""
        return False


@dataclasses.dataclass(frozen=True)
class ContrastiveConfig(StageConfig):
    """Stage 1: learns from the images of many sets, by a published objective."""

    objective: str = "moco"  # moco: momentum contrast, version 2, as published;
    # moco_v3, dino, lejepa, mae (of ViTs), distillation: each with a table of its own
    datasets: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # rows of config.datasets and their weight; times size to the power below
    pool: str = "clean"  # clean, or paper: also images that validation or test holds
    size_exponent: parts.Amount = 1.0  # of a set's size; 1: uniform over images; 0:
    # over sets
    image_size: parts.Side = 224  # side of the square input, pixels
    batch_size: int = 256  # examples of the global batch
    microbatches: int = 1  # gradient accumulation: whole groups of BatchNorm each
    queue_size: int = 65_536  # moco: negatives, embeddings; a multiple of the batch
    momentum: parts.Share = 0.999  # moco: of the key encoder, per step
    temperature: float = 0.2  # moco: of the softmax
    embedding_size: parts.Count = 128  # moco: width of the projection
    batch_norm_rows: parts.Number = 32  # examples with statistics of their own; 0: the
    # batch
    augment: parts.AugmentConfig = parts.AUGMENT_PRESETS["contrastive"]
    local_views: parts.Number = 0  # dino, lejepa: small views beside the two of an
    # image; the papers have 8 and 6
    local_size: parts.Side = 96  # side of a small view, pixels
    local_max_area: Annotated[float, (0.01, 1)] = 0.4  # its largest crop, fraction of
    # the image's area; its smallest is an eighth of that
    carry_memory: bool = False  # moco: init_from also hands over key encoder, head,
    # queue
    moco_v3: objectives.MocoV3Config = objectives.MocoV3Config()
    dino: objectives.DinoConfig = objectives.DinoConfig()
    lejepa: objectives.LejepaConfig = objectives.LejepaConfig()
    mae: objectives.MaeConfig = objectives.MaeConfig()
    distillation: objectives.DistillationConfig = objectives.DistillationConfig()

    @property
    def negatives(self) -> int:
        """Embeddings of other images that are kept from step to step."""
        return self.queue_size if self.objective == "moco" else 0

    @property
    def rivals(self) -> int:
        """Keys that a query's own is picked out from, beside it; 0: it is not asked."""
        in_batch = self.batch_size - 1 if self.objective == "moco_v3" else 0
        return self.negatives or in_batch


@dataclasses.dataclass(frozen=True)
class ContinualConfig(StageConfig):
    """Stage 2: tasks in turn, held near what came before."""

    validates_all = True

    tasks: tuple[str, ...] = ()  # rows of config.tasks
    rounds: int = 10  # times that every task comes
    reshuffle: bool = True  # a new order each round
    cyclic: bool = True  # restart the optimiser and its curve at each segment
    anchor_previous: parts.Amount = 0.01  # pull to the weights before the segment
    anchor_pretrained: parts.Amount = 0.01  # pull to the weights before the stage
    feature_memory: parts.Amount = 0.0  # pull to the features before the segment
    head_decay: parts.Amount = 0.01  # pull of a head's kernels to zero, beside the
    # anchors
    batch_norm_batches: parts.Number = 10  # of each task, from which BatchNorm's
    # statistics are taken anew before it is measured, and of all alike at the end; 0:
    # they stay
    validation_batches: parts.Number = 0  # of each task, at most; 0: in curves,
    # together as many as steps; for what is forgotten and transferred, all


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(StageConfig):
    """Stage 3: one task from a given start."""

    is_tested = True
    is_monitored = False

    task: str = ""  # a row of config.tasks
    head: str = "new"  # new, or carried: of stage 2 or a file of a whole network
    batch_norm_batches: parts.Number = 10  # that re-estimate the statistics first; 0:
    # none
    selection: str = "validation"  # of the step tested: best on validation; last; auto:
    # best over classes with 30 validation images of either kind, if half are; else last
    frozen: bool = False  # also measure the start: linear probe and neighbours
    drop_path: Annotated[float, (0, 0.99)] = 0.0  # probability that a step leaves the
    # last block's branches out for an image; rises evenly from 0 at the first block
    layer_decay: Annotated[float, (0.01, 1)] = 1.0  # factor on the learning rate from
    # each layer of the backbone to the one before it; the head's is 1
    ema: Annotated[float, (0, 0.99999)] = 0.0  # share that each step keeps of averaged
    # weights, which are validated, tested and handed over; 0: those of the last step
    trains: str = "all"  # all; head: the backbone rests, as in evaluation; lora:
    # adapters of the queries and values of its attention train in its place
    lora_rank: parts.Count = 8  # lora: of what is added to a kernel
    lora_alpha: parts.Amount = 8.0  # lora: it counts alpha / rank times

    @property
    def tasks(self) -> tuple[str, ...]:
        """The one task."""
        return (self.task,)

    @property
    def carries_head(self) -> bool:
        """Whether the head of the start is carried on."""
        return self.head == "carried"


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
class MonitorConfig:
    """Looks at the features of stages 1 and 2 while they train, which changes nothing.

    Runs of fewer steps than `every` are not looked at.
    """

    every: parts.Number = 500  # steps between two looks; also at the start and after
    # one and two fifths of so many; 0: none
    images: parts.Count = 256  # of validation, of all sets together; and at most as
    # many of training, which neighbours and probe learn from
    tasks: tuple[str, ...] = ()  # of classification, whose labels neighbours and probe
    # predict; none: all of the run, in stage 1 all of its sets


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
    monitor: MonitorConfig = MonitorConfig()
    optimizer: parts.OptimizerConfig = parts.OptimizerConfig()
    contrastive: ContrastiveConfig = ContrastiveConfig()
    continual: ContinualConfig = ContinualConfig()
    finetune: FinetuneConfig = FinetuneConfig()

    @property
    def options(self) -> StageConfig:
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
    ) -> Mapping[str, parts.TaskConfig | ContrastiveConfig]:
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
    (ContrastiveConfig, "objective"): (
        "moco",
        "moco_v3",
        "dino",
        "lejepa",
        "mae",
        "distillation",
    ),
    (ContrastiveConfig, "pool"): ("clean", "paper"),
    (FinetuneConfig, "head"): ("new", "carried"),
    (FinetuneConfig, "trains"): ("all", "head", "lora"),
    (FinetuneConfig, "selection"): ("validation", "last", "auto"),
    (parts.InputConfig, "fit"): ("pad", "crop", "stretch"),
    (parts.InputConfig, "resample"): ("area", "bicubic", "gaussian"),
    (parts.InputConfig, "normalisation"): ("image", "dataset", "fixed"),
    (parts.BackboneConfig, "compute_dtype"): ("auto", "float32", "bfloat16"),
}
