"""Heads on pooled features: one linear layer, and the projections of stage 1."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class Linear(nn.Module):
    """One dense layer, in float32.

    Attributes:
      outputs: Width of the result.
    """

    outputs: int

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        """Maps float [B, D] to logits, float32 [B, outputs]."""
        return nn.Dense(self.outputs, name="fc")(pooled.astype(jnp.float32))


class Projection(nn.Module):
    """Two dense layers with a ReLU between, then unit length.

    Attributes:
      embedding_size: Width of the embedding.

    Source: Chen et al. 2020, "Improved baselines with momentum contrastive learning".
    """

    embedding_size: int

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        """Maps float [B, D] to embeddings of unit length, float32 [B, embedding]."""
        hidden = nn.Dense(pooled.shape[-1], name="fc_0")(pooled.astype(jnp.float32))
        embedding = nn.Dense(self.embedding_size, name="fc_2")(nn.relu(hidden))
        return unit(embedding)


class Mlp(nn.Module):
    """Dense layers with LayerNorm and GELU between, in float32.

    No example of a batch sees another, as it would by BatchNorm.

    Attributes:
      hidden: Width between the layers.
      outputs: Width of the result.
      layers: Their number.
    """

    hidden: int
    outputs: int
    layers: int

    @nn.compact
    def __call__(self, pooled: jax.Array) -> jax.Array:
        """Maps float [B, D] to float32 [B, outputs]."""
        tokens = pooled.astype(jnp.float32)
        for index in range(self.layers - 1):
            tokens = nn.Dense(self.hidden, use_bias=False, name=f"fc_{index}")(tokens)
            tokens = nn.gelu(nn.LayerNorm(name=f"norm_{index}")(tokens))
        return nn.Dense(self.outputs, name=f"fc_{self.layers - 1}")(tokens)


def unit(embedding: jax.Array, *, axis: int = -1) -> jax.Array:
    """Vectors along an axis scaled to length 1; zeros stay: [...] to the same."""
    squares = jnp.sum(jnp.square(embedding), axis, keepdims=True)
    return embedding / jnp.sqrt(squares + 1e-12)
