"""BatchNorm whose statistics may be taken over fixed groups of the global batch.

Under `jit` a global batch on a mesh gives statistics over all devices (sync-BN). Groups
of R rows have their own each, whatever the number of devices: what shuffling BatchNorm
needs in momentum contrast. Where a device holds whole groups, none waits for another.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Normalises over all axes but the last.

    Attributes:
      rows: Consecutive examples that have statistics of their own; 0, or as many as the
        batch has or more: the whole batch, as usual.
      momentum: Share of the old running value kept at each update, [0, 1).
      epsilon: Added to the variance.
      dtype: The result's; statistics are computed in float32.

    The running variance is unbiased, n / (n - 1).
    Source: Ioffe and Szegedy 2015; PyTorch's storage of the running variance. Differs:
    with groups, running statistics are those of the whole batch (PyTorch on several
    devices keeps those of the first one's part).
    """

    rows: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, ..., C] to the same shape."""
        channels = inputs.shape[-1]
        broadcast = (1,) * (inputs.ndim - 1) + (channels,)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if not train:
            factor = scale * jax.lax.rsqrt(var.value + self.epsilon)
            shift = bias - mean.value * factor
            return (
                inputs * factor.reshape(broadcast) + shift.reshape(broadcast)
            ).astype(self.dtype)
        rows = min(self.rows or inputs.shape[0], inputs.shape[0])
        if inputs.shape[0] % rows:
            raise ValueError(
                f"BatchNorm: batch of {inputs.shape[0]} does not divide into groups "
                f"of {rows} rows."
            )
        wide = inputs.astype(jnp.float32)
        group_mean = _mean(wide, rows)  # [G, C]
        group_square = _mean(jnp.square(wide), rows)
        group_var = jnp.maximum(group_square - jnp.square(group_mean), 0.0)
        if not self.is_initializing():
            count = inputs.size // channels
            pooled_mean = group_mean.mean(0)
            pooled_var = group_square.mean(0) - jnp.square(pooled_mean)
            pooled_var = jnp.maximum(pooled_var, 0.0) * (count / max(count - 1, 1))
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * pooled_mean
            var.value = keep * var.value + (1 - keep) * pooled_var
        factor = scale[None] * jax.lax.rsqrt(group_var + self.epsilon)
        shift = bias[None] - group_mean * factor
        result = wide * _spread(factor, wide) + _spread(shift, wide)
        return result.astype(self.dtype)


def _mean(values: jax.Array, rows: int) -> jax.Array:
    """Of each group of rows: [B, ..., C] to [G, C].

    Of each example first, so that no large array is divided: a TPU, which lays eight
    examples beside each other, would have to copy it.
    """
    *examples, channels = values.shape
    if rows == examples[0]:
        return values.mean(tuple(range(len(examples))))[None]
    each = values.mean(tuple(range(1, len(examples))))
    return each.reshape(-1, rows, channels).mean(1)


def _spread(values: jax.Array, like: jax.Array) -> jax.Array:
    """[G, C] to what can be multiplied by [B, ..., C]."""
    groups, channels = values.shape
    if groups > 1:
        values = jnp.repeat(values, like.shape[0] // groups, 0)
    return values.reshape(-1, *(1,) * (like.ndim - 2), channels)
