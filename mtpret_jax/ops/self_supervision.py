"""Losses of stage 1 beside `losses.info_nce`: of embeddings and patches, labels unused.

Each keeps its example axis where it has one; the caller reduces.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_KNOTS = 17  # frequencies of `gaussian_distance`
_HIGHEST = 3.0  # the last of them
_EXACT = jax.lax.Precision.HIGHEST  # a TPU would round embeddings to bfloat16
_STEADY = 1e-6  # added to the variance of a patch


def batch_contrast(
    query: jax.Array,
    keys: jax.Array,
    own: jax.Array,
    *,
    temperature: float,
    excluded: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Contrasts each query with the keys of a batch, one of which is its own.

    Args:
      query: Embeddings of unit length, float [B, D].
      keys: Embeddings of unit length, float [N, D].
      own: Which key shows the query's image, int32 [B].
      temperature: Softmax temperature, above 0.
      excluded: Keys that do not count for a query, its own among them or not, bool
        [B, N]; None: all do.

    Returns:
      Loss of each query in nats times twice the temperature, float [B]; and whether
      its own key came first, bool [B].

    Source: Chen, Xie and He 2021, "An empirical study of training self-supervised
    vision transformers" (MoCo v3), algorithm 1.
    """
    logits = jnp.matmul(query, keys.T, precision=_EXACT) / temperature
    mine = own[:, None] == jnp.arange(len(keys))[None]
    if excluded is not None:
        logits = jnp.where(excluded & ~mine, -jnp.inf, logits)
    loss = -jnp.where(mine, jax.nn.log_softmax(logits, axis=-1), 0.0).sum(-1)
    return 2 * temperature * loss, jnp.argmax(logits, axis=-1) == own


def distillation(
    student: jax.Array,
    teacher: jax.Array,
    center: jax.Array,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> jax.Array:
    """How far a student is from a teacher's choice among prototypes.

    Args:
      student: Outputs, float [..., K].
      teacher: Outputs for another view, with no gradient, float [..., K].
      center: What is taken off the teacher's, float [K].
      student_temperature: Temperature of its softmax, above 0.
      teacher_temperature: Temperature of its softmax, above 0.

    Returns:
      Cross-entropy in nats, float [...].

    Source: Caron et al. 2021, "Emerging properties in self-supervised vision
    transformers" (DINO), algorithm 1.
    """
    lead = (None,) * (teacher.ndim - 1)
    chosen = jax.nn.softmax((teacher - center[lead]) / teacher_temperature)
    told = jax.nn.log_softmax(student / student_temperature)
    return -jnp.sum(chosen * told, axis=-1)


def gaussian_distance(embedding: jax.Array, directions: jax.Array) -> jax.Array:
    """How far embeddings are from an isotropic Gaussian, along some directions.

    The mean over directions of the statistic of Epps and Pulley: the squared distance
    between the characteristic functions, weighted by that of the Gaussian, integrated
    from -3 to 3 by the trapezoidal rule at 17 frequencies of either sign, times N.

    Args:
      embedding: float [..., N, D].
      directions: Vectors of unit length, float [D, M].

    Returns:
      float [...].

    Source: Balestriero and LeCun 2025, "LeJEPA" (SIGReg); range and frequencies are
    those of the authors' code.
    """
    count = embedding.shape[-2]
    step = _HIGHEST / (_KNOTS - 1)
    frequency = jnp.linspace(0.0, _HIGHEST, _KNOTS, dtype=embedding.dtype)
    gaussian = jnp.exp(-jnp.square(frequency) / 2)
    ends = jnp.full(_KNOTS, 2 * step, embedding.dtype).at[jnp.array([0, -1])].set(step)
    along = jnp.matmul(embedding, directions, precision=_EXACT)
    waves = frequency.reshape((1,) * along.ndim + (-1,))

    @jax.checkpoint  # Or the angles would be kept, 17 times the embeddings.
    def means(along: jax.Array) -> jax.Array:
        """Of all examples: both parts of the function, [..., M, frequencies, 2]."""
        angle = along[..., None] * waves
        return jnp.stack([jnp.cos(angle).mean(-3), jnp.sin(angle).mean(-3)], -1)

    found = means(along)
    lead = (None,) * (found.ndim - 2)
    apart = jnp.square(found[..., 0] - gaussian[lead]) + jnp.square(found[..., 1])
    return count * (apart * (ends * gaussian)[lead]).sum(-1).mean(-1)


def patches(image: jax.Array, side: int) -> jax.Array:
    """Cuts an image into squares, row by row: [B, H, W, 1] to [B, N, side * side]."""
    batch, height, width, _ = image.shape
    rows, columns = height // side, width // side
    cut = image.reshape(batch, rows, side, columns, side)
    return jnp.swapaxes(cut, 2, 3).reshape(batch, rows * columns, side * side)


def reconstruction(
    predicted: jax.Array, patch: jax.Array, hidden: jax.Array
) -> jax.Array:
    """Mean squared error of the hidden patches, each normalised by itself.

    Args:
      predicted: float [B, N, P].
      patch: The pixels, float [B, N, P].
      hidden: Which patches count, bool [B, N]; one at least of each image.

    Returns:
      float [B].

    Source: He et al. 2022, "Masked autoencoders are scalable vision learners", 3
    (normalised pixels as targets). Their variance is unbiased.
    """
    variance = patch.var(-1, keepdims=True, ddof=1)
    target = (patch - patch.mean(-1, keepdims=True)) / jnp.sqrt(variance + _STEADY)
    error = jnp.square(predicted - target).mean(-1)
    return jnp.sum(error * hidden, -1) / jnp.sum(hidden, -1)
