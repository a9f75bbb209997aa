"""Options of the stages, and of what looks at them while they train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated

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

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that a run trains with labels, rows of `config.tasks`."""
        return ()

    @property
    def carries_head(self) -> bool:
        """Whether the head of the start is carried on."""
        return False

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings whose spread is told; 0: of none, or not known."""
        return 0


@dataclasses.dataclass(frozen=True)
class ContrastiveConfig(StageConfig):
    """Stage 1: learns from the images of many sets, by a published objective."""

    datasets: Mapping[str, float] = dataclasses.field(default_factory=dict)
    # rows of config.datasets and their weight; times size to the power below
    objective: str = "moco"  # moco: momentum contrast, version 2, as published;
    # moco_v3, dino, lejepa, mae (of ViTs), distillation: each with a table of its own
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
    def embedding_width(self) -> int:
        """That of the objective's head; a masked autoencoder has none."""
        if self.objective == "moco":
            return self.embedding_size
        return objectives.width(getattr(self, self.objective))

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
