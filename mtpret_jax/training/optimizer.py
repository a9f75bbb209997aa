"""Update direction and learning-rate curve, kept apart.

The direction is an Optax transformation without a learning rate; the curve is a pure
function of the step, so that stage 2 may restart it and a resume needs nothing saved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtpret_jax import config as schema
from mtpret_jax import config_checks, types


def is_kernel(parameter: jax.Array) -> bool:
    """Whether a parameter is a convolution's or dense layer's kernel."""
    return parameter.ndim > 1


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How a gradient becomes an update.

    Attributes:
      direction: Of descent, before the learning rate; updates are subtracted.
      learning_rate: Step (int32 []) to rate (float32 []).
      clip_norm: Largest global norm of a gradient.
    """

    direction: optax.GradientTransformation
    learning_rate: Callable[[jax.Array], jax.Array]
    clip_norm: float

    def clip(self, grads: types.Tree) -> tuple[types.Tree, jax.Array]:
        """Scales gradients to at most `clip_norm`; also returns their norm before."""
        norm = optax.tree.norm(grads)
        factor = jnp.minimum(1.0, self.clip_norm / jnp.maximum(norm, 1e-12))
        return jax.tree.map(lambda grad: grad * factor, grads), norm

    def update(
        self,
        grads: types.Tree,
        opt_state: types.Tree,
        params: types.Tree,
        rate: jax.Array,
    ) -> tuple[types.Tree, types.Tree]:
        """Returns new parameters and optimiser state."""
        updates, opt_state = self.direction.update(grads, opt_state, params)
        params = jax.tree.map(
            lambda param, update: param - rate * update, params, updates
        )
        return params, opt_state


def _sgd(config: schema.OptimizerConfig, decay: float) -> optax.GradientTransformation:
    # As in PyTorch: the decay joins the gradient before the momentum.
    return optax.chain(
        optax.add_decayed_weights(decay, mask=_kernels),
        optax.trace(decay=config.momentum),
    )


def _adamw(
    config: schema.OptimizerConfig, decay: float
) -> optax.GradientTransformation:
    del config
    return optax.chain(
        optax.scale_by_adam(), optax.add_decayed_weights(decay, mask=_kernels)
    )


OPTIMIZERS = {"sgd": _sgd, "adamw": _adamw}


def _kernels(params: types.Tree) -> types.Tree:
    return jax.tree.map(is_kernel, params)


def build_optimizer(
    config: schema.OptimizerConfig, steps: int, *, decay: bool = True
) -> Optimizer:
    """Builds the direction, and a cosine curve of `steps` steps after a warm-up.

    Args:
      config: The run's options.
      steps: Length of the curve; afterwards the rate stays at its end.
      decay: Whether kernels decay; stage 2 has anchors instead.

    Raises:
      ValueError: If `OPTIMIZERS` has no such row.

    Source: PyTorch's SGD and AdamW. Differs: only kernels decay, not biases and
    BatchNorm, which PyTorch's recipes (MoCo's too) decay as well.
    """
    config_checks.require_known(config.name, OPTIMIZERS, "optimiser")
    peak = config.learning_rate
    curve: Any = optax.warmup_cosine_decay_schedule(
        init_value=0.1 * peak if config.warmup_steps else peak,
        peak_value=peak,
        warmup_steps=config.warmup_steps,
        decay_steps=steps,
        end_value=config.final_learning_rate,
    )
    weight_decay = config.weight_decay if decay else 0.0
    direction = OPTIMIZERS[config.name](config, weight_decay)
    return Optimizer(direction, curve, config.clip_norm)
