"""Landmarks: heat maps on a feature pyramid, points read off them, radial error."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import landmarks as metrics
from mtpret_jax.models import heat_maps as models
from mtpret_jax.ops import heat_maps


@dataclasses.dataclass(frozen=True)
class LandmarksTask:
    """A head of heat maps as `types.Task`.

    Attributes:
      name: The task's name.
      class_names: What each of the P landmarks is.
      config: Sizes of the head and of its loss.
      dtype: What the head computes in; points and losses are float32.
      batch_norm_rows: See `types.Task`.
    """

    name: str
    class_names: tuple[str, ...]
    config: schema.LandmarksConfig
    dtype: jax.typing.DTypeLike = jnp.float32
    batch_norm_rows: int = 0

    @property
    def output_stride(self) -> int:
        """The pyramid starts from an undilated backbone."""
        return 0

    @property
    def flip_at_test(self) -> bool:
        """Few sets tell which landmark is the mirror image of which."""
        return False

    @property
    def _head(self) -> models.HeatMaps:
        return models.HeatMaps(
            points=len(self.class_names),
            channels=self.config.channels,
            dtype=self.dtype,
            batch_norm_rows=self.batch_norm_rows,
        )

    def init(self, key: jax.Array, features: types.Features) -> types.Variables:
        """Draws the head's parameters."""
        variables = self._head.init(key, features.levels, train=False)
        return types.Variables(variables["params"], variables["batch_stats"])

    def loss(
        self,
        key: jax.Array,
        variables: types.Variables,
        features: types.Features,
        batch: types.Batch,
    ) -> tuple[jax.Array, types.Scalars, types.Tree]:
        """Loss of each example, no further parts, the head's batch statistics."""
        del key
        logits, updated = self._head.apply(
            {"params": variables.params, "batch_stats": variables.model_state},
            features.levels,
            train=True,
            mutable=["batch_stats"],
        )
        found = heat_maps.loss(
            logits,
            batch.arrays["landmark"],
            batch.arrays["landmark_known"].astype(bool),
            deviation=self.config.deviation,
            distance_weight=self.config.distance_weight,
        )
        return found, {}, updated["batch_stats"]

    def predict(
        self,
        variables: types.Variables,
        features: types.Features,
        mirrored: types.Features | None = None,
    ) -> dict[str, jax.Array]:
        """`landmark`, float32 [B, P, 2], and `spread`, float32 [B, P].

        y, x as fractions of the square input, and the standard deviation of each heat
        map about its point, as a fraction of the side.
        """
        del mirrored
        logits: Any = self._head.apply(
            {"params": variables.params, "batch_stats": variables.model_state},
            features.levels,
            train=False,
        )
        point, spread = heat_maps.read(logits)
        return {"landmark": point, "spread": spread}

    def metric(self) -> types.Metric:
        """Radial error."""
        return metrics.LandmarksMetric(self.class_names)
