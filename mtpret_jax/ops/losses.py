"""Losses that keep their example axis; the caller reduces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax


def info_nce(
    query: jax.Array,
    positive: jax.Array,
    negatives: jax.Array,
    *,
    temperature: float,
    excluded: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Contrasts each query with its positive and a shared pool of negatives.

    Args:
      query: Embeddings of unit length, float32 [B, D].
      positive: Embedding of each query's other view, unit length, float32 [B, D].
        No gradient should reach it; the caller stops it.
      negatives: The queue, unit length, float32 [K, D].
      temperature: Softmax temperature, dimensionless, above 0.
      excluded: Negatives that do not count for a query, bool [B, K]; None: all do.

    Returns:
      Loss of each example in nats, float32 [B], ln(1 + K) when all similarities are
      equal; and whether the positive came first among all, bool [B].

    Similarities are products in float32 on every platform. A TPU's default would round
    embeddings to bfloat16 for the queue and not for the positive: at a temperature of
    0.2 an error of 0.001, at most 0.006, in every logit but one.

    Raises:
      ValueError: If `temperature` is not positive.

    Source:
      He et al. 2020, "Momentum Contrast", eq. 1.
    """
    if temperature <= 0:
        raise ValueError(f"info_nce: temperature must be above 0, got {temperature}.")
    agreement = jnp.sum(query * positive, axis=-1, keepdims=True)  # [B, 1]
    exact = jax.lax.Precision.HIGHEST
    others = jnp.matmul(query, negatives.T, precision=exact)  # [B, K]
    if excluded is not None:
        others = jnp.where(excluded, -jnp.inf, others)
    logits = jnp.concatenate([agreement, others], axis=-1) / temperature
    loss = -jax.nn.log_softmax(logits, axis=-1)[:, 0]
    return loss, jnp.max(others, axis=-1) < agreement[:, 0]


def classification(
    logits: jax.Array,
    label: jax.Array,
    label_known: jax.Array,
    *,
    exclusive: bool,
    smoothing: float = 0.0,
    weight: jax.Array | None = None,
) -> jax.Array:
    """Cross-entropy over classes, or the mean binary one over known labels.

    Args:
      logits: float32 [B, L].
      label: 0 or 1, float32 [B, L]; one-hot if `exclusive`. Of mixed examples between.
      label_known: bool [B, L]; of mixed examples a share, float32.
      exclusive: Whether the classes exclude each other.
      smoothing: Share of each label that is spread over all classes alike, or over yes
        and no, [0, 1).
      weight: Factor of each class, or of its positives, float32 [B, L]; None: 1.

    Returns:
      Loss of each example in nats, float32 [B]; 0 where nothing is known.

    Source:
      PyTorch's CrossEntropyLoss (weight, label_smoothing) of labels as probabilities,
      whose mean divides by the examples and not by their weights, and its
      BCEWithLogitsLoss (pos_weight).
    """
    if smoothing:
        outcomes = label.shape[-1] if exclusive else 2
        label = label * (1 - smoothing) + smoothing / outcomes
    positive = label if weight is None else label * weight
    if exclusive:
        loss = optax.softmax_cross_entropy(logits, positive)
        return jnp.where(label_known.any(-1), loss, 0.0)
    known = label_known.astype(logits.dtype)
    yes, no = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    loss = (-positive * yes - (1.0 - label) * no) * known
    return loss.sum(-1) / jnp.maximum(known.sum(-1), 1.0)


def grades(logits: jax.Array) -> jax.Array:
    """Log-probability of each grade, of answers to "higher, if it is that high?".

    Args:
      logits: Answers "above k", where it is at least k, as logits, float32 [B, L-1].

    Returns:
      float32 [B, L]; their exponentials sum to 1. Cross-entropy with them is the loss.

    Source:
      Shi, Cao and Raschka 2021, "Deep neural networks for rank-consistent ordinal
      regression based on conditional probabilities" (CORN).

    Differs: CORN takes a mean over the examples that reach each question; here it is
    the sum over the questions that an example reaches, so that each counts alike.
    """
    nothing = jnp.zeros_like(logits[:, :1])
    passed = jnp.cumsum(jax.nn.log_sigmoid(logits), axis=-1)
    stopped = jax.nn.log_sigmoid(-logits)
    return jnp.concatenate([nothing, passed], -1) + jnp.concatenate(
        [stopped, nothing], -1
    )


def segmentation(
    logits: jax.Array,
    segmentation: jax.Array,
    pixel_known: jax.Array,
    *,
    dice_weight: float,
) -> jax.Array:
    """Mean cross-entropy over known pixels, plus a share of the soft Dice loss.

    Args:
      logits: float32 [B, H, W, S].
      segmentation: Class index, integer [B, H, W]; any value where unknown.
      pixel_known: bool [B, H, W].
      dice_weight: Factor of 1 - Dice of the foreground classes, at least 0.

    Returns:
      Loss of each example, float32 [B]; 0 where no pixel is known.

    Differs: torchvision's script takes one mean over the known pixels of all images;
    here each image counts alike, however much of it is known.
    """
    known = pixel_known.astype(logits.dtype)
    truth = jnp.where(pixel_known, segmentation, 0).astype(jnp.int32)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, truth)
    pixels = known.sum((1, 2))
    loss = (entropy * known).sum((1, 2)) / jnp.maximum(pixels, 1.0)
    if dice_weight:
        share = jax.nn.softmax(logits)[..., 1:] * known[..., None]
        target = jax.nn.one_hot(truth, logits.shape[-1])[..., 1:] * known[..., None]
        overlap = (share * target).sum((1, 2))
        size = share.sum((1, 2)) + target.sum((1, 2))
        dice = ((2 * overlap + 1.0) / (size + 1.0)).mean(-1)
        loss = loss + dice_weight * (1.0 - dice)  # Dice of nothing is 1.
    return loss


def focal(
    logits: jax.Array, label: jax.Array, *, focus: float, positive_weight: float
) -> jax.Array:
    """Binary cross-entropy that counts the less, the surer and righter a logit is.

    Args:
      logits: float32 [...].
      label: bool, the same shape.
      focus: Power of one less the probability of the label; 0: plain cross-entropy.
      positive_weight: Factor of positives; negatives have one less it.

    Returns:
      Loss in nats, float32 [...].

    Source:
      Lin et al. 2017, "Focal loss for dense object detection", eq. 5.
    """
    agreeing = jnp.where(label, logits, -logits)
    weight = jnp.where(label, positive_weight, 1.0 - positive_weight)
    return -weight * jax.nn.sigmoid(-agreeing) ** focus * jax.nn.log_sigmoid(agreeing)
