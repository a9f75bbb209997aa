"""What stages 2 and 3 share: forward, loss, gradients, update, prediction."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.models import stochastic_depth
from mtpret_jax.ops import mixup, views
from mtpret_jax.stages import accumulation

# Features of a batch to a penalty, float32 [].
FeaturePenalty = Callable[[types.Features, types.Batch], jax.Array]
# What their draws are folded in by, so that all others stay as they are.
_MIXUP, _PATHS = 0x6D6978, 0x706174
_NO_FACTORS: Mapping[str, float] = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Learner:
    """A backbone and the heads of some tasks.

    Attributes:
      backbone: Backbone that all tasks share.
      tasks: Tasks by their names.
      microbatches: For each task, the parts of a batch that are done in turn, their
        gradients averaged.
      mixup: For each task, alpha of the Beta distribution of `mixup.mix`; 0: none.
      drop_path: Probability that a step leaves the branches of the last block out; see
        `stochastic_depth.rates`.
      rests: Whether the backbone computes as in evaluation, and its statistics stay.
    """

    backbone: types.Backbone
    tasks: Mapping[str, types.Task]
    microbatches: Mapping[str, int]
    mixup: Mapping[str, float]
    drop_path: float = 0.0
    rests: bool = False

    def init(
        self, key: jax.Array, batches: Mapping[str, types.Batch]
    ) -> tuple[types.Tree, types.Tree]:
        """Draws parameters and batch statistics of the backbone and every head."""
        keys = jax.random.split(key, len(self.tasks) + 1)
        image = next(iter(batches.values())).arrays["image"]
        body = self.backbone.init(keys[0], image)
        params = {"backbone": body.params, "heads": {}}
        model_state = {"backbone": body.model_state, "heads": {}}
        for head_key, (name, task) in zip(keys[1:], self.tasks.items(), strict=True):
            features, _ = self.backbone.apply(
                body,
                batches[name].arrays["image"],
                train=False,
                output_stride=task.output_stride,
            )
            head = task.init(head_key, features)
            params["heads"][name] = head.params
            model_state["heads"][name] = head.model_state
        return params, model_state

    def gradients(
        self,
        state: types.TrainState,
        batch: types.Batch,
        penalty: FeaturePenalty | None = None,
        body: Callable[[types.Tree], types.Tree] = lambda params: params,
    ) -> tuple[types.Tree, types.Tree, types.Scalars]:
        """Gradients and new batch statistics, as `{"backbone": .., "head": ..}`.

        Args:
          state: Before the step.
          batch: Batch of one task; see `types`.
          penalty: Penalty that is added to the loss, if given.
          body: Parameters of the backbone, of what the state has in their place.
        """
        params = _part(state.params, batch.task)
        model_state = _part(state.model_state, batch.task)
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
        if alpha := self.mixup[batch.task]:
            share = jax.random.beta(jax.random.fold_in(key, _MIXUP), alpha, alpha)
            arrays = mixup.mix(views.normalise(batch.arrays), share)
            batch = batch.replace(arrays=arrays)
        parts = self.microbatches[batch.task]

        def loss(params: types.Tree, *part: Any) -> Any:
            whole = {**params, "backbone": body(params["backbone"])}
            return self._loss(whole, *part, penalty=penalty)

        gradient = jax.grad(loss, has_aux=True)
        if parts == 1:
            grads, (updated, scalars) = gradient(params, model_state, batch, key)
            return grads, updated, scalars
        grads, updated, scalars = accumulation.accumulate(
            gradient,
            params,
            model_state,
            (accumulation.split(batch, parts), jax.random.split(key, parts)),
        )
        if self.rests:  # Their mean over the parts may be rounded.
            updated = {**updated, "backbone": model_state["backbone"]}
        return grads, updated, jax.tree.map(lambda scalar: scalar.mean(0), scalars)

    def _loss(
        self,
        params: types.Tree,
        model_state: types.Tree,
        batch: types.Batch,
        key: jax.Array,
        penalty: FeaturePenalty | None = None,
    ) -> tuple[jax.Array, tuple[types.Tree, types.Scalars]]:
        task = self.tasks[batch.task]
        batch = batch.replace(arrays=views.normalise(batch.arrays))
        features, body_state = self.backbone.apply(
            types.Variables(params["backbone"], model_state["backbone"]),
            batch.arrays["image"],
            train=not self.rests,
            output_stride=task.output_stride,
            batch_norm_rows=task.batch_norm_rows,
            paths=self._draw_paths(key, batch),
        )
        features = features.replace(second=batch.arrays.get("second"))
        head = types.Variables(params["head"], model_state["head"])
        loss, scalars, head_state = task.loss(key, head, features, batch)
        valid = batch.arrays["example_valid"].astype(loss.dtype)
        total = jnp.sum(loss * valid) / jnp.maximum(valid.sum(), 1.0)
        scalars = {"loss": total, **scalars}
        if penalty is not None:
            scalars["feature_memory"] = penalty(features, batch)
            total = total + scalars["feature_memory"]
        updated = {"backbone": body_state, "head": head_state}
        return total, (updated, scalars)

    def _draw_paths(self, key: jax.Array, batch: types.Batch) -> jax.Array | None:
        """How often each residual branch counts in this step; None: once."""
        if not self.drop_path:
            return None
        return stochastic_depth.draw(
            jax.random.fold_in(key, _PATHS),
            self.drop_path,
            self.backbone.branches,
            batch.arrays["example_valid"].shape[0],
        )

    def statistics(
        self, params: types.Tree, model_state: types.Tree, batch: types.Batch
    ) -> types.Tree:
        """What one update by this batch leaves of batch statistics of zeros.

        Arguments are as for `predict`; the result is `{"backbone": .., "head": ..}`.
        """
        zeros = jax.tree.map(jnp.zeros_like, _part(model_state, batch.task))
        key = jax.random.key(0)  # Of dropout, a draw that all runs and batches share.
        part = _part(params, batch.task)
        _, (updated, _) = self._loss(part, zeros, batch, key)
        return updated

    def predict(
        self, params: types.Tree, model_state: types.Tree, batch: types.Batch
    ) -> dict[str, jax.Array]:
        """Predictions of the batch's task in evaluation mode."""
        task = self.tasks[batch.task]
        image = views.normalise(batch.arrays)["image"]
        see = functools.partial(
            self.backbone.apply,
            types.Variables(params["backbone"], model_state["backbone"]),
            train=False,
            output_stride=task.output_stride,
        )
        second = batch.arrays.get("second")
        features = see(image)[0].replace(second=second)
        mirrored = None
        if task.flip_at_test:
            mirrored = see(image[:, :, ::-1])[0].replace(second=second)
        head = types.Variables(
            params["heads"][batch.task], model_state["heads"][batch.task]
        )
        return task.predict(head, features, mirrored)


def build_learner(
    config: schema.ExperimentConfig,
    row: schema.RunConfig,
    all_tasks: Mapping[str, types.Task],
) -> Learner:
    """A backbone with the heads of a run's tasks."""
    return Learner(
        backbone=models.build_backbone(config.backbone),
        tasks={name: all_tasks[name] for name in row.tasks},
        microbatches={name: config.tasks[name].microbatches for name in row.tasks},
        mixup={name: config.tasks[name].mixup for name in row.tasks},
    )


def hand_over(state: types.TrainState) -> types.Tree:
    """Backbone and heads of a state; see `types.Stage`. No memory is handed on."""
    return {
        part: {
            "params": state.params[part],
            "model_state": state.model_state[part],
        }
        for part in ("backbone", "heads")
    } | {"memory": {}}


def _part(tree: types.Tree, task: str) -> types.Tree:
    return {"backbone": tree["backbone"], "head": tree["heads"][task]}


def replace_part(tree: types.Tree, task: str, part: types.Tree) -> types.Tree:
    """`tree` with its backbone and the head of `task` replaced by those of `part`."""
    return {
        "backbone": part["backbone"],
        "heads": {**tree["heads"], task: part["head"]},
    }


def update(
    state: types.TrainState,
    task: str,
    optimizer: types.Optimizer,
    grads: types.Tree,
    model_state: types.Tree,
    rate: jax.Array,
    factors: Mapping[str, float] = _NO_FACTORS,
) -> tuple[types.TrainState, jax.Array]:
    """One optimiser step of the backbone and one head.

    Args:
      state: State before the step.
      task: Name of the task whose head is trained.
      optimizer: Direction and clipping.
      grads: Gradients, as `Learner.gradients` gives them.
      model_state: Batch statistics after the step, in the same shape of tree.
      rate: Learning rate, float32 [].
      factors: What it is multiplied by for modules of the backbone, where it is not 1.

    Returns:
      The new state, and the norm of the gradient before clipping, float32 [].
    """
    grads, norm = optimizer.clip(grads)
    params = _part(state.params, task)
    opt_state = _part(state.opt_state, task)
    rates: dict[str, types.Tree] = {"backbone": rate, "head": rate}
    if factors:
        modules = params["backbone"]
        rates["backbone"] = {name: rate * factors.get(name, 1.0) for name in modules}
    new_params, new_opt_state = {}, {}
    for part in ("backbone", "head"):  # Apart, so that resting heads stay untouched.
        new_params[part], new_opt_state[part] = optimizer.update(
            grads[part], opt_state[part], params[part], rates[part]
        )
    state = state.replace(
        step=state.step + 1,
        params=replace_part(state.params, task, new_params),
        model_state=replace_part(state.model_state, task, model_state),
        opt_state=replace_part(state.opt_state, task, new_opt_state),
    )
    return state, norm


def init_opt_state(optimizer: types.Optimizer, params: types.Tree) -> types.Tree:
    """A fresh optimiser state for the backbone and for each head apart."""
    return {
        "backbone": optimizer.direction.init(params["backbone"]),
        "heads": {
            name: optimizer.direction.init(head)
            for name, head in params["heads"].items()
        },
    }
