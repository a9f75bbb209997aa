"""Ordered classes: a linear layer asks at each grade whether it is higher still."""

from __future__ import annotations

import dataclasses

import jax

from mtpret_jax import types
from mtpret_jax.metrics import ordinal as metrics
from mtpret_jax.models import heads
from mtpret_jax.ops import losses
from mtpret_jax.tasks import classification


@dataclasses.dataclass(frozen=True)
class OrdinalTask(classification.ClassificationTask):
    """A linear head with one question fewer than grades, as `types.Task`.

    What is told of labels, smoothing, weights and predictions is that of classes that
    exclude each other; their order is that of the grades, the lowest first.
    """

    exclusive: bool = True

    @property
    def _head(self) -> heads.Linear:
        return heads.Linear(len(self.class_names) - 1)

    def _logits(
        self, variables: types.Variables, features: types.Features
    ) -> jax.Array:
        """Log-probabilities, which a softmax leaves as they are."""
        return losses.grades(super()._logits(variables, features))

    def predict(
        self,
        variables: types.Variables,
        features: types.Features,
        mirrored: types.Features | None = None,
    ) -> dict[str, jax.Array]:
        """`probability` of each grade, float32 [B, L]."""
        probability = jax.nn.softmax(self._logits(variables, features))
        if mirrored is not None:
            other = jax.nn.softmax(self._logits(variables, mirrored))
            probability = (probability + other) / 2
        return {"probability": probability}

    def metric(self) -> types.Metric:
        """Quadratic kappa and its companions."""
        return metrics.OrdinalMetric(self.class_names)
