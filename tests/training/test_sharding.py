"""The order of devices, and what the compiled functions are compiled to."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import types
from mtpret_jax.ahead import topologies
from mtpret_jax.training import sharding


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device of a pod of 4x4 chips whose hosts have 2x2 of them."""

    id: int

    @property
    def process_index(self) -> int:
        return self.id // 8 * 2 + self.id % 4 // 2


def _assert_rows_of_a_process_follow_each_other(mesh):
    of_rows = [device.process_index for device in mesh.devices.flat]
    count = max(of_rows) + 1

    # As `pipeline.Shard` cuts a batch.
    np.testing.assert_array_equal(
        of_rows, np.repeat(np.arange(count), len(of_rows) // count)
    )


def test_rows_of_a_process_follow_each_other_whatever_the_wiring():
    chips = [Chip(number) for number in (5, 0, 15, 9, 4, 1, 8, 13)]
    chips += [Chip(number) for number in (2, 3, 6, 7, 10, 11, 12, 14)]

    mesh = sharding.make_mesh(chips)

    _assert_rows_of_a_process_follow_each_other(mesh)
    assert [chip.id for chip in mesh.devices.flat[:4]] == [0, 1, 4, 5]


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs the compiler of TPUs, the extra `tpu`",
)
@pytest.mark.parametrize("shape", ["2x4", "4x4", "8x8", "16x16"])
def test_rows_of_a_process_follow_each_other_on_pods(shape):
    devices = topologies.devices(f"tpu:v5e:{shape}")

    _assert_rows_of_a_process_follow_each_other(sharding.make_mesh(devices))


def test_predictions_stay_on_the_device_of_their_example():
    mesh = sharding.make_mesh()
    predict = sharding.compile_predict(
        lambda params, model_state, batch: {"sum": batch.arrays["image"].sum(1)}, mesh
    )
    image = np.arange(48, dtype=np.float32).reshape(16, 3)
    batch = sharding.put(types.Batch({"image": image}, "task"), mesh)

    outputs = predict({}, {}, batch)

    assert {shard.data.shape for shard in outputs["sum"].addressable_shards} == {(2,)}
    found = sharding.fetch_rows(outputs)
    np.testing.assert_array_equal(found["sum"], image.sum(1))


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


@pytest.mark.smoke
@pytest.mark.usefixtures("optimised")
def test_weights_are_those_of_a_plain_compilation(key):
    def init(key):
        return jax.nn.initializers.truncated_normal()(key, (3, 3, 4, 8))

    found = sharding.compile_init(init, sharding.make_mesh())(key)

    np.testing.assert_array_equal(found, jax.jit(init)(key))
    assert found.sharding.is_fully_replicated
