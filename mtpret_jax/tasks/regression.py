"""Regression: a number from a linear layer on features and what else is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import types
from mtpret_jax.metrics import regression as metrics
from mtpret_jax.models import heads


@dataclasses.dataclass(frozen=True)
class RegressionTask:
    """A linear head of one output as `types.Task`.

    The head gives deviations from the mean of the training split, and is wrong by their
    absolute difference (L1): what the metric measures, and a misread age counts once,
    not squared.

    Attributes:
      name: The task's name.
      class_names: Name of the value.
      scale: What a number is worth, and the classes of the second input.
      output_stride: See `types.Task`; any stride will do.
      batch_norm_rows: See `types.Task`.
      flip_at_test: See `types.Task`.

    Source:
      Halabi et al. 2019, "The RSNA pediatric bone age machine learning challenge": sex
      joined to the features of the image, as a one-hot vector here.
    """

    name: str
    class_names: tuple[str]
    scale: metrics.Scale
    output_stride: int = 0
    batch_norm_rows: int = 0
    flip_at_test: bool = False

    @property
    def _head(self) -> heads.Linear:
        return heads.Linear(1)

    def _inputs(self, features: types.Features) -> jax.Array:
        """What the head sees, float32 [B, D + classes of the second input]."""
        pooled = features.pooled.astype(jnp.float32)
        if not self.scale.second:
            return pooled
        second = features.second
        if second is None:  # Of nobody.
            second = jnp.full(len(pooled), -1)
        told = jax.nn.one_hot(second, len(self.scale.second))  # Of -1, zeros.
        return jnp.concatenate([pooled, told], axis=-1)

    def _deviations(
        self, variables: types.Variables, features: types.Features
    ) -> jax.Array:
        found: Any = self._head.apply(
            {"params": variables.params}, self._inputs(features)
        )
        return found[:, 0]

    def init(self, key: jax.Array, features: types.Features) -> types.Variables:
        """Draws the head's parameters."""
        drawn = self._head.init(key, self._inputs(features))
        return types.Variables(drawn["params"], {})

    def loss(
        self,
        key: jax.Array,
        variables: types.Variables,
        features: types.Features,
        batch: types.Batch,
    ) -> tuple[jax.Array, types.Scalars, types.Tree]:
        """Loss of each example, no further parts, no batch statistics."""
        del key
        wanted = (batch.arrays["value"] - self.scale.mean) / self.scale.deviation
        return jnp.abs(self._deviations(variables, features) - wanted), {}, {}

    def predict(
        self,
        variables: types.Variables,
        features: types.Features,
        mirrored: types.Features | None = None,
    ) -> dict[str, jax.Array]:
        """`value`, in its unit, float32 [B]."""
        found = self._deviations(variables, features)
        if mirrored is not None:
            found = (found + self._deviations(variables, mirrored)) / 2
        return {"value": found * self.scale.deviation + self.scale.mean}

    def metric(self) -> types.Metric:
        """Mean absolute error and its companions."""
        return metrics.RegressionMetric(self.class_names, self.scale.unit)
