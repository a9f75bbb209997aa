"""Classification: a linear layer on pooled features, for exclusive or many labels."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import types
from mtpret_jax.metrics import classification as metrics
from mtpret_jax.models import heads
from mtpret_jax.ops import losses


@dataclasses.dataclass(frozen=True)
class ClassificationTask:
    """A linear head as `types.Task`.

    Attributes:
      name: The task's name.
      class_names: One for each label, L of them.
      exclusive: Whether the classes exclude each other.
      smoothing: See `losses.classification`.
      output_stride: See `types.Task`; any stride will do.
      batch_norm_rows: See `types.Task`.
      flip_at_test: See `types.Task`.
    """

    name: str
    class_names: tuple[str, ...]
    exclusive: bool
    smoothing: float = 0.0
    output_stride: int = 0
    batch_norm_rows: int = 0
    flip_at_test: bool = False

    @property
    def _head(self) -> heads.Linear:
        return heads.Linear(len(self.class_names))

    def _logits(
        self, variables: types.Variables, features: types.Features
    ) -> jax.Array:
        logits: Any = self._head.apply({"params": variables.params}, features.pooled)
        return logits

    def init(self, key: jax.Array, features: types.Features) -> types.Variables:
        """Draws the head's parameters."""
        return types.Variables(self._head.init(key, features.pooled)["params"], {})

    def loss(
        self,
        key: jax.Array,
        variables: types.Variables,
        features: types.Features,
        batch: types.Batch,
    ) -> tuple[jax.Array, types.Scalars, types.Tree]:
        """Loss of each example, no further parts, no batch statistics."""
        del key
        logits = self._logits(variables, features)
        loss = losses.classification(
            logits,
            batch.arrays["label"],
            batch.arrays["label_known"],
            exclusive=self.exclusive,
            smoothing=self.smoothing,
            weight=batch.arrays.get("label_weight"),
        )
        return loss, {}, {}

    def predict(
        self,
        variables: types.Variables,
        features: types.Features,
        mirrored: types.Features | None = None,
    ) -> dict[str, jax.Array]:
        """`probability`, float32 [B, L], and `attention`, float32 [B, h, w, L].

        Attention says how much each cell of the last level speaks for each class: its
        part of the logit where that is above zero.

        Source:
          Grad-CAM (Selvaraju et al. 2017), times the number of cells. With one linear
          layer on pooled features it needs no gradient (Zhou et al. 2016).
        """
        if mirrored is not None:
            found, other = (self.predict(variables, f) for f in (features, mirrored))
            other["attention"] = other["attention"][:, :, ::-1]
            return {name: (found[name] + other[name]) / 2 for name in found}
        logits = self._logits(variables, features)
        squash = jax.nn.softmax if self.exclusive else jax.nn.sigmoid
        cells = features.levels[-1].astype(jnp.float32)
        attention = jax.nn.relu(cells @ variables.params["fc"]["kernel"])
        return {"probability": squash(logits), "attention": attention}

    def metric(self) -> types.Metric:
        """AUROC and its companions."""
        return metrics.ClassificationMetric(self.class_names, self.exclusive)
