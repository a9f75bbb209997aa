"""BatchNorm whose statistics may be taken over fixed groups of the global batch.

Under `jit` a global batch on a mesh gives statistics over all devices (sync-BN). With
G groups each part of the batch has its own, whatever the number of devices: what
shuffling BatchNorm needs in momentum contrast.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Normalises over all axes but the last.

    Attributes:
      groups: Parts of the batch that have statistics of their own; 1 is the usual.
      momentum: Share of the old running value kept at each update, [0, 1).
      epsilon: Added to the variance.
      dtype: Of the result; statistics are computed in float32.

    The running variance is unbiased, n / (n - 1).
    Source: Ioffe and Szegedy 2015; PyTorch's storage of the running variance. Differs:
    with groups, running statistics are those of the whole batch (PyTorch on several
    devices keeps those of the first one's part).
    """

    groups: int = 1
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32

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
        groups = self.groups
        if inputs.shape[0] % groups:
            raise ValueError(
                f"BatchNorm: batch of {inputs.shape[0]} does not divide into "
                f"{groups} groups."
            )
        grouped = inputs.astype(jnp.float32).reshape(
            groups, inputs.shape[0] // groups, *inputs.shape[1:]
        )
        axes = tuple(range(1, grouped.ndim - 1))
        group_mean = grouped.mean(axes)  # [G, C]
        group_square = jnp.square(grouped).mean(axes)
        group_var = jnp.maximum(group_square - jnp.square(group_mean), 0.0)
        if not self.is_initializing():
            count = inputs.size // channels
            pooled_mean = group_mean.mean(0)
            pooled_var = group_square.mean(0) - jnp.square(pooled_mean)
            pooled_var = jnp.maximum(pooled_var, 0.0) * (count / max(count - 1, 1))
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * pooled_mean
            var.value = keep * var.value + (1 - keep) * pooled_var
        spread = (groups,) + (1,) * (grouped.ndim - 2) + (channels,)
        factor = scale.reshape(1, channels) * jax.lax.rsqrt(group_var + self.epsilon)
        shift = bias.reshape(1, channels) - group_mean * factor
        result = grouped * factor.reshape(spread) + shift.reshape(spread)
        return result.reshape(inputs.shape).astype(self.dtype)
