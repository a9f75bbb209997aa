"""Stage 3: one task, its head and the backbone, from a given start.

Parameters of a state are always those that are validated, tested and handed over. Where
they are averages, or have adapters added, what trains lies in the state's memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.stages import lora, optimizer, supervised

_ADAPTERS = 0x6C6F7261  # what their draw is folded in by, so that all others stay


class Training(flax.struct.PyTreeNode):
    """What trains, where it is not the parameters of the state.

    Attributes:
      params: Parameters in the shape of a state's; for a backbone that rests there are
        none, for one with adapters theirs.
      model_state: Batch statistics after the last step.
      kernels: Those that adapters are added to, as they were before the stage.
    """

    params: types.Tree
    model_state: types.Tree
    kernels: types.Tree


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
      ema: Share of the averages that each step keeps; 0: there are none.
      adapters: What trains in place of the backbone; None: the backbone itself, if it
        does not rest (`learner.rests`).

    Source: averages of parameters and batch statistics as timm's ModelEmaV3.
    """

    learner: supervised.Learner
    task: str
    optimizer: types.Optimizer
    steps: int
    learning_rate_scale: float
    layer_decay: float = 1.0
    ema: float = 0.0
    adapters: lora.Adapters | None = None

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
        drawn = {}
        if self.adapters:
            kernels = self.adapters.kernels(params["backbone"])
            drawn = self.adapters.init(jax.random.fold_in(key, _ADAPTERS), kernels)
        state = types.TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            opt_state={},
            memory=self._memory(params, model_state, drawn),
            key=jax.random.key_data(key),
        )
        training = self._training(state).params
        opt_state = supervised.init_opt_state(self.optimizer, training)
        return state.replace(opt_state=opt_state)

    def begin(self, state: types.TrainState, task: str) -> types.TrainState:
        """Training begins at the start, which `init` did not know yet."""
        del task
        if not isinstance(state.memory, Training):
            return state
        drawn = state.memory.params["backbone"]
        memory = self._memory(state.params, state.model_state, drawn)
        return state.replace(memory=memory)

    def _memory(
        self, params: types.Tree, model_state: types.Tree, drawn: types.Tree
    ) -> types.Tree:
        """What trains from these parameters on, `drawn` being the adapters."""
        kernels = {}
        if self.adapters:
            kernels = self.adapters.kernels(params["backbone"])
            params = {**params, "backbone": drawn}
        elif not self.ema:
            return {}
        elif self.learner.rests:
            params = {**params, "backbone": {}}
        return Training(params, model_state, kernels)

    def step(
        self, state: types.TrainState, batch: types.Batch
    ) -> tuple[types.TrainState, types.Scalars]:
        """One optimiser step."""
        training = self._training(state)
        grads, model_state, scalars = self.learner.gradients(
            training, batch, body=lambda trained: self._body(state, trained)
        )
        rate = self.optimizer.learning_rate(state.step) * self.learning_rate_scale
        factors = {}
        if self.layer_decay < 1:
            layers = self.learner.backbone.layers
            factors = optimizer.layer_factors(layers, self.layer_decay)
        training, norm = supervised.update(
            training, self.task, self.optimizer, grads, model_state, rate, factors
        )
        scalars |= {"gradient_norm": norm, "learning_rate": rate}
        return self._after(state, training), scalars

    def _training(self, state: types.TrainState) -> types.TrainState:
        """The state with what trains in place of its parameters."""
        if isinstance(state.memory, Training):
            kept = state.memory
            return state.replace(params=kept.params, model_state=kept.model_state)
        if self.learner.rests:
            return state.replace(params={**state.params, "backbone": {}})
        return state

    def _body(self, state: types.TrainState, trained: types.Tree) -> types.Tree:
        """Parameters of the backbone, of what trains for it."""
        if self.learner.rests:
            return state.params["backbone"]
        if self.adapters:
            body, kernels = state.params["backbone"], state.memory.kernels
            return self.adapters.add(body, kernels, trained)
        return trained

    def _after(
        self, before: types.TrainState, training: types.TrainState
    ) -> types.TrainState:
        """The state that follows `before` when training has come to `training`."""
        body = self._body(before, training.params["backbone"])
        state = training.replace(params={**training.params, "backbone": body})
        if not isinstance(before.memory, Training):
            return state
        memory = before.memory.replace(
            params=training.params, model_state=training.model_state
        )
        if not self.ema:
            return state.replace(memory=memory)
        params, model_state = jax.tree.map(
            lambda mean, now: mean + (1 - self.ema) * (now - mean),
            (before.params, before.model_state),
            (state.params, state.model_state),
        )
        return state.replace(params=params, model_state=model_state, memory=memory)

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
    learner = dataclasses.replace(
        supervised.build_learner(config, row, all_tasks),
        drop_path=options.drop_path,
        rests=options.trains == "head",
    )
    if options.drop_path and not all(learner.backbone.branches):
        raise ValueError(
            f"finetune.drop_path: '{config.backbone.name}' has no branches that "
            "training may leave out. Leave it out."
        )
    return FinetuneStage(
        learner=learner,
        task=name,
        optimizer=optimizer.build_optimizer(row.optimizer, row.steps),
        steps=row.steps,
        learning_rate_scale=optimizer.rate_scales(config, row)[name],
        layer_decay=options.layer_decay,
        ema=options.ema,
        adapters=_adapters(config, options),
    )


def _adapters(
    config: schema.ExperimentConfig, options: schema.FinetuneConfig
) -> lora.Adapters | None:
    """The adapters that a run trains, if it does."""
    if options.trains != "lora":
        return None
    adapters = lora.Adapters(options.lora_rank, options.lora_alpha)
    if not adapters.kernels(models.backbone_shapes(config.backbone)["params"]):
        raise ValueError(
            f"finetune.trains: 'lora' adapts attention, and '{config.backbone.name}' "
            "has none. Choose 'all' or 'head'."
        )
    return adapters
