"""Builds a run's stage from the config, and the shapes of its batches."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import heads
from mtpret_jax.stages import continual, contrastive, finetune, supervised
from mtpret_jax.training import optimizer


def build_learner(
    config: schema.ExperimentConfig,
    all_tasks: Mapping[str, types.Task],
    row: schema.RunConfig,
) -> supervised.Learner:
    """A backbone with the heads of a run's tasks."""
    return supervised.Learner(
        backbone=models.build_backbone(config.backbone),
        tasks={name: all_tasks[name] for name in row.tasks},
        microbatches={name: config.tasks[name].microbatches for name in row.tasks},
        seed=config.seed_of(row),
    )


def rate_scales(
    config: schema.ExperimentConfig, row: schema.RunConfig
) -> dict[str, float]:
    """What a run's learning rates are multiplied by, for each task of its batches."""
    if row.stage == "contrastive":
        batch_size = row.contrastive.batch_size
        return {contrastive.TASK: optimizer.batch_scale(row.optimizer, batch_size)}
    return {
        name: config.tasks[name].learning_rate_scale
        * optimizer.batch_scale(row.optimizer, config.tasks[name].batch_size)
        for name in row.tasks
    }


def _contrastive(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> types.Stage:
    del all_tasks
    return contrastive.ContrastiveStage(
        backbone=models.build_backbone(config.backbone),
        projection=heads.Projection(row.contrastive.embedding_size),
        config=row.contrastive,
        optimizer=optimizer.build_optimizer(
            row.optimizer,
            row.steps,
            scale=rate_scales(config, row)[contrastive.TASK],
        ),
        steps=row.steps,
    )


def _continual(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> types.Stage:
    names = row.continual.tasks
    segments = 1 if row.continual.cyclic else len(names) * row.continual.rounds
    # The anchors take the place of weight decay (L2-SP).
    anchored = row.continual.anchor_previous + row.continual.anchor_pretrained > 0
    curve = optimizer.build_optimizer(
        row.optimizer, row.steps * segments, decay=not anchored
    )
    return continual.ContinualStage(
        learner=build_learner(config, all_tasks, row),
        config=row.continual,
        optimizer=curve,
        steps=row.steps,
        learning_rate_scale=rate_scales(config, row),
        seed=config.seed_of(row),
    )


def _finetune(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> types.Stage:
    name = row.finetune.task
    return finetune.FinetuneStage(
        learner=build_learner(config, all_tasks, row),
        task=name,
        optimizer=optimizer.build_optimizer(row.optimizer, row.steps),
        steps=row.steps,
        learning_rate_scale=rate_scales(config, row)[name],
    )


STAGES = {
    "contrastive": _contrastive,
    "continual": _continual,
    "finetune": _finetune,
}


def build_stage(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> types.Stage:
    """The stage of a run."""
    return STAGES[row.stage](config, row, all_tasks)


def shape_batches(
    config: schema.ExperimentConfig, row: schema.RunConfig
) -> dict[str, types.Batch]:
    """For each task of a run, one blank image, to draw parameters by."""
    if row.stage == "contrastive":
        sizes = {contrastive.TASK: ("query", row.contrastive.image_size)}
    else:
        sizes = {name: ("image", config.tasks[name].image_size) for name in row.tasks}
    return {
        name: types.Batch({array: jnp.zeros((1, size, size, 1))}, name)
        for name, (array, size) in sizes.items()
    }
