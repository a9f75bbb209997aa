"""RetinaNet on a feature pyramid: classes and a box of every anchor, in one stage.

Knows no ground truth: targets and losses are in `tasks/one_stage.py`. Boxes are x0,
y0, x1, y1 in pixels. Parameters map one to one to those of torchvision's
retinanet_resnet50_fpn_v2: `fpn` is `backbone.fpn`, `classification_head` and
`regression_head` are those of `head`, where `conv_0` and `norm_0` are `conv.0.0` and
`conv.0.1`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax.models import pyramid, vit_pyramid
from mtpret_jax.ops import candidates

Array = jax.Array

WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # of the box code
CONVOLUTIONS = 4  # of a tower
PRIOR = 0.01  # probability of each class that an untrained network gives
COARSEST = 7  # level: P7

_init = nn.initializers.normal(0.01)


def groups(channels: int) -> int:
    """Of GroupNorm, each of 8 channels as torchvision's 32 of 256, or of 4, 2 or 1."""
    return channels // math.gcd(8, channels)


class Tower(nn.Module):
    """What is said of the anchors of every position, the same way on each level.

    Attributes:
      outputs: Numbers for each position.
      channels: Width of the pyramid.
      last: Name of the last convolution.
      bias: That it begins with.
      dtype: What the others compute in; results are float32.
    """

    outputs: int
    channels: int
    last: str
    bias: float = 0.0
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[Array]) -> list[Array]:
        """Maps levels [B, h, w, C] to float32 [B, h, w, outputs] each."""
        hidden = list(levels)
        for i in range(CONVOLUTIONS):
            conv = nn.Conv(
                self.channels,
                (3, 3),
                padding=1,
                use_bias=False,
                kernel_init=_init,
                dtype=self.dtype,
                name=f"conv_{i}",
            )
            norm = nn.GroupNorm(
                groups(self.channels),
                epsilon=1e-5,
                use_fast_variance=False,
                dtype=self.dtype,
                name=f"norm_{i}",
            )
            hidden = [nn.relu(norm(conv(level))) for level in hidden]
        last = nn.Conv(
            self.outputs,
            (3, 3),
            padding=1,
            kernel_init=_init,
            bias_init=nn.initializers.constant(self.bias),
            name=self.last,
        )
        return [last(level.astype(jnp.float32)) for level in hidden]


class RetinaNet(nn.Module):
    """The detector behind a backbone.

    Attributes:
      classes: Real classes; there is none for the background.
      channels: Width of the pyramid.
      anchors: Number of anchors at one position.
      finest: Number of the finest level, 2 or 3.
      dtype: What layers compute in; logits and offsets are float32.
    """

    classes: int
    channels: int
    anchors: int
    finest: int = 3
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, levels: Sequence[Array]
    ) -> tuple[tuple[Array, ...], list[Array], list[Array]]:
        """Scores and moves all anchors.

        Args:
          levels: C2 to C5, [B, H/s, W/s, C], or the one map of a ViT.

        Returns:
          The pyramid, from the finest level to P7; for each level logits float32 [B,
          N, classes]; offsets float32 [B, N, 4].
        """
        skipped = self.finest - pyramid.FINEST
        if len(levels) == 1:
            make = vit_pyramid.ViTPyramid(
                4 - skipped, dtype=self.dtype, name="vit_pyramid"
            )
            levels, skipped = make(levels[0]), 0
        fpn = pyramid.FeaturePyramid(
            self.channels, convolved=True, dtype=self.dtype, name="fpn"
        )
        pyramid_levels = fpn(levels[skipped:])
        logits = Tower(
            self.anchors * self.classes,
            self.channels,
            "cls_logits",
            bias=-math.log((1 - PRIOR) / PRIOR),
            dtype=self.dtype,
            name="classification_head",
        )(pyramid_levels)
        offsets = Tower(
            self.anchors * 4,
            self.channels,
            "bbox_reg",
            dtype=self.dtype,
            name="regression_head",
        )(pyramid_levels)
        return (
            pyramid_levels,
            [level.reshape(level.shape[0], -1, self.classes) for level in logits],
            [level.reshape(level.shape[0], -1, 4) for level in offsets],
        )


def select_detections(
    logits: Sequence[Array],
    offsets: Sequence[Array],
    anchors: Sequence[np.ndarray],
    *,
    image_size: int,
    score_threshold: float,
    nms_threshold: float,
    before_nms: int,
    count: int,
) -> dict[str, Array]:
    """Turns outputs into detections.

    Args:
      logits: Those of the classes on each level, float32 [B, N, K].
      offsets: Encoded boxes on each level, float32 [B, N, 4].
      anchors: Boxes of each level, float32 [N, 4], pixels.
      image_size: Side of the square input, pixels.
      score_threshold: A detection's probability is above it.
      nms_threshold: For each class on its own, in [0, 1].
      before_nms: Detections of each level that enter non-maximum suppression.
      count: Detections of each image.

    Returns:
      See `candidates.detect`.
    """
    found = [
        candidates.best_of_level(
            jax.nn.sigmoid(logit),
            offset,
            anchor,
            count=before_nms,
            weights=WEIGHTS,
            image_size=image_size,
        )
        for logit, offset, anchor in zip(logits, offsets, anchors, strict=True)
    ]
    box, score, label = (
        jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True)
    )
    return candidates.detect(
        box,
        score,
        label,
        score > score_threshold,
        image_size=image_size,
        threshold=nms_threshold,
        count=count,
    )
