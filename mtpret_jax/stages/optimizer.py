"""Update direction and learning-rate curve, kept apart.

The direction is an Optax transformation without a learning rate; the curve is a pure
function of the step, so that stage 2 may restart it and a resume needs nothing saved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.config import rules


def is_kernel(parameter: jax.Array) -> bool:
    """Whether a parameter is a convolution's or dense layer's kernel."""
    return parameter.ndim > 1


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How a gradient becomes an update.

    Attributes:
      direction: Direction of descent; takes the learning rate as `rate`, since LARS has
        it before its momentum. Updates are subtracted.
      learning_rate: Step (int32 []) to rate (float32 []).
      clip_norm: Largest global norm of a gradient.
    """

    direction: optax.GradientTransformationExtraArgs
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
        rate: types.Tree,
    ) -> tuple[types.Tree, types.Tree]:
        """New parameters and optimiser state; see `types.Optimizer`."""
        updates, opt_state = self.direction.update(grads, opt_state, params, rate=rate)
        params = jax.tree.map(lambda param, update: param - update, params, updates)
        return params, opt_state


def _rated() -> optax.GradientTransformationExtraArgs:
    """Multiplies by the learning rate, or by each parameter's own."""

    def update(
        updates: types.Tree, state: types.Tree, params: Any = None, **given: Any
    ) -> tuple[types.Tree, types.Tree]:
        del params
        updates = jax.tree.map(
            lambda rate, part: jax.tree.map(lambda leaf: rate * leaf, part),
            given["rate"],
            updates,
        )
        return updates, state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _sgd(
    config: schema.OptimizerConfig, decay: float
) -> optax.GradientTransformationExtraArgs:
    # As in PyTorch: the decay joins the gradient before the momentum.
    return optax.chain(
        optax.add_decayed_weights(decay, mask=_kernels),
        optax.trace(decay=config.momentum),
        _rated(),
    )


def _adamw(
    config: schema.OptimizerConfig, decay: float
) -> optax.GradientTransformationExtraArgs:
    del config
    return optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(decay, mask=_kernels),
        _rated(),
    )


def _lars(
    config: schema.OptimizerConfig, decay: float
) -> optax.GradientTransformationExtraArgs:
    # The rate comes before the momentum, unlike that of sgd.
    return optax.chain(
        optax.add_decayed_weights(decay, mask=_kernels),
        optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), _kernels),
        _rated(),
        optax.trace(decay=config.momentum),
    )


def _lamb(
    config: schema.OptimizerConfig, decay: float
) -> optax.GradientTransformationExtraArgs:
    del config
    return optax.chain(
        optax.scale_by_adam(eps=1e-6),
        optax.add_decayed_weights(decay, mask=_kernels),
        optax.scale_by_trust_ratio(),
        _rated(),
    )


OPTIMIZERS = {"sgd": _sgd, "adamw": _adamw, "lars": _lars, "lamb": _lamb}
# Power of the batch with which a learning rate grows.
_GROWTH = {"sgd": 1.0, "adamw": 0.5, "lars": 1.0, "lamb": 0.5}


def batch_scale(config: schema.OptimizerConfig, batch_size: int) -> float:
    """What a batch makes of the learning rate: a factor, 1 where no rule is asked for.

    Args:
      config: Options whose `learning_rate` is for batches of `learning_rate_batch`.
      batch_size: Examples of the global batch.

    Source: in proportion for sgd and lars, Goyal et al. 2017; by the square root for
    lamb, You et al. 2020, and adamw, Malladi et al. 2022.
    """
    rules.require_known(config.name, OPTIMIZERS, "optimiser")
    if not config.learning_rate_batch:
        return 1.0
    return (batch_size / config.learning_rate_batch) ** _GROWTH[config.name]


def rate_scales(
    config: schema.ExperimentConfig, row: schema.RunConfig
) -> dict[str, float]:
    """What a run's learning rates are multiplied by, for each task of its batches."""
    return {
        name: getattr(part, "learning_rate_scale", 1.0)
        * batch_scale(row.optimizer, part.batch_size)
        for name, part in config.batches_of(row).items()
    }


def layer_factors(layers: Sequence[Sequence[str]], decay: float) -> dict[str, float]:
    """What the learning rate of each module is multiplied by; of others it is 1.

    Args:
      layers: See `types.Backbone`.
      decay: Factor from each layer to the one before it; the head's is 1.

    Source: Clark et al. 2020, "ELECTRA"; Bao et al. 2021, "BEiT".
    """
    return {
        module: decay ** (len(layers) - number)
        for number, modules in enumerate(layers)
        for module in modules
    }


def _kernels(params: types.Tree) -> types.Tree:
    return jax.tree.map(is_kernel, params)


def build_optimizer(
    config: schema.OptimizerConfig,
    steps: int,
    *,
    decay: bool = True,
    scale: float = 1.0,
) -> Optimizer:
    """Builds the direction, and a cosine curve of `steps` steps after a warm-up.

    Args:
      config: The run's options.
      steps: Length of the curve; afterwards the rate stays at its end.
      decay: Whether kernels decay; stage 2 has anchors instead.
      scale: Factor on the whole curve.

    Raises:
      ValueError: If `OPTIMIZERS` has no such row.

    Source: PyTorch's SGD and AdamW, Optax's LARS and LAMB. Differs: only kernels decay,
    not biases and BatchNorm, which PyTorch's recipes (MoCo's too) decay as well; nor do
    these have a trust ratio in LARS, while in LAMB they do.
    """
    rules.require_known(config.name, OPTIMIZERS, "optimiser")
    peak = scale * config.learning_rate
    curve: Any = optax.warmup_cosine_decay_schedule(
        init_value=0.1 * peak if config.warmup_steps else peak,
        peak_value=peak,
        warmup_steps=config.warmup_steps,
        decay_steps=steps,
        end_value=scale * config.final_learning_rate,
    )
    weight_decay = config.weight_decay if decay else 0.0
    direction = OPTIMIZERS[config.name](config, weight_decay)
    return Optimizer(direction, curve, config.clip_norm)
