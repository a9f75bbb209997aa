"""Max pooling against the plain definition and XLA's own gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import pooling


def xla_pool(inputs):
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return jax.lax.reduce_window(
        inputs, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding
    )


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (2, 1), (1, 1)])
@pytest.mark.parametrize("step", [None, 1.0])  # Rounded to the step: many ties.
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_pooling_and_its_gradient_are_xlas(size, step, dtype):
    generator = np.random.default_rng(0)
    inputs = generator.normal(0, 2, (2, *size, 3))
    inputs = jnp.asarray(np.round(inputs) if step else inputs, dtype)

    outputs, pull = jax.vjp(pooling.max_pool, inputs)
    expected, expected_pull = jax.vjp(xla_pool, inputs)
    gradient = jnp.asarray(generator.integers(-8, 9, expected.shape), dtype)

    assert outputs.dtype == expected.dtype
    np.testing.assert_array_equal(outputs, expected)
    # Whole numbers, so that the order of at most four addends does not matter.
    np.testing.assert_array_equal(pull(gradient)[0], expected_pull(gradient)[0])


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 1)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradients_of_all_platforms_are_the_same(size, dtype):
    generator = np.random.default_rng(0)
    inputs = jnp.asarray(np.round(generator.normal(0, 2, (2, *size, 3))), dtype)
    shape = jax.eval_shape(pooling.max_pool, inputs).shape
    gradient = jnp.asarray(generator.integers(-8, 9, shape), dtype)

    scattered = pooling.scatter_gradient(inputs, gradient)
    gathered = pooling.gather_gradient(inputs, gradient)

    assert scattered.dtype == gathered.dtype == dtype
    np.testing.assert_array_equal(scattered, gathered)


def test_a_tie_goes_to_the_first_as_in_pytorch():
    inputs = jnp.zeros((1, 4, 4, 1))

    gradient = jax.grad(lambda x: pooling.max_pool(x).sum())(inputs)[0, :, :, 0]

    expected = np.zeros((4, 4))
    expected[[0, 0, 1, 1], [0, 1, 0, 1]] = 1  # First element of each clipped window.
    np.testing.assert_array_equal(gradient, expected)


def test_no_gradient_is_lost_when_what_comes_before_is_computed_again():
    # Compiled, the producer is part of two programs that may round it differently.
    keys = jax.random.split(jax.random.key(0))
    inputs = jax.random.normal(keys[0], (2, 16, 16, 4)) * 3
    scale = jax.random.normal(keys[1], (1, 1, 1, 4))
    weight = jnp.cos(jnp.arange(2.0 * 8 * 8 * 4)).reshape(2, 8, 8, 4)

    def gradient(pool):
        def loss(inputs):
            return (pool(jax.nn.relu(inputs * scale + 0.1)) * weight).sum()

        return jax.grad(loss)

    found = jax.jit(gradient(pooling.max_pool))(inputs)
    expected = gradient(xla_pool)(inputs)

    np.testing.assert_array_equal(found != 0, expected != 0)
    # Up to four addends of size 1 to 3, in another order.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)
