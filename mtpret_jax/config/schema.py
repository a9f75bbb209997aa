"""The schema: every option of a config once, with its default and its unit."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Annotated, Any

# Numbers, with the smallest and the largest value of each, both allowed.
Share = Annotated[float, (0, 1)]
Amount = Annotated[float, (0, math.inf)]
Count = Annotated[int, (1, math.inf)]
Number = Annotated[int, (0, math.inf)]
LARGEST_SEED = 2**31 - 1
Side = Annotated[int, (1, 8192)]  # pixels; a batch of one then has 256 MiB


def bounds(table: type, option: str) -> tuple[float, float]:
    """The smallest and the largest value of an option of one of the dataclasses."""
    hint = typing.get_type_hints(table, include_extras=True)[option]
    return getattr(hint, "__metadata__", [(-math.inf, math.inf)])[0]


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training image. Zero (a crop: one) switches one off."""

    crop_min_area: Annotated[float, (0.01, 1)] = 1.0  # smallest crop, fraction of the
    # image's area
    flip_probability: Share = 0.0  # left-right; 0 where side matters
    rotation_degrees: Annotated[float, (0, 180)] = 0.0  # largest rotation either way
    brightness: Share = 0.0  # largest shift, fraction of the intensity range
    contrast: Share = 0.0  # factor drawn from 1 - c to 1 + c
    gamma: Amount = 0.0  # exponent drawn from 1 / (1 + g) to 1 + g
    blur_probability: Share = 0.0  # that an image is blurred
    blur_sigma: Amount = 1.0  # largest standard deviation, pixels of the input
    noise: Amount = 0.0  # largest standard deviation, fraction of the intensity range


AUGMENT_PRESETS: Mapping[str, AugmentConfig] = {
    "none": AugmentConfig(),
    # ours: small geometry and exposure changes, as between two visits to one room.
    "gentle": AugmentConfig(
        crop_min_area=0.8,
        rotation_degrees=7.0,
        brightness=0.1,
        contrast=0.2,
        gamma=0.2,
    ),
    # ours: two views of a radiograph; MoCo v2 without what makes no sense in grey.
    "contrastive": AugmentConfig(
        crop_min_area=0.4,
        flip_probability=0.5,
        rotation_degrees=10.0,
        brightness=0.2,
        contrast=0.4,
        gamma=0.3,
        blur_probability=0.5,
        blur_sigma=1.0,
        noise=0.03,
    ),
}


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
    """A prepared set: which builder makes it, and with which of its options."""

    builder: str = "phantom_xray"  # a module of tfds_builders
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # builder's
    splits: str = ""  # official, muscle, grouped, as far as it has them; "": its own


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
    """A head for masks and its loss. What the chosen head does not read is refused."""

    head: str = "deeplabv3"  # deeplabv3 or unetplusplus
    dice_weight: Amount = 0.0  # weight of 1 - Dice beside cross-entropy
    output_stride: int = 16  # deeplabv3: of the backbone, pixels: 8, 16 or 32
    channels: Count = 256  # deeplabv3: of the atrous pyramid
    rates: tuple[int, ...] = (6, 12, 18)  # deeplabv3: dilation rates
    dropout: Annotated[float, (0, 0.99)] = 0.1  # deeplabv3: fraction of its features,
    # in training
    auxiliary_weight: Amount = 0.0  # deeplabv3: of the loss of a head on C4; 0: none
    node_channels: tuple[int, ...] = (32, 64, 128, 256)  # unetplusplus: finest first
    deep_supervision: bool = False  # unetplusplus: a head on each node of the finest


@dataclasses.dataclass(frozen=True)
class DetectionConfig:
    """Faster R-CNN head on a feature pyramid."""

    channels: Count = 256  # of the feature pyramid
    anchor_sizes: tuple[float, ...] = (32, 64, 128, 256, 512)  # sides, pixels, P2 to P6
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    proposals_before_nms: Count = 2000  # before non-maximum suppression, each level
    proposals: Count = 1000  # after non-maximum suppression, each image
    anchors_sampled: Annotated[int, (2, math.inf)] = 256  # for training, each image;
    # fewer weigh boxes more
    regions: Annotated[int, (4, math.inf)] = 512  # sampled for training, each image
    hidden: Count = 1024  # width of the two dense layers
    max_boxes: Count = 32  # of ground truth, each image
    detections: Count = 100  # kept, each image
    score_threshold: Share = 0.05  # probability that a detection needs to be kept
    nms_threshold: Share = 0.5  # intersection over union, final detections


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What is learnt from the labels of one set."""

    kind: str = "classification"  # classification, segmentation or detection
    dataset: str = ""  # a row of config.datasets
    target: str = "label"  # classification: the label column
    exclusive: bool = True  # classification: classes exclude each other
    image_size: Side = 224  # side of the square input, pixels
    batch_size: int = 32  # examples of the global batch
    microbatches: int = 1  # gradient accumulation: parts of a batch done in turn
    batch_norm_rows: Number = 32  # examples with statistics of their own; 0: the batch
    learning_rate_scale: Amount = 1.0  # factor on the run's learning rate
    augment: AugmentConfig = AUGMENT_PRESETS["gentle"]
    segmentation: SegmentationConfig = SegmentationConfig()
    detection: DetectionConfig = DetectionConfig()

    @property
    def can_be_probed(self) -> bool:
        """Whether a linear probe and nearest neighbours can predict it."""
        return self.kind == "classification"


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """How a stored picture becomes an input."""

    fit: str = "pad"  # how a rectangle becomes a square: pad, crop or stretch
    normalisation: str = "image"  # mean 0, deviation 1: of each image or the dataset
    workers: Annotated[int, (-1, math.inf)] = -1  # processes that read; 0: threads; -1:
    # on accelerators, one for each core
    threads: Number = 0  # that read without workers; 0: one for each core, at least 4
    buffer: Count = 8  # batches read ahead by all streams; at least one for each reader


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """A row of models.BACKBONES and its sizes. Parameters are float32."""

    name: str = "resnet50"  # resnet18 or resnet50
    width: Count = 64  # channels of the stem
    in_channels: Count = 3  # the one grey channel is repeated to this many
    compute_dtype: str = "auto"  # bfloat16, float32; auto: the latter on CPUs alone
    remat: bool = False  # recompute activations in the backward pass to save memory

    @property
    def dtype(self) -> str:
        """Of products; float32 where no device has settled it (`precision.settle`)."""
        return "float32" if self.compute_dtype == "auto" else self.compute_dtype


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Gradient transformation and learning-rate curve of a run or segment."""

    name: str = "sgd"  # sgd, adamw, lars or lamb
    learning_rate: Amount = 0.01  # peak, per step
    learning_rate_batch: Number = 0  # that both rates are for: they grow in proportion
    # to the examples of the batch (adamw, lamb: to their square root); 0: for any batch
    final_learning_rate: Amount = 0.0  # at the end of the cosine
    warmup_steps: Number = 0  # linear, from 0.1 of the peak
    momentum: Share = 0.9  # of sgd and lars
    weight_decay: Amount = 1e-4  # of kernels; stage 2's anchors take its place
    clip_norm: Annotated[float, (1e-6, math.inf)] = 10.0  # largest global norm of the
    # gradient


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
    """Stage 1: momentum contrast over the train splits of many sets."""

    datasets: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # rows of config.datasets and their weight; times size to the power below
    pool: str = "clean"  # clean, or paper: also images that validation or test holds
    size_exponent: Amount = 1.0  # of a set's size; 1: uniform over images; 0: over sets
    image_size: Side = 224  # side of the square input, pixels
    batch_size: int = 256  # examples of the global batch
    microbatches: int = 1  # gradient accumulation: whole groups of BatchNorm each
    queue_size: int = 65_536  # negatives kept, embeddings; a multiple of the batch
    momentum: Share = 0.999  # of the key encoder, per step
    temperature: float = 0.2  # of the softmax
    embedding_size: Count = 128  # width of the projection
    batch_norm_rows: Number = 32  # examples with statistics of their own; 0: the batch
    augment: AugmentConfig = AUGMENT_PRESETS["contrastive"]
    carry_memory: bool = False  # init_from also hands over key encoder, head, queue


@dataclasses.dataclass(frozen=True)
class ContinualConfig(StageConfig):
    """Stage 2: tasks in turn, held near what came before."""

    validates_all = True

    tasks: tuple[str, ...] = ()  # rows of config.tasks
    rounds: int = 10  # times that every task comes
    reshuffle: bool = True  # a new order each round
    cyclic: bool = True  # restart the optimiser and its curve at each segment
    anchor_previous: Amount = 0.01  # pull to the weights before the segment
    anchor_pretrained: Amount = 0.01  # pull to the weights before the stage
    feature_memory: Amount = 0.0  # pull to the features before the segment
    head_decay: Amount = 0.01  # pull of a head's kernels to zero, beside the anchors
    batch_norm_batches: Number = 10  # of each task, from which BatchNorm's statistics
    # are taken anew before it is measured, and of all alike at the end; 0: they stay
    validation_batches: Number = 0  # of each task, at most; 0: in curves, together as
    # many as steps; for what is forgotten and transferred, all


@dataclasses.dataclass(frozen=True)
class FinetuneConfig(StageConfig):
    """Stage 3: one task from a given start."""

    is_tested = True

    task: str = ""  # a row of config.tasks
    head: str = "new"  # new, or carried: of stage 2 or a file of a whole network
    batch_norm_batches: Number = 10  # that re-estimate the statistics first; 0: none
    selection: str = "validation"  # of the step tested: best on validation; last; auto:
    # best over classes with 30 validation images of either kind, if half are; else last
    frozen: bool = False  # also measure the start: linear probe and neighbours

    @property
    def tasks(self) -> tuple[str, ...]:
        """The one task."""
        return (self.task,)

    @property
    def carries_head(self) -> bool:
        """Whether the head of the start is carried on."""
        return self.head == "carried"


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One stage, from a start to a backbone on disk."""

    stage: str = "finetune"  # contrastive, continual or finetune
    arm: str = ""  # fine-tuning: the row of the report this run belongs to
    seed: Annotated[int, (-1, LARGEST_SEED)] = -1  # of weights, order, augmentation,
    # dropout, labels; -1: the config's
    label_fraction: Annotated[float, (0.001, 1)] = 1.0  # of the groups whose labels are
    # used
    init_from: str = ""  # another run, a backbone folder, a file of weights, or nothing
    steps: int = 1000  # optimiser steps; of each segment in stage 2
    log_every: int = 50  # steps between logged figures
    checkpoint_every: int = 500  # steps between saved states
    evaluate_every: Number = 0  # steps between validations; 0: at the end. Stage 2: at
    # the end of a segment when so many have passed; 0: at the end of every segment
    optimizer: OptimizerConfig = OptimizerConfig()
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


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """A comparison of arms, from which `study.plan` makes every run."""

    tasks: tuple[str, ...] = ()  # rows of config.tasks; none: there is no study
    arms: tuple[str, ...] = ()  # what is compared; of config_study.ARMS
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
    unetplusplus: SegmentationConfig = SegmentationConfig(head="unetplusplus")
    imagenet: str = ""  # file of weights of arm imagenet
    frozen: bool = False  # as that of FinetuneConfig, of the classification tasks
    claims: tuple[str, ...] = ()  # differences to judge, such as "mtpret - scratch"


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """What report.json and report.html say."""

    title: str = "MTPret in JAX"  # of report.html
    baseline: str = "scratch"  # the arm that others are compared with
    bootstrap: Count = 1000  # resamples of an interval
    samples: Number = 6  # pictures shown for each task and arm


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything a work folder is made from. `runs` are done in their order."""

    seed: Annotated[int, (0, LARGEST_SEED)] = 0  # of every run that names none
    input: InputConfig = InputConfig()
    backbone: BackboneConfig = BackboneConfig()
    report: ReportConfig = ReportConfig()
    exclude_copies: bool = False  # also from stages 2 and 3: training images that
    # validation or test holds again, which `contrastive.pool` keeps from stage 1
    datasets: Mapping[str, DatasetConfig] = dataclasses.field(default_factory=dict)
    tasks: Mapping[str, TaskConfig] = dataclasses.field(default_factory=dict)
    runs: Mapping[str, RunConfig] = dataclasses.field(default_factory=dict)
    study: StudyConfig = StudyConfig()

    def seed_of(self, row: RunConfig) -> int:
        """The seed that a run draws everything from."""
        return self.seed if row.seed < 0 else row.seed

    def batches_of(
        self, row: RunConfig
    ) -> Mapping[str, TaskConfig | ContrastiveConfig]:
        """Where the sizes of a run's batches stand, for each task that a step is of.

        A stage without labels has one such task, of its own name.
        """
        own: Any = row.options
        return {name: self.tasks[name] for name in row.tasks} or {row.stage: own}

    def datasets_of(self, row: RunConfig) -> tuple[str, ...]:
        """The sets whose training images a run reads."""
        named = [self.tasks[task].dataset for task in row.tasks]
        return tuple(dict.fromkeys([*named, *row.options.datasets]))


CHOICES: Mapping[tuple[type, str], tuple[str, ...]] = {
    (RunConfig, "stage"): ("contrastive", "continual", "finetune"),
    (TaskConfig, "kind"): ("classification", "segmentation", "detection"),
    (SegmentationConfig, "head"): ("deeplabv3", "unetplusplus"),
    (ContrastiveConfig, "pool"): ("clean", "paper"),
    (FinetuneConfig, "head"): ("new", "carried"),
    (FinetuneConfig, "selection"): ("validation", "last", "auto"),
    (InputConfig, "fit"): ("pad", "crop", "stretch"),
    (InputConfig, "normalisation"): ("image", "dataset"),
    (BackboneConfig, "compute_dtype"): ("auto", "float32", "bfloat16"),
}
