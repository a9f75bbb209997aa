"""Segmentation: a head's masks, cross-entropy of known pixels, Dice and IoU."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import segmentation as metrics
from mtpret_jax.models import deeplab, unetplusplus
from mtpret_jax.ops import losses

Head = deeplab.DeepLabV3 | unetplusplus.UNetPlusPlus


@dataclasses.dataclass(frozen=True)
class SegmentationTask:
    """A head that draws masks, as `types.Task`.

    Attributes:
      name: The task's name.
      class_names: Classes of the mask, background first.
      image_size: Side of the square input, pixels.
      config: The head and its sizes.
      dtype: What the head computes in.
      batch_norm_rows: See `types.Task`.
      flip_at_test: See `types.Task`.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: int
    config: schema.SegmentationConfig
    dtype: jax.typing.DTypeLike = jnp.float32
    batch_norm_rows: int = 0
    flip_at_test: bool = False

    @property
    def output_stride(self) -> int:
        """The backbone stride that the head needs, pixels; 0: the backbone's own."""
        return 0 if self.config.head == "unetplusplus" else self.config.output_stride

    def grid_stride(self, output_strides: tuple[int, ...]) -> int:
        """Side of a cell of the logits before they are enlarged, pixels.

        Args:
          output_strides: Those of the backbone; see `types.Backbone`.
        """
        if self.config.head == "unetplusplus":
            return 2
        wanted = self.config.output_stride
        return wanted if wanted in output_strides else output_strides[0]

    @property
    def _head(self) -> Head:
        return HEADS[self.config.head](self)

    def init(self, key: jax.Array, features: types.Features) -> types.Variables:
        """Draws the head's parameters."""
        variables = self._head.init(key, features, train=False)
        return types.Variables(variables["params"], variables["batch_stats"])

    def loss(
        self,
        key: jax.Array,
        variables: types.Variables,
        features: types.Features,
        batch: types.Batch,
    ) -> tuple[jax.Array, types.Scalars, types.Tree]:
        """Loss of each example, no further parts, the head's batch statistics."""
        results, updated = self._head.apply(
            {"params": variables.params, "batch_stats": variables.model_state},
            features,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        total = jnp.zeros(len(features.pooled))
        for weight, logits in zip(self._head.loss_weights, results, strict=True):
            total += weight * losses.segmentation(
                logits,
                batch.arrays["segmentation"],
                batch.arrays["pixel_known"],
                dice_weight=self.config.dice_weight,
            )
        return total, {}, updated["batch_stats"]

    def predict(
        self,
        variables: types.Variables,
        features: types.Features,
        mirrored: types.Features | None = None,
    ) -> dict[str, jax.Array]:
        """`segmentation`, the likeliest class of each pixel, int32 [B, H, W]."""
        chances = self._chances(variables, features)
        if mirrored is not None:
            chances += self._chances(variables, mirrored)[:, :, ::-1]
        return {"segmentation": jnp.argmax(chances, -1).astype(jnp.int32)}

    def _chances(
        self, variables: types.Variables, features: types.Features
    ) -> jax.Array:
        """In proportion to the probability of each class, [B, H, W, S]."""
        results: Any = self._head.apply(
            {"params": variables.params, "batch_stats": variables.model_state},
            features,
            train=False,
        )
        weights = self._head.prediction_weights
        chances: Any = sum(
            weight * jax.nn.softmax(logits)
            for weight, logits in zip(weights, results, strict=True)
            if weight
        )
        return chances

    def metric(self) -> types.Metric:
        """Dice and IoU."""
        return metrics.SegmentationMetric(self.class_names)


def _deeplab(task: SegmentationTask) -> deeplab.DeepLabV3:
    return deeplab.DeepLabV3(
        classes=len(task.class_names),
        channels=task.config.channels,
        rates=task.config.rates,
        dropout=task.config.dropout,
        auxiliary_weight=task.config.auxiliary_weight,
        image_size=task.image_size,
        dtype=task.dtype,
        batch_norm_rows=task.batch_norm_rows,
    )


def _unetplusplus(task: SegmentationTask) -> unetplusplus.UNetPlusPlus:
    return unetplusplus.UNetPlusPlus(
        classes=len(task.class_names),
        channels=task.config.node_channels,
        deep_supervision=task.config.deep_supervision,
        image_size=task.image_size,
        dtype=task.dtype,
        batch_norm_rows=task.batch_norm_rows,
    )


HEADS: Mapping[str, Callable[[SegmentationTask], Head]] = {
    "deeplabv3": _deeplab,
    "unetplusplus": _unetplusplus,
}
