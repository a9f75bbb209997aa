"""Two-stage detection, Faster R-CNN: four losses on sampled boxes, and detections.

The anchors are scored and moved; the best become proposals, which are read from the
pyramid, classified and moved once more. Both halves learn from a random sample of
candidates of each image, drawn with fixed shares. An image without boxes is legal: all
its candidates are negative.

Source: Ren et al. 2015, "Faster R-CNN", with the constants of torchvision's
fasterrcnn_resnet50_fpn. Differs: each term is normalised within its image, so that a
loss belongs to one example; torchvision divides by the sample of the whole batch,
which is the same whenever every image fills its sample. Differs: training and
prediction use one number of proposals, the config's.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import types
from mtpret_jax.models import faster_rcnn, pyramid
from mtpret_jax.ops import boxes
from mtpret_jax.tasks import detector, samples

Array = jax.Array

ANCHOR_POSITIVES = 0.5  # largest share of them
REGION_POSITIVES = 0.25


class TwoStage(detector.Detector):
    """Faster R-CNN."""

    @property
    def levels(self) -> tuple[int, int]:
        return 2, 6

    def module(self, features: detector.Levels) -> faster_rcnn.FasterRCNN:
        return faster_rcnn.FasterRCNN(
            classes=self.classes,
            channels=self.config.channels,
            anchors=self.anchors_of_position,
            finest_anchor=float(self.config.anchor_sizes[0]),
            hidden=self.config.hidden,
            dtype=self.dtype,
            strides=pyramid.strides_of(features, self.image_size),
        )

    def losses(
        self,
        params: types.Tree,
        keys: tuple[Array, Array],
        features: detector.Levels,
        truth: detector.Truth,
    ) -> dict[str, Array]:
        head = self.module(features)
        levels, logits, offsets = detector.apply(head, "propose", params, features)
        anchors = self.anchors(levels, features)
        anchor = jnp.asarray(np.concatenate(anchors))
        matched, verdict = jax.vmap(samples.match_anchors, in_axes=(None, 0, 0))(
            anchor, *truth[:2]
        )
        index, drawn = _draw(
            keys[0], verdict, self.config.anchors_sampled, share=ANCHOR_POSITIVES
        )
        target = jax.vmap(samples.anchor_targets, in_axes=(None, 0, 0, 0, 0))(
            anchor, truth[0], matched, verdict, index
        )
        first = jax.vmap(samples.proposal_losses)(
            _rows(jnp.concatenate(logits, axis=1), index),
            _rows(jnp.concatenate(offsets, axis=1), index),
            target,
            drawn,
        )

        proposal, valid = self._proposals(logits, offsets, anchors)
        region = jax.vmap(samples.region_targets)(proposal, valid, *truth)
        index, drawn = _draw(
            keys[1], region["verdict"], self.config.regions, share=REGION_POSITIVES
        )
        region = _rows(region, index)
        logit, offset = detector.apply(head, "classify", params, levels, region["box"])
        return first | jax.vmap(samples.region_losses)(logit, offset, region, drawn)

    def detect(self, params: types.Tree, features: detector.Levels) -> dict[str, Array]:
        head = self.module(features)
        levels, logits, offsets = detector.apply(head, "propose", params, features)
        anchors = self.anchors(levels, features)
        proposal, valid = self._proposals(logits, offsets, anchors)
        logit, offset = detector.apply(head, "classify", params, levels, proposal)
        return faster_rcnn.select_detections(
            logit,
            offset,
            proposal,
            valid,
            image_size=self.image_size,
            score_threshold=self.config.score_threshold,
            nms_threshold=self.config.nms_threshold,
            count=self.config.detections,
        )

    def _proposals(
        self,
        logits: tuple[Array, ...],
        offsets: tuple[Array, ...],
        anchors: tuple[np.ndarray, ...],
    ) -> tuple[Array, Array]:
        return faster_rcnn.select_proposals(
            logits,
            offsets,
            anchors,
            image_size=self.image_size,
            before_nms=self.config.proposals_before_nms,
            count=self.config.proposals,
        )


def _draw(
    key: Array, verdict: Array, count: int, *, share: float
) -> tuple[Array, Array]:
    """`boxes.sample` of each image: keys [B], verdicts [B, N]; two [B, R]."""
    return jax.vmap(
        lambda key, verdict: boxes.sample(
            key, verdict, count=count, positive_fraction=share
        )
    )(key, verdict)


def _rows(table: Any, index: Array) -> Any:
    """Of each image the rows of arrays [B, N, ..], or a tree of them, at [B, R]."""
    take = jax.vmap(lambda column, index: column[index])
    return jax.tree.map(lambda columns: take(columns, index), table)
