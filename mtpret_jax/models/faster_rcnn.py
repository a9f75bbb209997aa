"""Faster R-CNN on a feature pyramid: the modules, and how their outputs become boxes.

Knows no ground truth: targets and losses are in `tasks/two_stage.py`. Boxes are x0,
y0, x1, y1 in pixels. Parameters map one to one to torchvision's: `fpn` is
`backbone.fpn`, `rpn_head` is `rpn.head` (`conv` is `conv.0.0`), `box_head` and
`box_predictor` are those of `roi_heads`. The kernel of `fc6` reads the grid as rows,
columns, channels, torchvision's as channels, rows, columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax.models import pyramid, vit_pyramid
from mtpret_jax.ops import alignment, boxes, candidates, suppression

Array = jax.Array

PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
PROPOSAL_NMS_THRESHOLD = 0.7
PROPOSAL_MIN_SIDE = 1e-3  # pixels
DETECTION_MIN_SIDE = 1e-2  # pixels
REGION_SIZE = 7  # bins on a side

# PyTorch's default for a linear layer: uniform within 1 / sqrt(inputs).
# Differs: its biases are drawn too, ours start at zero.
_linear_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_proposal_init = nn.initializers.normal(0.01)


class ProposalHead(nn.Module):
    """Scores and moves the anchors of every position, the same way on each level.

    Attributes:
      anchors: Number of anchors at one position.
      channels: Width of the pyramid.
      dtype: What the convolution computes in; results are float32.
    """

    anchors: int
    channels: int
    dtype: jax.typing.DTypeLike = jnp.float32

    def setup(self) -> None:
        """Makes the three convolutions."""
        self.conv = nn.Conv(
            self.channels,
            (3, 3),
            padding=1,
            kernel_init=_proposal_init,
            dtype=self.dtype,
        )
        self.cls_logits = nn.Conv(self.anchors, (1, 1), kernel_init=_proposal_init)
        self.bbox_pred = nn.Conv(self.anchors * 4, (1, 1), kernel_init=_proposal_init)

    def __call__(
        self, levels: Sequence[Array]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Maps P2 to P6 to logits [B, N] and offsets [B, N, 4] of each level."""
        logits, offsets = [], []
        for level in levels:
            batch = level.shape[0]
            hidden = nn.relu(self.conv(level)).astype(jnp.float32)
            logits.append(self.cls_logits(hidden).reshape(batch, -1))
            offsets.append(self.bbox_pred(hidden).reshape(batch, -1, 4))
        return tuple(logits), tuple(offsets)


class BoxHead(nn.Module):
    """Two dense layers on the features of a region.

    Attributes:
      hidden: Width of both.
      dtype: What layers compute in.
    """

    hidden: int
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, region: Array) -> Array:
        """Maps [B, N, 7, 7, C] to [B, N, hidden]."""
        result = region.reshape(*region.shape[:2], -1)
        for name in ("fc6", "fc7"):
            result = nn.relu(
                nn.Dense(
                    self.hidden, kernel_init=_linear_init, dtype=self.dtype, name=name
                )(result)
            )
        return result


class BoxPredictor(nn.Module):
    """Classes of a region, background being class 0, and a box for each class.

    Attributes:
      classes: Real classes; the background comes on top.
    """

    classes: int

    @nn.compact
    def __call__(self, hidden: Array) -> tuple[Array, Array]:
        """Maps [B, N, D] to logits [B, N, 1 + classes], offsets [B, N, same, 4]."""
        hidden = hidden.astype(jnp.float32)
        count = self.classes + 1
        logits = nn.Dense(count, kernel_init=_linear_init, name="cls_score")(hidden)
        offset = nn.Dense(4 * count, kernel_init=_linear_init, name="bbox_pred")(hidden)
        return logits, offset.reshape(*hidden.shape[:2], count, 4)


class FasterRCNN(nn.Module):
    """The detector behind a backbone, in two halves with a choice of boxes between.

    Attributes:
      classes: Real classes.
      channels: Width of the pyramid.
      anchors: Number of anchors at one position.
      finest_anchor: Anchor size of P2, pixels.
      hidden: Width of the two dense layers.
      dtype: What layers compute in; logits and offsets are float32.
      strides: Pixels between two positions of P2 to P5; see `pyramid.strides_of`.
    """

    classes: int
    channels: int
    anchors: int
    finest_anchor: float
    hidden: int
    dtype: jax.typing.DTypeLike = jnp.float32
    strides: tuple[float, ...] = pyramid.STRIDES

    def setup(self) -> None:
        """Makes pyramid and heads."""
        self.vit_pyramid = vit_pyramid.ViTPyramid(dtype=self.dtype)
        self.fpn = pyramid.FeaturePyramid(self.channels, dtype=self.dtype)
        self.rpn_head = ProposalHead(self.anchors, self.channels, dtype=self.dtype)
        self.box_head = BoxHead(self.hidden, dtype=self.dtype)
        self.box_predictor = BoxPredictor(self.classes)

    def propose(
        self, levels: Sequence[Array]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]:
        """Runs the first half.

        Args:
          levels: C2 to C5, [B, H/s, W/s, C], or the one map of a ViT.

        Returns:
          P2 to P6; for each level logits float32 [B, N]; offsets float32 [B, N, 4].
        """
        if len(levels) == 1:
            levels = self.vit_pyramid(levels[0])
        pyramid_levels = self.fpn(levels)
        logits, offsets = self.rpn_head(pyramid_levels)
        return pyramid_levels, logits, offsets

    def classify(
        self, pyramid_levels: Sequence[Array], box: Array
    ) -> tuple[Array, Array]:
        """Runs the second half; no gradient flows to the boxes.

        Args:
          pyramid_levels: P2 to P6; the last is not used.
          box: Regions, pixels, float32 [B, N, 4].

        Returns:
          Logits float32 [B, N, 1 + classes]; offsets float32 [B, N, 1 + classes, 4].
        """
        region = alignment.align(
            pyramid_levels[:-1],
            jax.lax.stop_gradient(box),
            strides=self.strides,
            finest_anchor=self.finest_anchor,
            size=REGION_SIZE,
        )
        return self.box_predictor(self.box_head(region))

    def __call__(self, levels: Sequence[Array]) -> tuple[Array, Array]:
        """Runs both halves on one region that does not matter; for `init` only."""
        pyramid_levels, _, _ = self.propose(levels)
        box = jnp.zeros((levels[0].shape[0], 1, 4), jnp.float32)
        return self.classify(pyramid_levels, box)


def select_proposals(
    logits: Sequence[Array],
    offsets: Sequence[Array],
    anchors: Sequence[np.ndarray],
    *,
    image_size: int,
    before_nms: int,
    count: int,
) -> tuple[Array, Array]:
    """Turns the first half's outputs into boxes for the second. Stops gradients.

    The best of each level are decoded, cut at the border, thinned out level by level,
    and the best of what is left over all levels go on.

    Args:
      logits: Scores on each level, float32 [B, N].
      offsets: Encoded boxes on each level, float32 [B, N, 4].
      anchors: Boxes of each level, float32 [N, 4], pixels.
      image_size: Side of the square input, pixels.
      before_nms: Boxes of each level that enter non-maximum suppression.
      count: Boxes of each image that leave; fewer where there are fewer in all.

    Returns:
      Pixels float32 [B, count, 4], best first, and whether each slot is filled, bool
      [B, count]. An empty slot holds some box inside the image.
    """
    widest = min(before_nms, max(level.shape[1] for level in logits))
    box_levels, logit_levels, valid_levels = [], [], []
    for logit, offset, anchor in zip(logits, offsets, anchors, strict=True):
        box, best, _ = candidates.best_of_level(
            jax.lax.stop_gradient(logit)[..., None],
            jax.lax.stop_gradient(offset),
            anchor,
            count=before_nms,
            weights=PROPOSAL_WEIGHTS,
            image_size=image_size,
        )
        pad = ((0, 0), (0, widest - best.shape[1]))
        box_levels.append(jnp.pad(box, (*pad, (0, 0))))
        logit_levels.append(jnp.pad(best, pad))
        valid_levels.append(jnp.pad(_has_sides(box, PROPOSAL_MIN_SIDE), pad))
    box = jnp.stack(box_levels, axis=1)
    valid = jnp.stack(valid_levels, axis=1)

    batch = box.shape[0]
    kept = suppression.suppress_sorted(
        box.reshape(-1, widest, 4),
        valid.reshape(-1, widest),
        threshold=PROPOSAL_NMS_THRESHOLD,
    )
    kept = kept.reshape(valid.shape)
    score = jnp.where(kept, jnp.stack(logit_levels, axis=1), -jnp.inf)
    score, index = jax.lax.top_k(score.reshape(batch, -1), min(count, score[0].size))
    box = jnp.take_along_axis(box.reshape(batch, -1, 4), index[:, :, None], axis=1)
    return box, score > -jnp.inf


def select_detections(
    logit: Array,
    offset: Array,
    proposal: Array,
    proposal_valid: Array,
    *,
    image_size: int,
    score_threshold: float,
    nms_threshold: float,
    count: int,
) -> dict[str, Array]:
    """Turns the second half's outputs into detections.

    Args:
      logit: float32 [B, N, 1 + classes], background first.
      offset: float32 [B, N, 1 + classes, 4].
      proposal: Pixels, float32 [B, N, 4].
      proposal_valid: bool [B, N].
      image_size: Side of the square input, pixels.
      score_threshold: A detection's probability is above it.
      nms_threshold: For each class on its own, in [0, 1].
      count: Detections of each image.

    Returns:
      `box` pixels float32 [B, count, 4], `score` float32 [B, count] falling, `class`
      int32 [B, count] (0 is the first real class), `valid` bool [B, count]. Slots
      that are not valid hold zeros.
    """
    classes = logit.shape[-1] - 1
    probability = jax.nn.softmax(logit, axis=-1)[..., 1:]
    box = boxes.decode(
        proposal[:, :, None, :], offset[:, :, 1:], weights=REGION_WEIGHTS
    )
    box = boxes.clip(box, image_size=image_size)
    valid = proposal_valid[:, :, None] & (probability > score_threshold)
    valid &= _has_sides(box, DETECTION_MIN_SIDE)
    batch = logit.shape[0]
    label = jnp.tile(jnp.arange(classes, dtype=jnp.int32), (batch, logit.shape[1]))
    return candidates.detect(
        box.reshape(batch, -1, 4),
        probability.reshape(batch, -1),
        label,
        valid.reshape(batch, -1),
        image_size=image_size,
        threshold=nms_threshold,
        count=count,
    )


def _has_sides(box: Array, smallest: float) -> Array:
    side = box[..., 2:] - box[..., :2]
    return jnp.all(side >= smallest, axis=-1)
