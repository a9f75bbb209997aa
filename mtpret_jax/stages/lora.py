"""Low-rank adapters, which train in place of a backbone's weights and join them.

A step computes with the sums, so that what is trained is what is handed over: weights
of the backbone as any other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from mtpret_jax import types

_ADAPTED = ("query", "value")  # dense layers of attention, as in the paper
_Kernels = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Adapters:
    """Adapters of the queries and values of every attention.

    Attributes:
      rank: Rank of what is added to a kernel, a product of two matrices.
      alpha: The product counts `alpha / rank` times.

    Source: Hu et al. 2022, "LoRA: Low-rank adaptation of large language models"; draws
    as peft's. Differs: no dropout; biases rest.
    """

    rank: int
    alpha: float

    def kernels(self, params: types.Tree) -> dict[str, jax.Array]:
        """The kernels of a backbone that have adapters, by path; may be none."""
        flat: dict[Any, Any] = traverse_util.flatten_dict(params)
        ends = [(name, "kernel") for name in _ADAPTED]
        return {"/".join(path): x for path, x in flat.items() if path[-2:] in ends}

    def init(self, key: jax.Array, kernels: _Kernels) -> types.Tree:
        """Draws adapters whose products are 0, by the paths of the kernels."""
        keys = jax.random.split(key, len(kernels))
        return {
            path: {
                "down": self._draw(each, kernel.shape[0]),
                "up": jnp.zeros((self.rank, kernel.shape[1])),
            }
            for each, (path, kernel) in zip(keys, kernels.items(), strict=True)
        }

    def _draw(self, key: jax.Array, inputs: int) -> jax.Array:
        bound = 1 / math.sqrt(inputs)
        shape = (inputs, self.rank)
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    def add(
        self, params: types.Tree, kernels: _Kernels, adapters: types.Tree
    ) -> types.Tree:
        """A backbone's parameters with the sums of kernels and products in them."""
        flat: dict[Any, Any] = traverse_util.flatten_dict(params)
        for path, pair in adapters.items():
            # Small, and added to weights: not rounded to what devices multiply in.
            product = jnp.matmul(pair["down"], pair["up"], precision="highest")
            total = kernels[path] + self.alpha / self.rank * product
            flat[tuple(path.split("/"))] = total
        return traverse_util.unflatten_dict(flat)
