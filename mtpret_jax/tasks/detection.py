"""Detection: a head's boxes, the losses of each image, average precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import detection as metrics
from mtpret_jax.ops import boxes, placement
from mtpret_jax.tasks import detector, one_stage, two_stage

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class DetectionTask:
    """A head that finds boxes, as `types.Task`.

    Attributes:
      name: The task's name.
      class_names: Classes of objects, without background.
      image_size: Side of the square input, pixels.
      config: The head and its sizes.
      dtype: What layers compute in; boxes and losses are float32.
      batch_norm_rows: See `types.Task`.
    """

    name: str
    class_names: tuple[str, ...]
    image_size: int
    config: schema.DetectionConfig
    dtype: jax.typing.DTypeLike = jnp.float32
    batch_norm_rows: int = 0

    def __post_init__(self) -> None:
        if not self.class_names:
            raise ValueError(
                f"Task '{self.name}': detection needs at least one class of objects. "
                "Check object_names of its set."
            )
        finest, coarsest = self.head.levels
        if len(self.config.anchor_sizes) % (coarsest - finest + 1):
            raise ValueError(
                f"config.tasks.{self.name}.detection.anchor_sizes: expected one size "
                f"for each of P{finest} to P{coarsest}, or as many for each, finest "
                f"first; got {self.config.anchor_sizes}."
            )

    @property
    def output_stride(self) -> int:
        """The pyramid starts from an undilated backbone."""
        return 0

    @property
    def flip_at_test(self) -> bool:
        """Boxes of two images have no mean."""
        return False

    @property
    def head(self) -> detector.Detector:
        """The head, without its parameters."""
        return HEADS[self.config.head](
            len(self.class_names), self.image_size, self.config, self.dtype
        )

    def init(self, key: Array, features: types.Features) -> types.Variables:
        """Draws the head's parameters. There are no batch statistics."""
        module = self.head.module(features.levels)
        return types.Variables(module.init(key, features.levels)["params"], {})

    def loss(
        self,
        key: Array,
        variables: types.Variables,
        features: types.Features,
        batch: types.Batch,
    ) -> tuple[Array, types.Scalars, types.Tree]:
        """Sum of a head's losses of each example, their means, no batch statistics.

        The means are over valid examples: `rpn_objectness`, `rpn_box`, `roi_class`,
        `roi_box` of two stages, `anchor_class`, `anchor_box` of one, all in nats or
        dimensionless.
        """
        truth = boxes.from_fractions(batch.arrays["box"], image_size=self.image_size)
        # A box without area can be neither overlapped nor encoded.
        truth_valid = batch.arrays["box_valid"].astype(bool) & (boxes.area(truth) > 0)
        keys = jax.random.split(key, (2, truth.shape[0]))
        parts = placement.in_place(
            self.head.losses,
            variables.params,
            (keys[0], keys[1]),
            features.levels,
            (truth, truth_valid, batch.arrays["box_class"]),
        )
        weight = batch.arrays["example_valid"].astype(jnp.float32)
        total = jnp.maximum(weight.sum(), 1.0)
        scalars = {name: (part * weight).sum() / total for name, part in parts.items()}
        return sum(parts.values(), jnp.zeros_like(weight)), scalars, {}

    def predict(
        self,
        variables: types.Variables,
        features: types.Features,
        mirrored: types.Features | None = None,
    ) -> dict[str, Array]:
        """Detections, best first.

        `box` float32 [B, D, 4] (y0, x0, y1, x1 as fractions of the square input),
        `score` float32 [B, D] in [0, 1], `class` int32 [B, D] (0 is the first real
        class), `valid` bool [B, D].
        """
        del mirrored
        found = placement.in_place(self.head.detect, variables.params, features.levels)
        box = boxes.to_fractions(found["box"], image_size=self.image_size)
        return {**found, "box": box}

    def metric(self) -> types.Metric:
        """Average precision."""
        return metrics.DetectionMetric(len(self.class_names), self.class_names)


HEADS: Mapping[str, type[detector.Detector]] = {
    "faster_rcnn": two_stage.TwoStage,
    "retinanet": one_stage.OneStage,
}
