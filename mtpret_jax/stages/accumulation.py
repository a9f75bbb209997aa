"""Gradients of a batch whose parts are done in turn, to save memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import types

# Parameters, batch statistics and the arguments of a part to the gradient, and to new
# batch statistics with whatever else is told of the part.
Gradient = Callable[..., tuple[types.Tree, tuple[types.Tree, Any]]]


def split(tree: types.Tree, parts: int, *, rows: int = 1) -> types.Tree:
    """Cuts arrays [B, ...] into micro-batches [parts, B / parts, ...].

    Each takes every `parts`-th block of `rows` examples, so that every device has its
    share of it where it has a whole number of blocks in each.
    """

    def cut(array: jax.Array) -> jax.Array:
        blocks = array.reshape(-1, parts, rows, *array.shape[1:])
        return jnp.moveaxis(blocks, 1, 0).reshape(parts, -1, *array.shape[1:])

    return jax.tree.map(cut, tree)


def accumulate(
    gradient: Gradient,
    params: types.Tree,
    model_state: types.Tree,
    arguments: tuple[Any, ...],
) -> tuple[types.Tree, types.Tree, Any]:
    """Takes the mean over micro-batches of gradients and of new batch statistics.

    Args:
      gradient: See `Gradient`.
      params: Parameters.
      model_state: Batch statistics before the step, of which each part's are made.
      arguments: What `gradient` takes besides, each [parts, ...].

    Returns:
      Gradients, batch statistics, and what else was told, each [parts, ...].
    """

    def add(total: types.Tree, part: tuple[Any, ...]) -> tuple[types.Tree, Any]:
        grads, (updated, told) = gradient(params, model_state, *part)
        return jax.tree.map(jnp.add, total, (grads, updated)), told

    zeros = jax.tree.map(jnp.zeros_like, (params, model_state))
    total, told = jax.lax.scan(add, zeros, arguments)
    parts = jax.tree.leaves(arguments)[0].shape[0]
    grads, updated = jax.tree.map(lambda leaf: leaf / parts, total)
    return grads, updated, told
