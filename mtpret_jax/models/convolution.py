"""Convolutions to pass to `flax.linen.Conv(conv_general_dilated=...)`."""

from __future__ import annotations

from typing import Any

import jax


def convolve(
    inputs: jax.Array, kernel: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """`jax.lax.conv_general_dilated`; on CPUs its neighbours stay outside it.

    XLA's CPU backend transposes inputs and gradients for the gradient of the kernel,
    and would compute the normalisation before (or after) it again, element by element
    along the wrong axis. The barriers make it copy arrays that are already there: a
    training step of ResNet-18 takes a tenth less. Other backends fuse better without;
    which backend it is is asked of JAX's default, as no mesh is known here.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(inputs, kernel, *args, **options)
    inputs = jax.lax.optimization_barrier(inputs)
    outputs = jax.lax.conv_general_dilated(inputs, kernel, *args, **options)
    return jax.lax.optimization_barrier(outputs)


def convolve_grey(
    inputs: jax.Array, kernel: jax.Array, *args: Any, **options: Any
) -> jax.Array:
    """`convolve` for inputs [B, H, W, C] whose channels are all the same.

    Convolves one channel by the sum of the kernel over its input channels: the same
    function with a C-th of the work.
    """
    return convolve(inputs[..., :1], kernel.sum(2, keepdims=True), *args, **options)
