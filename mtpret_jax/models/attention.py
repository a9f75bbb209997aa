"""Attention of tokens to tokens, by the platform's fused kernel where it has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

_INIT = nn.initializers.truncated_normal(0.02)
_FUSED_HEAD = 128  # channels of a head that cuDNN's kernel takes on every GPU it knows


class Attention(nn.Module):
    """Self-attention with a query, key and value of each head, and a projection.

    Attributes:
      heads: Their number; it divides the tokens' channels.
      key_bias: Whether keys have a bias; queries and values always have one.
      rotate: Turns queries and keys by their place; None: not at all.
      dtype: What layers compute in; the softmax is float32.

    Source: Vaswani et al. 2017; Dosovitskiy et al. 2021.
    """

    heads: int
    key_bias: bool
    rotate: Callable[[jax.Array], jax.Array] | None
    dtype: jax.typing.DTypeLike

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Maps tokens [B, N, D] to the same shape."""
        batch, count, width = tokens.shape

        def project(name: str, bias: bool = True) -> jax.Array:
            dense = nn.Dense(
                width, use_bias=bias, kernel_init=_INIT, dtype=self.dtype, name=name
            )
            return dense(tokens).reshape(batch, count, self.heads, -1)

        query, key = project("query"), project("key", self.key_bias)
        if self.rotate is not None:
            query, key = self.rotate(query), self.rotate(key)
        mixed = attend(query, key, project("value"))
        mixed = mixed.reshape(batch, count, width)
        return nn.Dense(width, kernel_init=_INIT, dtype=self.dtype, name="proj")(mixed)


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Values averaged by the softmax of queries times keys.

    `jax.nn.dot_product_attention` never chooses cuDNN by itself, and refuses it where
    the type or the device is not right; so it is asked for on NVIDIA GPUs alone, in
    half precision. Elsewhere XLA makes the whole matrix of weights.

    Args:
      queries: float [B, N, heads, size].
      keys: The same shape and type.
      values: The same shape and type.

    Returns:
      The same shape and type.
    """
    half = queries.dtype in (jnp.bfloat16, jnp.float16)
    small = queries.shape[-1] % 8 == 0 and queries.shape[-1] <= _FUSED_HEAD
    if not (half and small and _has_cudnn()):
        return jax.nn.dot_product_attention(queries, keys, values, implementation="xla")
    return jax.lax.platform_dependent(
        queries,
        keys,
        values,
        cuda=lambda *heads: attend_even(*heads, implementation="cudnn"),
        default=lambda *heads: jax.nn.dot_product_attention(
            *heads, implementation="xla"
        ),
    )


def attend_even(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    implementation: Literal["xla", "cudnn"],
) -> jax.Array:
    """`attend` for a kernel that takes even numbers of tokens alone.

    JAX refuses to differentiate cuDNN's kernel for odd ones, although there is no bias,
    and a class token makes most ViTs' number odd. One token is added that no other
    attends to.
    """
    batch, count = queries.shape[:2]
    if count % 2 == 0:
        return jax.nn.dot_product_attention(
            queries, keys, values, implementation=implementation
        )
    padded = [
        jnp.pad(heads, ((0, 0), (0, 1), (0, 0), (0, 0)))
        for heads in (queries, keys, values)
    ]
    lengths = jnp.full((batch,), count, jnp.int32)
    mixed = jax.nn.dot_product_attention(
        *padded,
        query_seq_lengths=lengths,
        key_value_seq_lengths=lengths,
        implementation=implementation,
    )
    return mixed[:, :count]


def _has_cudnn() -> bool:
    """Whether the process runs on NVIDIA GPUs of the Ampere generation or later."""
    device = jax.local_devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return False
    return float(device.compute_capability) >= 8.0
