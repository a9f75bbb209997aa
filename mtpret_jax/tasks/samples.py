"""What anchors and regions of one image should say, and the losses of what they do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from mtpret_jax.models import faster_rcnn, retinanet
from mtpret_jax.ops import boxes, losses

Array = jax.Array

ANCHOR_POSITIVE_FROM = 0.7  # overlap
ANCHOR_NEGATIVE_BELOW = 0.3
DENSE_POSITIVE_FROM = 0.5  # of anchors that nothing comes after
DENSE_NEGATIVE_BELOW = 0.4
FOCUS = 2.0  # gamma of the focal loss
POSITIVE_WEIGHT = 0.25  # alpha; that of negatives is one less it
REGION_POSITIVE_FROM = 0.5  # and negative below
SMOOTH_L1_BETA = 1.0 / 9.0  # where the box loss turns from square to straight


def match_anchors(
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


def anchor_targets(
    anchor: Array, truth: Array, matched: Array, verdict: Array, index: Array
) -> dict[str, Array]:
    """What the first half should say of the drawn anchors of one image.

    Args:
      anchor: Pixels [N, 4].
      truth: Pixels [M, 4].
      matched: As `match_anchors` returns it, int32 [N].
      verdict: The same.
      index: Anchors to learn from, int32 [R].

    Returns:
      `positive` bool [R]; `target` encoded box, float32 [R, 4].
    """
    target = boxes.encode(
        anchor[index], truth[matched[index]], weights=faster_rcnn.PROPOSAL_WEIGHTS
    )
    return {"positive": verdict[index] == boxes.POSITIVE, "target": target}


def proposal_losses(
    logit: Array, offset: Array, anchor: dict[str, Array], drawn: Array
) -> dict[str, Array]:
    """Losses of the first half for one image.

    Args:
      logit: Scores of the sampled anchors, float32 [R].
      offset: float32 [R, 4].
      anchor: As `anchor_targets` returns it.
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


def region_targets(
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


def region_losses(
    logit: Array, offset: Array, region: dict[str, Array], drawn: Array
) -> dict[str, Array]:
    """Losses of the second half for one image.

    Args:
      logit: float32 [R, 1 + classes].
      offset: float32 [R, 1 + classes, 4].
      region: As `region_targets` returns it, the drawn rows, R of them.
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


def match_dense(anchor: Array, truth: Array, truth_valid: Array) -> tuple[Array, Array]:
    """`boxes.match` of all anchors of one image, in one stage: both int32 [N]."""
    return boxes.match(
        anchor,
        truth,
        truth_valid,
        positive_from=DENSE_POSITIVE_FROM,
        negative_below=DENSE_NEGATIVE_BELOW,
        low_quality=True,
    )


def dense_losses(
    logit: Array,
    offset: Array,
    anchor: Array,
    truth: Array,
    truth_valid: Array,
    truth_class: Array,
) -> dict[str, Array]:
    """Losses of all anchors of one image, in one stage.

    Args:
      logit: float32 [N, classes].
      offset: float32 [N, 4].
      anchor: Pixels [N, 4].
      truth: Pixels [M, 4].
      truth_valid: bool [M].
      truth_class: int32 [M], 0 is the first real class.

    Returns:
      `anchor_class` and `anchor_box`, float32 [].
    """
    matched, verdict = match_dense(anchor, truth, truth_valid)
    positive = verdict == boxes.POSITIVE
    label = jnp.arange(logit.shape[-1])[None] == truth_class[matched][:, None]
    focal = losses.focal(
        logit,
        label & positive[:, None],
        focus=FOCUS,
        positive_weight=POSITIVE_WEIGHT,
    )
    box = boxes.decode(anchor, offset, weights=retinanet.WEIGHTS)
    distance = 1.0 - boxes.generalised_iou(box, truth[matched])
    return {
        "anchor_class": _mean(focal.sum(-1), verdict != boxes.IGNORED, positive),
        "anchor_box": _mean(distance, positive, positive),
    }


def _smooth_l1(offset: Array, target: Array) -> Array:
    """Huber loss over beta, summed over the four numbers of a box: [N, 4] to [N]."""
    huber = optax.huber_loss(offset, target, delta=SMOOTH_L1_BETA)
    return huber.sum(-1) / SMOOTH_L1_BETA


def _mean(value: Array, counted: Array, of: Array) -> Array:
    """Sum of the counted values over the number of `of`; 0 where that is none."""
    return jnp.where(counted, value, 0.0).sum() / jnp.maximum(of.sum(), 1)
