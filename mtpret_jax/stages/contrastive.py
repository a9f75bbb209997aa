"""Stage 1: learns from two views of the images of many sets, labels unused.

By what it learns is one of `mtpret_jax.objectives`; loop, views and optimiser are the
same for all. BatchNorm takes its statistics over fixed groups of the global batch, and
each group of positive views belongs to queries of many groups, so that statistics do
not tell which view belongs to which query: a batch holds the other view of an image in
another row, `partner`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import models, objectives, types
from mtpret_jax.objectives import objective
from mtpret_jax.stages import accumulation, optimizer

TASK = schema.CONTRASTIVE  # Name of the one segment, of its batches and of its head.


@dataclasses.dataclass(frozen=True, eq=False)
class ContrastiveStage:
    """Stage 1 as `types.Stage`.

    Attributes:
      backbone: What learns.
      objective: What it learns by.
      config: Micro-batches and groups of BatchNorm.
      optimizer: Optimizer whose curve spans the whole stage.
      steps: Optimiser steps.
    """

    backbone: types.Backbone
    objective: objective.Objective
    config: schema.ContrastiveConfig
    optimizer: types.Optimizer
    steps: int

    def segments(self) -> tuple[types.Segment, ...]:
        """One segment, whose stream is the mix of all sets."""
        return (types.Segment(TASK, self.steps),)

    def is_validated(self, done: int, every: int) -> bool:
        """Never: there is nothing to validate without labels."""
        del done, every
        return False

    def init(
        self, key: jax.Array, batches: Mapping[str, types.Batch]
    ) -> types.TrainState:
        """A fresh state, with what the objective remembers."""
        body_key, head_key, memory_key, own_key = jax.random.split(key, 4)
        image = batches[TASK].arrays["query"]
        body = self.backbone.init(body_key, image)
        head, memory = self.objective.init(head_key, memory_key, body, image)
        pair = {"backbone": body.params, "head": head}
        return types.TrainState(
            step=jnp.zeros((), jnp.int32),
            params={"backbone": body.params, "heads": {TASK: head}},
            model_state={"backbone": body.model_state, "heads": {}},
            opt_state=self.optimizer.direction.init(pair),
            memory=memory,
            key=jax.random.key_data(own_key) if self.objective.draws else None,
        )

    def begin(self, state: types.TrainState, task: str) -> types.TrainState:
        """Has the memory begin with what the run starts from."""
        del task
        memory = self.objective.begin(
            state.memory, _pair(state.params), state.model_state["backbone"]
        )
        return state.replace(memory=memory)

    def step(
        self, state: types.TrainState, batch: types.Batch
    ) -> tuple[types.TrainState, types.Scalars]:
        """One optimiser step."""
        before = _pair(state.params)
        key = jax.random.key(0)
        if self.objective.draws:
            key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        progress = state.step / self.steps
        prepared = self.objective.prepare(
            key, state.memory, before, batch.arrays, progress
        )
        grads, body_state, told = self._gradients(
            before, state.model_state["backbone"], prepared
        )
        grads, norm = self.optimizer.clip(grads)
        rate = self.optimizer.learning_rate(state.step)
        params, opt_state = self.optimizer.update(grads, state.opt_state, before, rate)
        # Without a gradient they would still decay.
        rest = {name: before["backbone"][name] for name in self.objective.rests}
        state = state.replace(
            step=state.step + 1,
            params={
                "backbone": {**params["backbone"], **rest},
                "heads": {TASK: params["head"]},
            },
            model_state={"backbone": body_state, "heads": {}},
            opt_state=opt_state,
            memory=prepared.memory,
        )
        return state, _scalars(told) | {"gradient_norm": norm, "learning_rate": rate}

    def _gradients(
        self, pair: types.Tree, model_state: types.Tree, prepared: objective.Prepared
    ) -> tuple[types.Tree, types.Tree, objective.Told]:
        """Gradients, batch statistics, and what is told; with parts, these first."""
        loss = functools.partial(self._loss, prepared.shared)
        gradient = jax.grad(loss, has_aux=True)
        parts = self.config.microbatches
        if parts == 1:
            grads, (updated, told) = gradient(pair, model_state, prepared.rows)
            return grads, updated, told
        # Whole groups, so that their statistics are those of the batch done at once.
        cut = accumulation.split(prepared.rows, parts, rows=self.config.batch_norm_rows)
        return accumulation.accumulate(gradient, pair, model_state, (cut,))

    def _loss(
        self,
        shared: types.Tree,
        pair: types.Tree,
        model_state: types.Tree,
        rows: types.Tree,
    ) -> tuple[jax.Array, tuple[types.Tree, objective.Told]]:
        body = pair["backbone"]
        rest = {name: body[name] for name in self.objective.rests}
        pair = {**pair, "backbone": {**body, **jax.lax.stop_gradient(rest)}}
        loss, updated, told = self.objective.loss(pair, model_state, rows, shared)
        return loss.mean(), (updated, told)

    def hand_over(self, state: types.TrainState) -> types.Tree:
        """Backbone, the objective's head, and what `carry_memory` carries on."""
        memory = vars(state.memory) if self.config.negatives else {}
        return {
            "backbone": {
                "params": state.params["backbone"],
                "model_state": state.model_state["backbone"],
            },
            "heads": {"params": state.params["heads"], "model_state": {}},
            "memory": memory,
        }


def build(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> ContrastiveStage:
    """The stage of a run; it needs no task.

    Raises:
      ValueError: If the backbone is not one that the objective takes, or the objective
        does not do a batch in parts.
    """
    del all_tasks
    backbone, options = models.build_backbone(config.backbone), row.contrastive
    learnt = objectives.build(options, backbone)
    if options.microbatches > 1 and not learnt.splits:
        raise ValueError(
            f"contrastive.microbatches: '{options.objective}' compares a whole batch "
            "with itself, which cannot be done in parts. Set it to 1."
        )
    return ContrastiveStage(
        backbone=backbone,
        objective=learnt,
        config=options,
        optimizer=optimizer.build_optimizer(
            row.optimizer,
            row.steps,
            scale=optimizer.rate_scales(config, row)[TASK],
        ),
        steps=row.steps,
    )


def _scalars(told: objective.Told) -> types.Scalars:
    """Means of what is told of the rows, and how far the embeddings spread.

    With parts, these come first: [parts, B / parts], embeddings [parts, B / parts, D].
    """
    rows = {name: values.astype(float).mean() for name, values in told.items()}
    embedding = told["embedding"]
    axes = tuple(range(embedding.ndim - 1))
    # Both means at once: a deviation about the mean would have devices wait twice.
    variance = jnp.square(embedding).mean(axes) - jnp.square(embedding.mean(axes))
    # 1 / sqrt(D) when embeddings fill the sphere, 0 when they collapse.
    spread = jnp.sqrt(jnp.maximum(variance, 0.0)).mean()
    del rows["embedding"]
    return rows | {"embedding_spread": spread}


def _pair(params: types.Tree) -> types.Tree:
    return {"backbone": params["backbone"], "head": params["heads"][TASK]}
