"""What the compiled functions are compiled to."""

import jax
import jax.numpy as jnp

from mtpret_jax import types
from mtpret_jax.training import sharding


def test_convolutions_are_left_to_eigen_on_cpus():
    def predict(params, model_state, batch):
        del model_state  # There is none.
        image = batch.arrays["image"]
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image, params, (1, 1), "SAME", dimension_numbers=layout
        )

    compiled = sharding.compile_predict(predict, sharding.make_mesh(jax.devices()[:1]))
    # Eigen has small convolutions anyhow.
    batch = types.Batch({"image": jnp.ones((32, 32, 32, 64))}, "task")

    text = compiled.lower(jnp.ones((3, 3, 64, 64)), {}, batch).compile().as_text()

    assert " convolution(" in text
    assert "__ynn_fusion" not in text
