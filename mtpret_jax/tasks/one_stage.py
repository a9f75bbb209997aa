"""One-stage detection, RetinaNet: losses of all anchors of an image, and detections.

Every anchor is classified and moved at once, each class on its own. The focal loss
keeps the many that are easily told to be background from drowning the few that are
not, so nothing is drawn by chance. An image without boxes is legal: all its anchors
are negative.

Source: Lin et al. 2017, "Focal loss for dense object detection", with the constants of
torchvision's retinanet_resnet50_fpn_v2, whose towers have GroupNorm and whose boxes
learn by the generalised overlap. As there, each term is divided by the positive anchors
of its image.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import types
from mtpret_jax.models import retinanet
from mtpret_jax.tasks import detector, samples

Array = jax.Array


class OneStage(detector.Detector):
    """RetinaNet."""

    @property
    def levels(self) -> tuple[int, int]:
        return self.config.finest_level, retinanet.COARSEST

    def module(self, features: detector.Levels) -> retinanet.RetinaNet:
        del features
        return retinanet.RetinaNet(
            classes=self.classes,
            channels=self.config.channels,
            anchors=self.anchors_of_position,
            finest=self.config.finest_level,
            dtype=self.dtype,
        )

    def losses(
        self,
        params: types.Tree,
        keys: tuple[Array, Array],
        features: detector.Levels,
        truth: detector.Truth,
    ) -> dict[str, Array]:
        del keys
        levels, logits, offsets = detector.apply(
            self.module(features), "__call__", params, features
        )
        anchor = jnp.asarray(np.concatenate(self.anchors(levels, features)))
        return jax.vmap(samples.dense_losses, in_axes=(0, 0, None, 0, 0, 0))(
            jnp.concatenate(logits, axis=1),
            jnp.concatenate(offsets, axis=1),
            anchor,
            *truth,
        )

    def detect(self, params: types.Tree, features: detector.Levels) -> dict[str, Array]:
        levels, logits, offsets = detector.apply(
            self.module(features), "__call__", params, features
        )
        return retinanet.select_detections(
            logits,
            offsets,
            self.anchors(levels, features),
            image_size=self.image_size,
            score_threshold=self.config.score_threshold,
            nms_threshold=self.config.nms_threshold,
            before_nms=self.config.candidates,
            count=self.config.detections,
        )
