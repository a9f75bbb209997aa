"""Convolutions to pass to `flax.linen.Conv(conv_general_dilated=...)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def convolve(
    inputs: jax.Array, kernel: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated`; on CPUs its neighbours stay outside it.

    XLA's CPU backend transposes inputs and gradients for the gradient of the kernel,
    and would compute the normalisation before (or after) it again, element by element
    along the wrong axis. The barriers make it copy arrays that are already there: a
    training step of ResNet-18 takes a tenth less. Other backends fuse better without:
    a TPU would need twice the cycles.
    """
    return _apart(
        jax.lax.conv_general_dilated(_apart(inputs), kernel, *args, **options)
    )


def _apart(array: jax.Array) -> jax.Array:
    """The array; where the program runs on a CPU, behind a barrier to fusion."""
    return jax.lax.platform_dependent(
        array, cpu=jax.lax.optimization_barrier, default=lambda same: same
    )


def enter(
    image: jax.Array, channels: int, dtype: jax.typing.DTypeLike
) -> tuple[jax.Array, Callable[..., jax.Array]]:
    """What a stem takes of an image, and by what it convolves that.

    Args:
      image: [B, H, W, 1], to be repeated; or [B, H, W, channels], whose channels
        differ, being normalised each by its own numbers.
      channels: What the stem takes.
      dtype: What the stem computes in.
    """
    image = image.astype(dtype)
    if image.shape[-1] != 1:
        return image, convolve
    return jnp.repeat(image, channels, axis=-1), convolve_grey


def convolve_grey(
    inputs: jax.Array, kernel: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """Convolves inputs [B, H, W, C] whose channels are all the same.

    A TPU, whose products are wide, takes a quarter less for three channels than for one
    (stem of 32 images of 224 pixels, with its gradient); others do less work for one.
    """
    return jax.lax.platform_dependent(
        inputs,
        kernel,
        tpu=lambda inputs, kernel: convolve_all(inputs, kernel, *args, **options),
        default=lambda inputs, kernel: convolve_one(inputs, kernel, *args, **options),
    )


def convolve_all(
    inputs: jax.Array, kernel: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """`convolve_grey` as it is said: every channel by its own part of the kernel."""
    return jax.lax.conv_general_dilated(inputs, kernel, *args, **options)


def convolve_one(
    inputs: jax.Array, kernel: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """The same by one channel and the sum of the kernel over its input channels."""
    return convolve(inputs[..., :1], kernel.sum(2, keepdims=True), *args, **options)
