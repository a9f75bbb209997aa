"""Segmentation: a DeepLabV3 head, cross-entropy of known pixels, Dice and IoU."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import segmentation as metrics
from mtpret_jax.models import deeplab
from mtpret_jax.ops import losses


@dataclasses.dataclass(frozen=True)
class SegmentationTask:
    """A DeepLabV3 head as `types.Task`.

    Attributes:
      name: Of the task.
      class_names: Of the mask, background first.
      image_size: Side of the square input, pixels.
      config: Sizes of the head.
      dtype: Of the head's computation.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: int
    config: schema.SegmentationConfig
    dtype: jnp.dtype = jnp.float32

    @property
    def output_stride(self) -> int:
        """The backbone stride that the config asks for, pixels."""
        return self.config.output_stride

    @property
    def _head(self) -> deeplab.DeepLabV3:
        return deeplab.DeepLabV3(
            classes=len(self.class_names),
            channels=self.config.channels,
            rates=self.config.rates,
            dropout=self.config.dropout,
            image_size=self.image_size,
            dtype=self.dtype,
        )

    def init(self, key: jax.Array, features: types.Features) -> types.Variables:
        """Draws the head's parameters."""
        variables = self._head.init(key, features.levels[-1], train=False)
        return types.Variables(variables["params"], variables["batch_stats"])

    def loss(
        self,
        key: jax.Array,
        variables: types.Variables,
        features: types.Features,
        batch: types.Batch,
    ) -> tuple[jax.Array, types.Scalars, types.Tree]:
        """Loss of each example, no further parts, the head's batch statistics."""
        logits, updated = self._head.apply(
            {"params": variables.params, "batch_stats": variables.model_state},
            features.levels[-1],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        loss = losses.segmentation(
            logits,
            batch.arrays["segmentation"],
            batch.arrays["pixel_known"],
            dice_weight=self.config.dice_weight,
        )
        return loss, {}, updated["batch_stats"]

    def predict(
        self, variables: types.Variables, features: types.Features
    ) -> dict[str, jax.Array]:
        """`segmentation`, the likeliest class of each pixel, int32 [B, H, W]."""
        logits: Any = self._head.apply(
            {"params": variables.params, "batch_stats": variables.model_state},
            features.levels[-1],
            train=False,
        )
        return {"segmentation": jnp.argmax(logits, -1).astype(jnp.int32)}

    def metric(self) -> types.Metric:
        """Dice and IoU."""
        return metrics.SegmentationMetric(self.class_names)
