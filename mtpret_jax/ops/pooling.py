"""Max pooling 3x3 with stride 2, and its gradient by what each platform does well.

XLA's own gradient of pooling scatters. TPUs have an instruction for it. A CPU does it
element by element: at a batch of 32 and 128 x 128 pixels that was a seventh of a
ResNet-18's training step. A GPU adds with atomics, in an order that changes from run to
run. So elsewhere the gradient gathers: a few element-wise operations in a fixed order.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_vjp
def max_pool(inputs: jax.Array) -> jax.Array:
    """Largest of each 3x3 window at stride 2, padded by one: the pooling of ResNets.

    As in PyTorch a window's gradient goes to the first of its largest elements.

    Args:
      inputs: Floating [B, H, W, C].

    Returns:
      [B, ceil(H / 2), ceil(W / 2), C] of the same dtype.
    """
    return _max_pool(inputs)


def _max_pool(inputs: jax.Array) -> jax.Array:
    return jax.lax.reduce_window(
        inputs,
        -jnp.inf,
        jax.lax.max,
        (1, 3, 3, 1),
        (1, 2, 2, 1),
        ((0, 0), (1, 1), (1, 1), (0, 0)),
    )


def _forward(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    return max_pool(inputs), inputs


def _backward(inputs: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    found = jax.lax.platform_dependent(
        inputs, gradient, tpu=scatter_gradient, default=gather_gradient
    )
    return (found,)


def scatter_gradient(inputs: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient of `max_pool` as XLA has it, for TPUs.

    Args:
      inputs: What is pooled, floating [B, H, W, C].
      gradient: That of the result, [B, ceil(H / 2), ceil(W / 2), C].

    Returns:
      [B, H, W, C] of the same dtype.
    """
    _, pull = jax.vjp(_max_pool, inputs)
    return pull(gradient)[0]


def gather_gradient(inputs: jax.Array, gradient: jax.Array) -> jax.Array:
    """The same as `scatter_gradient`, for all other platforms.

    Each element of the input gets what the windows that chose it hand back. Window `o`
    covers rows `2o - 1` to `2o + 1`. So an even row is the middle of one window, an odd
    row the end of one window and the start of the next; so columns.

    Args:
      inputs: What is pooled, floating [B, H, W, C].
      gradient: That of the result, [B, ceil(H / 2), ceil(W / 2), C].

    Returns:
      [B, H, W, C] of the same dtype.
    """
    batch, height, width, channels = inputs.shape
    rows, columns = gradient.shape[1:3]
    end = (1, 2 * rows - height, 0), (1, 2 * columns - width, 0)
    lowest = jnp.array(-jnp.inf, inputs.dtype)
    padded = jax.lax.pad(inputs, lowest, ((0, 0, 0), *end, (0, 0, 0)))
    # Elements are compared with each other, never with the output: what makes the
    # input may be computed again here, and rounded otherwise than there.
    largest = jnp.full(gradient.shape, lowest)
    chosen = jnp.full(gradient.shape, 9, jnp.uint8)  # Place in the window, row by row.
    for place in range(9):
        row, column = divmod(place, 3)
        element = padded[:, row : row + 2 * rows : 2, column : column + 2 * columns : 2]
        larger = element > largest
        largest = jnp.where(larger, element, largest)
        chosen = jnp.where(larger, jnp.uint8(place), chosen)

    def share(row: int, column: int) -> jax.Array:
        return jnp.where(chosen == 3 * row + column, gradient, 0)

    def odd_column(row: int) -> jax.Array:
        return share(row, 2) + _next(share(row, 0), axis=2)

    even = jnp.stack([share(1, 1), odd_column(1)], 3)
    odd = jnp.stack(
        [
            share(2, 1) + _next(share(0, 1), axis=1),
            odd_column(2) + _next(odd_column(0), axis=1),
        ],
        3,
    )
    spread = jnp.stack([even, odd], 2)  # [B, rows, 2, columns, 2, C]
    spread = spread.reshape(batch, 2 * rows, 2 * columns, channels)
    return spread[:, :height, :width]


def _next(array: jax.Array, *, axis: int) -> jax.Array:
    """The array moved one window back along the axis, zero at the end."""
    size = array.shape[axis]
    widths = [(0, int(i == axis)) for i in range(array.ndim)]
    return jax.lax.slice_in_dim(jnp.pad(array, widths), 1, size + 1, axis=axis)


max_pool.defvjp(_forward, _backward)
