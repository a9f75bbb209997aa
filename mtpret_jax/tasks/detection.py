"""Detection: a Faster R-CNN head, four losses on sampled boxes, average precision.

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

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import detection as metrics
from mtpret_jax.models import faster_rcnn, pyramid
from mtpret_jax.ops import boxes, placement, regions
from mtpret_jax.tasks import samples

Array = jax.Array

ANCHOR_POSITIVES = 0.5  # largest share of them
REGION_POSITIVES = 0.25


@dataclasses.dataclass(frozen=True)
class DetectionTask:
    """A Faster R-CNN head as `types.Task`.

    Attributes:
      name: The task's name.
      class_names: Classes of objects, without background.
      image_size: Side of the square input, pixels.
      config: Sizes of the head.
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
        if len(self.config.anchor_sizes) != len(pyramid.STRIDES) + 1:
            raise ValueError(
                f"config.tasks.{self.name}.detection.anchor_sizes: expected one size "
                f"for each of P2 to P6, got {self.config.anchor_sizes}."
            )

    @property
    def output_stride(self) -> int:
        """The pyramid starts from an undilated backbone."""
        return 0

    @property
    def flip_at_test(self) -> bool:
        """Boxes of two images have no mean."""
        return False

    def _head(self, features: tuple[Array, ...]) -> faster_rcnn.FasterRCNN:
        return faster_rcnn.FasterRCNN(
            classes=len(self.class_names),
            channels=self.config.channels,
            anchors=len(self.config.anchor_ratios),
            finest_anchor=float(self.config.anchor_sizes[0]),
            hidden=self.config.hidden,
            dtype=self.dtype,
            strides=pyramid.strides_of(features, self.image_size),
        )

    def init(self, key: Array, features: types.Features) -> types.Variables:
        """Draws the head's parameters. There are no batch statistics."""
        variables = self._head(features.levels).init(key, features.levels)
        return types.Variables(variables["params"], {})

    def loss(
        self,
        key: Array,
        variables: types.Variables,
        features: types.Features,
        batch: types.Batch,
    ) -> tuple[Array, types.Scalars, types.Tree]:
        """Sum of the four losses of each example, their means, no batch statistics.

        The means are over valid examples: `rpn_objectness`, `rpn_box`, `roi_class`,
        `roi_box`, all in nats or dimensionless.
        """
        truth = boxes.from_fractions(batch.arrays["box"], image_size=self.image_size)
        # A box without area can be neither overlapped nor encoded.
        truth_valid = batch.arrays["box_valid"].astype(bool) & (boxes.area(truth) > 0)
        keys = jax.random.split(key, (2, truth.shape[0]))
        parts = placement.in_place(
            self._losses,
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
        return placement.in_place(self._detect, variables.params, features.levels)

    def metric(self) -> types.Metric:
        """Average precision."""
        return metrics.DetectionMetric(len(self.class_names), self.class_names)

    def _losses(
        self,
        params: types.Tree,
        keys: tuple[Array, Array],
        features: tuple[Array, ...],
        truth: tuple[Array, Array, Array],
    ) -> dict[str, Array]:
        """The losses of each of some images.

        Args:
          params: The head's parameters.
          keys: To draw anchors and regions with, each [B].
          features: C2 to C5, or the one map of a ViT.
          truth: Boxes in pixels, float32 [B, M, 4]; whether each is one, bool [B, M];
            classes, int32 [B, M].

        Returns:
          The four by name, float32 [B].
        """
        head = self._head(features)
        levels, logits, offsets = _apply(head, "propose", params, features)
        anchors = self._anchors(levels, head.strides)
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
        logit, offset = _apply(head, "classify", params, levels, region["box"])
        return first | jax.vmap(samples.region_losses)(logit, offset, region, drawn)

    def _detect(
        self, params: types.Tree, features: tuple[Array, ...]
    ) -> dict[str, Array]:
        """What `predict` returns, of some images."""
        head = self._head(features)
        levels, logits, offsets = _apply(head, "propose", params, features)
        anchors = self._anchors(levels, head.strides)
        proposal, valid = self._proposals(logits, offsets, anchors)
        logit, offset = _apply(head, "classify", params, levels, proposal)
        found = faster_rcnn.select_detections(
            logit,
            offset,
            proposal,
            valid,
            image_size=self.image_size,
            score_threshold=self.config.score_threshold,
            nms_threshold=self.config.nms_threshold,
            count=self.config.detections,
        )
        box = boxes.to_fractions(found["box"], image_size=self.image_size)
        return {**found, "box": box}

    def _anchors(
        self, levels: tuple[Array, ...], strides: tuple[float, ...]
    ) -> tuple[np.ndarray, ...]:
        return regions.anchors(
            [(level.shape[1], level.shape[2]) for level in levels],
            strides=pyramid.anchor_strides(self.image_size, strides=strides),
            sizes=self.config.anchor_sizes,
            ratios=self.config.anchor_ratios,
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


def _apply(
    head: faster_rcnn.FasterRCNN, method: str, params: types.Tree, *inputs: Any
) -> Any:
    return head.apply({"params": params}, *inputs, method=method)


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
