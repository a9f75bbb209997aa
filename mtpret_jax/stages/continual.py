"""Stage 2: many tasks in turn, held near what came before.

In every round each task gets one segment, in a new order (reshuffled), with the
optimiser and its learning-rate curve started again (cyclic). Cross-task memorization
pulls the backbone's kernels towards those before the segment and those before the
stage, and, if asked, its features towards those before the segment. The published
texts name the ideas; these forms are our choice (L2-SP, Li et al. 2018; DELTA, Li et
al. 2019).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.stages import optimizer, supervised


class ContinualMemory(flax.struct.PyTreeNode):
    """Backbones to stay near.

    Attributes:
      previous: Parameters before the segment.
      previous_state: Batch statistics before the segment.
      pretrained: Parameters before the stage.
    """

    previous: types.Tree
    previous_state: types.Tree
    pretrained: types.Tree


@dataclasses.dataclass(frozen=True, eq=False)
class ContinualStage:
    """Trains the tasks in turn.

    Attributes:
      learner: Backbone and all tasks.
      config: Order and memory.
      optimizer: Optimizer whose curve spans a segment if cyclic, else the stage.
      steps: Optimiser steps of each segment.
      learning_rate_scale: Factor on the optimizer's rate, for each task.
      seed: Seed of the order.
    """

    learner: supervised.Learner
    config: schema.ContinualConfig
    optimizer: types.Optimizer
    steps: int
    learning_rate_scale: Mapping[str, float]
    seed: int

    @property
    def anchored(self) -> bool:
        """Whether anything pulls the backbone's kernels back."""
        return self.config.anchor_previous + self.config.anchor_pretrained > 0

    def segments(self) -> tuple[types.Segment, ...]:
        """All rounds' tasks in order; a pure function of configuration and seed."""
        names = self.config.tasks
        order = []
        for index in range(self.config.rounds):
            rng = np.random.default_rng([self.seed, index])
            reshuffled = rng.permutation(len(names))
            choice = reshuffled if self.config.reshuffle else range(len(names))
            order += [types.Segment(names[position], self.steps) for position in choice]
        return tuple(order)

    def is_validated(self, done: int, every: int) -> bool:
        """Whether all tasks so far are validated after `done` steps.

        That is at the end of a segment in which a multiple of `every` steps was passed,
        of each if `every` is 0, and of the last one.
        """
        if done % self.steps:
            return False
        is_last = done == self.steps * len(self.config.tasks) * self.config.rounds
        return not every or is_last or done // every > (done - self.steps) // every

    def init(
        self, key: jax.Array, batches: Mapping[str, types.Batch]
    ) -> types.TrainState:
        """A fresh state; see `types.Stage`."""
        params, model_state = self.learner.init(key, batches)
        state = types.TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            opt_state=supervised.init_opt_state(self.optimizer, params),
            memory=ContinualMemory(
                previous=params["backbone"],
                previous_state=model_state["backbone"],
                pretrained=params["backbone"],
            ),
            key=jax.random.key_data(key),
        )
        return state

    def begin(self, state: types.TrainState, task: str) -> types.TrainState:
        """Remembers the backbone as it is now; restarts the optimiser if cyclic."""
        backbone = state.params["backbone"]
        # Only the stage's own start has step 0, and it may come from another run.
        pretrained = jax.tree.map(
            lambda now, then: jnp.where(state.step == 0, now, then),
            backbone,
            state.memory.pretrained,
        )
        opt_state = state.opt_state
        if self.config.cyclic:
            fresh = supervised.init_opt_state(self.optimizer, state.params)
            opt_state = supervised.replace_part(
                opt_state,
                task,
                {"backbone": fresh["backbone"], "head": fresh["heads"][task]},
            )
        return state.replace(
            opt_state=opt_state,
            memory=ContinualMemory(
                previous=backbone,
                previous_state=state.model_state["backbone"],
                pretrained=pretrained,
            ),
        )

    def step(
        self, state: types.TrainState, batch: types.Batch
    ) -> tuple[types.TrainState, types.Scalars]:
        """One optimiser step of the backbone and the batch's head."""
        penalty = self._feature_penalty(state) if self.config.feature_memory else None
        grads, model_state, scalars = self.learner.gradients(state, batch, penalty)
        grads, distances = self._anchored(state, batch.task, grads)
        position = state.step % self.steps if self.config.cyclic else state.step
        rate = self.optimizer.learning_rate(position)
        rate = rate * self.learning_rate_scale[batch.task]
        state, norm = supervised.update(
            state, batch.task, self.optimizer, grads, model_state, rate
        )
        scalars |= distances
        return state, scalars | {"gradient_norm": norm, "learning_rate": rate}

    def _anchored(
        self, state: types.TrainState, task: str, grads: types.Tree
    ) -> tuple[types.Tree, types.Scalars]:
        """Adds the gradients of (a/2) |w - w0|^2 for kernels of backbone and head."""
        if not self.anchored:  # Then weight decay acts instead.
            return grads, {}
        config, memory = self.config, state.memory
        distance = {"previous": jnp.zeros(()), "pretrained": jnp.zeros(())}

        def pull(grad, now, previous, pretrained):
            if now.ndim < 2:
                return grad
            to_previous, to_pretrained = now - previous, now - pretrained
            distance["previous"] += jnp.sum(jnp.square(to_previous))
            distance["pretrained"] += jnp.sum(jnp.square(to_pretrained))
            return (
                grad
                + config.anchor_previous * to_previous
                + config.anchor_pretrained * to_pretrained
            )

        backbone = jax.tree.map(
            pull,
            grads["backbone"],
            state.params["backbone"],
            memory.previous,
            memory.pretrained,
        )
        head = jax.tree.map(
            lambda grad, now: grad + config.head_decay * now if now.ndim > 1 else grad,
            grads["head"],
            state.params["heads"][task],
        )
        scalars = {f"distance_{name}": jnp.sqrt(d) for name, d in distance.items()}
        return {"backbone": backbone, "head": head}, scalars

    def _feature_penalty(self, state: types.TrainState) -> supervised.FeaturePenalty:
        teacher = types.Variables(state.memory.previous, state.memory.previous_state)

        def penalty(features: types.Features, batch: types.Batch) -> jax.Array:
            remembered, _ = self.learner.backbone.apply(
                teacher,
                batch.arrays["image"],
                train=False,
                output_stride=self.learner.tasks[batch.task].output_stride,
            )
            distances = [
                jnp.mean(jnp.square(now.astype(jnp.float32) - then.astype(jnp.float32)))
                for now, then in zip(features.levels, remembered.levels, strict=True)
            ]
            mean = sum(distances, jnp.zeros(())) / len(distances)
            return 0.5 * self.config.feature_memory * mean

        return penalty

    def hand_over(self, state: types.TrainState) -> types.Tree:
        """Backbone and all heads."""
        return supervised.hand_over(state)


def build(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> ContinualStage:
    """The stage of a run."""
    options = row.continual
    segments = 1 if options.cyclic else len(options.tasks) * options.rounds
    # The anchors take the place of weight decay (L2-SP).
    anchored = options.anchor_previous + options.anchor_pretrained > 0
    return ContinualStage(
        learner=supervised.build_learner(config, row, all_tasks),
        config=options,
        optimizer=optimizer.build_optimizer(
            row.optimizer, row.steps * segments, decay=not anchored
        ),
        steps=row.steps,
        learning_rate_scale=optimizer.rate_scales(config, row),
        seed=config.seed_of(row),
    )
