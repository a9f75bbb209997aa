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
import optax

from mtpret_jax import config as schema
from mtpret_jax import types
from mtpret_jax.metrics import detection as metrics
from mtpret_jax.models import faster_rcnn, pyramid
from mtpret_jax.ops import boxes, placement, regions

Array = jax.Array

ANCHOR_POSITIVES = 0.5  # largest share of them
ANCHOR_POSITIVE_FROM = 0.7  # overlap
ANCHOR_NEGATIVE_BELOW = 0.3
REGION_POSITIVES = 0.25
REGION_POSITIVE_FROM = 0.5  # and negative below
SMOOTH_L1_BETA = 1.0 / 9.0  # where the box loss turns from square to straight


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
    dtype: jnp.dtype = jnp.float32
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
        """The pyramid starts from an undilated backbone, pixels."""
        return 32

    @property
    def _head(self) -> faster_rcnn.FasterRCNN:
        return faster_rcnn.FasterRCNN(
            classes=len(self.class_names),
            channels=self.config.channels,
            anchors=len(self.config.anchor_ratios),
            finest_anchor=float(self.config.anchor_sizes[0]),
            hidden=self.config.hidden,
            dtype=self.dtype,
        )

    def init(self, key: Array, features: types.Features) -> types.Variables:
        """Draws the head's parameters. There are no batch statistics."""
        variables = self._head.init(key, features.levels)
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
        self, variables: types.Variables, features: types.Features
    ) -> dict[str, Array]:
        """Detections, best first.

        `box` float32 [B, D, 4] (y0, x0, y1, x1 as fractions of the square input),
        `score` float32 [B, D] in [0, 1], `class` int32 [B, D] (0 is the first real
        class), `valid` bool [B, D].
        """
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
          features: C2 to C5.
          truth: Boxes in pixels, float32 [B, M, 4]; whether each is one, bool [B, M];
            classes, int32 [B, M].

        Returns:
          The four by name, float32 [B].
        """
        levels, logits, offsets = self._apply("propose", params, features)
        anchors = self._anchors(levels)
        anchor = jnp.asarray(np.concatenate(anchors))
        matched, verdict = jax.vmap(_match_anchors, in_axes=(None, 0, 0))(
            anchor, *truth[:2]
        )
        index, drawn = _draw(
            keys[0], verdict, self.config.anchors_sampled, share=ANCHOR_POSITIVES
        )
        target = jax.vmap(_anchor_targets, in_axes=(None, 0, 0, 0, 0))(
            anchor, truth[0], matched, verdict, index
        )
        first = jax.vmap(_proposal_losses)(
            _rows(jnp.concatenate(logits, axis=1), index),
            _rows(jnp.concatenate(offsets, axis=1), index),
            target,
            drawn,
        )

        proposal, valid = self._proposals(logits, offsets, anchors)
        region = jax.vmap(_region_targets)(proposal, valid, *truth)
        index, drawn = _draw(
            keys[1], region["verdict"], self.config.regions, share=REGION_POSITIVES
        )
        region = _rows(region, index)
        logit, offset = self._apply("classify", params, levels, region["box"])
        return first | jax.vmap(_region_losses)(logit, offset, region, drawn)

    def _detect(
        self, params: types.Tree, features: tuple[Array, ...]
    ) -> dict[str, Array]:
        """What `predict` returns, of some images."""
        levels, logits, offsets = self._apply("propose", params, features)
        proposal, valid = self._proposals(logits, offsets, self._anchors(levels))
        logit, offset = self._apply("classify", params, levels, proposal)
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

    def _apply(self, method: str, params: types.Tree, *inputs: Any) -> Any:
        return self._head.apply({"params": params}, *inputs, method=method)

    def _anchors(self, levels: tuple[Array, ...]) -> tuple[np.ndarray, ...]:
        return regions.anchors(
            [(level.shape[1], level.shape[2]) for level in levels],
            strides=pyramid.anchor_strides(self.image_size),
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


def _match_anchors(
    anchor: Array, truth: Array, truth_valid: Array
) -> tuple[Array, Array]:
    """`boxes.match` of the anchors of one image, pixels [N, 4]: both int32 [N]."""
    return boxes.match(
        anchor,
        truth,
        truth_valid,
        positive_from=ANCHOR_POSITIVE_FROM,
        negative_below=ANCHOR_NEGATIVE_BELOW,
        low_quality=True,
    )


def _anchor_targets(
    anchor: Array, truth: Array, matched: Array, verdict: Array, index: Array
) -> dict[str, Array]:
    """What the first half should say of the drawn anchors of one image.

    Args:
      anchor: Pixels [N, 4].
      truth: Pixels [M, 4].
      matched: As `_match_anchors` returns it, int32 [N].
      verdict: The same.
      index: Anchors to learn from, int32 [R].

    Returns:
      `positive` bool [R]; `target` encoded box, float32 [R, 4].
    """
    target = boxes.encode(
        anchor[index], truth[matched[index]], weights=faster_rcnn.PROPOSAL_WEIGHTS
    )
    return {"positive": verdict[index] == boxes.POSITIVE, "target": target}


def _proposal_losses(
    logit: Array, offset: Array, anchor: dict[str, Array], drawn: Array
) -> dict[str, Array]:
    """Losses of the first half for one image.

    Args:
      logit: Scores of the sampled anchors, float32 [R].
      offset: float32 [R, 4].
      anchor: As `_anchor_targets` returns it.
      drawn: False for slots that are empty, bool [R].

    Returns:
      `rpn_objectness` and `rpn_box`, float32 [].
    """
    positive = anchor["positive"]
    entropy = optax.sigmoid_binary_cross_entropy(logit, positive.astype(jnp.float32))
    distance = _smooth_l1(offset, anchor["target"])
    return {
        "rpn_objectness": _mean(entropy, drawn, drawn),
        "rpn_box": _mean(distance, positive & drawn, drawn),
    }


def _region_targets(
    proposal: Array,
    proposal_valid: Array,
    truth: Array,
    truth_valid: Array,
    truth_class: Array,
) -> dict[str, Array]:
    """What the second half should say of the regions of one image.

    The ground truth joins the proposals, so that there are positives from the start.

    Args:
      proposal: Pixels [N, 4].
      proposal_valid: bool [N].
      truth: Pixels [M, 4].
      truth_valid: bool [M].
      truth_class: int32 [M], 0 is the first real class.

    Returns:
      Of the N + M regions `box` pixels, float32 [N + M, 4]; `verdict` of
      `boxes.match`, IGNORED where the region is none, int32 [N + M]; `class`, 0 being
      the background, int32 [N + M]; `target` encoded box, float32 [N + M, 4].
    """
    box = jnp.concatenate([proposal, truth])
    matched, verdict = boxes.match(
        box,
        truth,
        truth_valid,
        positive_from=REGION_POSITIVE_FROM,
        negative_below=REGION_POSITIVE_FROM,
        low_quality=False,
    )
    usable = jnp.concatenate([proposal_valid, truth_valid])
    verdict = jnp.where(usable, verdict, boxes.IGNORED)
    label = truth_class.astype(jnp.int32)[matched] + 1
    return {
        "box": box,
        "verdict": verdict,
        "class": jnp.where(verdict == boxes.POSITIVE, label, 0),
        "target": boxes.encode(box, truth[matched], weights=faster_rcnn.REGION_WEIGHTS),
    }


def _region_losses(
    logit: Array, offset: Array, region: dict[str, Array], drawn: Array
) -> dict[str, Array]:
    """Losses of the second half for one image.

    Args:
      logit: float32 [R, 1 + classes].
      offset: float32 [R, 1 + classes, 4].
      region: As `_region_targets` returns it, the drawn rows, R of them.
      drawn: False for slots that are empty, bool [R].

    Returns:
      `roi_class` and `roi_box`, float32 [].
    """
    label = region["class"]
    entropy = optax.softmax_cross_entropy_with_integer_labels(logit, label)
    chosen = jnp.take_along_axis(offset, label[:, None, None], axis=1)[:, 0]
    distance = _smooth_l1(chosen, region["target"])
    return {
        "roi_class": _mean(entropy, drawn, drawn),
        "roi_box": _mean(distance, drawn & (label > 0), drawn),
    }


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


def _smooth_l1(offset: Array, target: Array) -> Array:
    """Huber loss over beta, summed over the four numbers of a box: [N, 4] to [N]."""
    huber = optax.huber_loss(offset, target, delta=SMOOTH_L1_BETA)
    return huber.sum(-1) / SMOOTH_L1_BETA


def _mean(value: Array, counted: Array, of: Array) -> Array:
    """Sum of the counted values over the number of `of`; 0 where that is none."""
    return jnp.where(counted, value, 0.0).sum() / jnp.maximum(of.sum(), 1)
