"""The objectives of stage 1, by the name that a config gives: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.objectives import (
    dino,
    distillation,
    lejepa,
    mae,
    moco,
    moco_v3,
    objective,
)

OBJECTIVES: Mapping[
    str,
    Callable[[schema.ContrastiveConfig, types.Backbone], objective.Objective],
] = {
    "moco": moco.build,
    "moco_v3": moco_v3.build,
    "dino": dino.build,
    "lejepa": lejepa.build,
    "mae": mae.build,
    "distillation": distillation.build,
}


def build(
    config: schema.ContrastiveConfig, backbone: types.Backbone
) -> objective.Objective:
    """The objective of a run.

    Raises:
      ValueError: If the backbone is not one that it takes.
    """
    return OBJECTIVES[config.objective](config, backbone)
