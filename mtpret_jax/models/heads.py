"""Heads on pooled features: one linear layer, and the projection of MoCo v2."""

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
        norm = jnp.sqrt(jnp.sum(jnp.square(embedding), -1, keepdims=True) + 1e-12)
        return embedding / norm
