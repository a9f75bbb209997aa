"""Depthwise convolution by taps against XLA's own, with its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import depthwise


def xla_convolve(inputs, kernel, dilation):
    pad = dilation * (kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        inputs,
        kernel,
        (1, 1),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=inputs.shape[-1],
    )


def whole_numbers(shape, dtype):
    """So small that products and their sums are exact in any order."""
    numbers = np.random.default_rng(len(shape)).integers(-3, 4, shape)
    return jnp.asarray(numbers, dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize(("size", "side"), [((9, 6), 7), ((2, 3), 7), ((5, 4), 3)])
def test_result_and_gradients_are_xlas(size, side, dilation, dtype):
    inputs = whole_numbers((2, *size, 3), dtype)
    kernel = whole_numbers((side, side, 1, 3), dtype)

    outputs, pull = jax.vjp(
        lambda x, k: depthwise.convolve_by_taps(x, k, dilation), inputs, kernel
    )
    expected, expected_pull = jax.vjp(
        lambda x, k: xla_convolve(x, k, dilation), inputs, kernel
    )

    assert outputs.dtype == dtype
    np.testing.assert_array_equal(outputs, expected)
    slope = whole_numbers(expected.shape, dtype)
    for found, wanted in zip(pull(slope), expected_pull(slope), strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, wanted)


def test_devices_that_divide_a_batch_exchange_the_kernels_gradient_alone():
    mesh = jax.make_mesh((8,), ("data",))
    divided = jax.NamedSharding(mesh, jax.P("data"))
    everywhere = jax.NamedSharding(mesh, jax.P())
    inputs = whole_numbers((16, 6, 6, 3), jnp.float32)
    kernel = whole_numbers((7, 7, 1, 3), jnp.float32)

    def gradients(inputs, kernel):
        def loss(inputs, kernel):
            return jnp.square(depthwise.convolve_by_taps(inputs, kernel, 1)).sum()

        return jax.grad(loss, argnums=(0, 1))(inputs, kernel)

    program = jax.jit(
        gradients,
        in_shardings=(divided, everywhere),
        out_shardings=(divided, everywhere),
    ).lower(inputs, kernel)
    text = str(program.compile().as_text())

    assert "all-gather" not in text
    assert "all-to-all" not in text
    one = jax.jit(gradients)(inputs, kernel)
    parts = jax.device_put(inputs, divided), jax.device_put(kernel, everywhere)
    for found, wanted in zip(program.compile()(*parts), one, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_kernel_of_more_channels_is_refused():
    inputs, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))

    with pytest.raises(ValueError, match=r"kernel of shape \(3, 3, 2, 2\)"):
        depthwise.convolve(inputs, kernel, rhs_dilation=(1, 1))
