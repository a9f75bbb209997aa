"""Stage 3: one task, its head and the backbone, from a given start."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.stages import optimizer, supervised


@dataclasses.dataclass(frozen=True, eq=False)
class FinetuneStage:
    """Trains one task's head, and the backbone, from a given start.

    Attributes:
      learner: Backbone and the one task.
      task: Name of the task.
      optimizer: Optimizer whose curve spans the whole stage.
      steps: Optimiser steps.
      learning_rate_scale: Factor on the optimizer's rate.
      layer_decay: Factor on the rate from each layer to the one before it.
    """

    learner: supervised.Learner
    task: str
    optimizer: types.Optimizer
    steps: int
    learning_rate_scale: float
    layer_decay: float = 1.0

    def segments(self) -> tuple[types.Segment, ...]:
        """One segment."""
        return (types.Segment(self.task, self.steps),)

    def is_validated(self, done: int, every: int) -> bool:
        """Whether the task is validated after `done` steps: now and then, and last."""
        return done == self.steps or bool(every and done % every == 0)

    def init(
        self, key: jax.Array, batches: Mapping[str, types.Batch]
    ) -> types.TrainState:
        """A fresh state; see `types.Stage`."""
        params, model_state = self.learner.init(key, batches)
        return types.TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            opt_state=supervised.init_opt_state(self.optimizer, params),
            memory={},
        )

    def begin(self, state: types.TrainState, task: str) -> types.TrainState:
        """Nothing to refresh: there is one task only."""
        del task
        return state

    def step(
        self, state: types.TrainState, batch: types.Batch
    ) -> tuple[types.TrainState, types.Scalars]:
        """One optimiser step."""
        grads, model_state, scalars = self.learner.gradients(state, batch)
        rate = self.optimizer.learning_rate(state.step) * self.learning_rate_scale
        factors = {}
        if self.layer_decay < 1:
            layers = self.learner.backbone.layers
            factors = optimizer.layer_factors(layers, self.layer_decay)
        state, norm = supervised.update(
            state, self.task, self.optimizer, grads, model_state, rate, factors
        )
        return state, scalars | {"gradient_norm": norm, "learning_rate": rate}

    def hand_over(self, state: types.TrainState) -> types.Tree:
        """Backbone and head."""
        return supervised.hand_over(state)


def build(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> FinetuneStage:
    """The stage of a run.

    Raises:
      ValueError: If it asks for what the backbone does not have.
    """
    (name,) = row.tasks
    options = row.finetune
    learner = supervised.build_learner(config, row, all_tasks)
    if options.drop_path and not all(learner.backbone.branches):
        raise ValueError(
            f"finetune.drop_path: '{config.backbone.name}' has no branches that "
            "training may leave out. Leave it out."
        )
    return FinetuneStage(
        learner=dataclasses.replace(learner, drop_path=options.drop_path),
        task=name,
        optimizer=optimizer.build_optimizer(row.optimizer, row.steps),
        steps=row.steps,
        learning_rate_scale=optimizer.rate_scales(config, row)[name],
        layer_decay=options.layer_decay,
    )
