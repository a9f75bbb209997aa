"""Options of the objectives of stage 1 beside the published one, which `schema` has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from mtpret_jax.config import parts

# Options of stage 1 that some objectives alone read. Those of the published one, which
# stand among the stage's own, are passed over in silence: another is one switch away.
READ_BY: Mapping[str, tuple[str, ...]] = {
    "carry_memory": ("moco",),
    "local_views": ("dino", "lejepa"),
    "local_size": ("dino", "lejepa"),
    "local_max_area": ("dino", "lejepa"),
    "moco_v3": ("moco_v3",),
    "dino": ("dino",),
    "lejepa": ("lejepa",),
    "mae": ("mae",),
    "distillation": ("distillation",),
}
Temperature = Annotated[float, (0.001, 100)]


@dataclasses.dataclass(frozen=True)
class MocoV3Config:
    """Momentum contrast without a queue. A published ViT has a batch of 4096."""

    momentum: parts.Share = 0.99  # of the key encoder, per step; rises to 1 by a cosine
    temperature: Temperature = 0.2  # of the softmax
    embedding_size: parts.Count = 256  # width of the projection
    hidden_size: parts.Count = 4096  # width within the heads


@dataclasses.dataclass(frozen=True)
class DinoConfig:
    """Self-distillation: a student tells which prototypes its slow copy chose."""

    momentum: parts.Share = 0.996  # of the teacher, per step; rises to 1 by a cosine
    student_temperature: Temperature = 0.1  # of its softmax
    teacher_temperature: Temperature = 0.04  # of its softmax: sharper
    center_momentum: parts.Share = 0.9  # of the mean that is taken off the teacher's
    # outputs, per step; 1: it stays zero, and nothing is centred
    prototypes: parts.Count = 65_536  # outputs; ours for small sets: 4096
    embedding_size: parts.Count = 256  # width before the prototypes
    hidden_size: parts.Count = 2048  # width within the head


@dataclasses.dataclass(frozen=True)
class LejepaConfig:
    """Views of an image alike, and all of them spread as an isotropic Gaussian."""

    weight: parts.Share = 0.05  # of the spreading term; its rest is that of likeness
    slices: parts.Count = 1024  # random directions in which it is measured, each step
    embedding_size: parts.Count = 64  # width of the projection
    hidden_size: parts.Count = 2048  # width within the head


@dataclasses.dataclass(frozen=True)
class MaeConfig:
    """A masked autoencoder, of ViTs alone: hidden patches are drawn from the others."""

    masked: Annotated[float, (0.01, 0.99)] = 0.75  # share of the patches that is hidden
    decoder_width: parts.Count = 512  # of its tokens; a multiple of 4 and of its heads
    decoder_depth: parts.Count = 8  # its blocks
    decoder_heads: parts.Count = 16  # of their attention


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """The features that a frozen teacher has of whole images are told from views."""

    teacher: str = ""  # folder of a model that `predict` takes: a run, a backbone
    features: parts.Count = 512  # width of the teacher's features
    hidden_size: parts.Count = 2048  # width within the head


def width(options: Any) -> int:
    """Width of an objective's embeddings, by its options; 0: those of the backbone."""
    return getattr(options, "embedding_size", getattr(options, "features", 0))


def check(stage: Any, path: str) -> None:
    """Refuses what the objective of a run does not read.

    Args:
      stage: The run's `ContrastiveConfig`.
      path: Where it stands, for messages.

    Raises:
      ValueError: If such an option has another value than its default.
    """
    for option, objectives in READ_BY.items():
        value, default = getattr(stage, option), getattr(type(stage), option)
        if stage.objective not in objectives and value != default:
            raise ValueError(
                f"{path}.{option}: read by {' and '.join(objectives)} alone, and the "
                f"objective is '{stage.objective}'. Leave it out."
            )
    decoder = stage.mae
    if decoder.decoder_width % 4 or decoder.decoder_width % decoder.decoder_heads:
        raise ValueError(
            f"{path}.mae.decoder_width: expected a multiple of 4 and of decoder_heads, "
            f"{decoder.decoder_heads}, got {decoder.decoder_width}."
        )
    if stage.objective == "distillation" and not stage.distillation.teacher:
        raise ValueError(
            f"{path}.distillation.teacher: name the folder of a model, such as "
            "runs/demo/runs/contrastive."
        )
