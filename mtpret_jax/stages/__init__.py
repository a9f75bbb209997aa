"""The stages of the recipe, by the name that a run of a config gives: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.stages import continual, contrastive, finetune

STAGES: Mapping[
    str,
    Callable[
        [schema.ExperimentConfig, schema.RunConfig, Mapping[str, types.Task]],
        types.Stage,
    ],
] = {
    "contrastive": contrastive.build,
    "continual": continual.build,
    "finetune": finetune.build,
}


def build(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> types.Stage:
    """The stage of a run, with its network and its optimizer."""
    return STAGES[row.stage](config, row, all_tasks)


def state_shapes(
    stage: types.Stage, batches: Mapping[str, types.Batch]
) -> types.TrainState:
    """Shapes of the states of a stage, whose parameters `batches` draw."""
    return jax.eval_shape(lambda key: stage.init(key, batches), jax.random.key(0))


def shape_batches(
    config: schema.ExperimentConfig, row: schema.RunConfig
) -> dict[str, types.Batch]:
    """For each task of a run, one blank image, to draw parameters by."""
    sizes = {name: part.image_size for name, part in config.batches_of(row).items()}
    blanks = {name: jnp.zeros((1, size, size, 1)) for name, size in sizes.items()}
    # Views are called queries where a stage takes two of an image.
    return {
        name: types.Batch({"image": blank, "query": blank}, name)
        for name, blank in blanks.items()
    }
