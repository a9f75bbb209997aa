"""Operations are counted as XLA counts them, loops by trips; peaks are of one kind."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.training import operations, sharding, speed


def counted(function, *arguments) -> float:
    return operations.count(jax.jit(function).trace(*arguments).jaxpr)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [
        (1, "SAME", 1, 1),
        (2, "SAME", 1, 1),
        (2, "VALID", 1, 1),
        (1, "SAME", 3, 1),
        (2, "SAME", 1, 4),
    ],
)
def test_a_convolution_and_its_gradients_count_as_in_xla(
    stride, padding, dilation, groups
):
    kernel, image = jnp.ones((3, 3, 8 // groups, 12)), jnp.ones((2, 17, 19, 8))

    def loss(kernel, image):
        out = jax.lax.conv_general_dilated(
            image,
            kernel,
            (stride, stride),
            padding,
            rhs_dilation=(dilation, dilation),
            feature_group_count=groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return (out * out).sum()

    def step(kernel, image):
        return jax.grad(loss, argnums=(0, 1))(kernel, image)

    analysis = jax.jit(step).lower(kernel, image).cost_analysis()

    # XLA's figure has the sums and squares, too.
    assert counted(step, kernel, image) == pytest.approx(analysis["flops"], rel=0.03)


def test_a_backbone_counts_as_in_xla():
    backbone = models.build_backbone(
        # With three channels a stem is another one on TPUs, which is counted.
        schema.BackboneConfig(
            name="resnet18", width=16, in_channels=1, compute_dtype="float32"
        )
    )
    image = jnp.ones((2, 64, 64, 1))
    shapes = jax.eval_shape(lambda: backbone.init(jax.random.key(0), image))

    def apply(variables, image):
        return backbone.apply(variables, image, train=False, output_stride=32)[0].pooled

    analysis = jax.jit(apply).lower(shapes, image).cost_analysis()

    assert counted(apply, shapes, image) == pytest.approx(analysis["flops"], rel=0.05)


def test_a_loop_counts_by_its_trips():
    square = jnp.ones((8, 8))

    def scanned(x):
        return jax.lax.fori_loop(0, 5, lambda _, y: y @ square, x)

    assert counted(lambda x: x @ square, square) == 2 * 8**3
    assert counted(scanned, square) == 5 * 2 * 8**3


def test_the_program_of_one_device_counts_for_all():
    mesh = sharding.make_mesh(jax.devices()[:4])
    axis = PartitionSpec(sharding.AXIS)
    weights = jnp.ones((8, 8))

    def product(x):
        return jax.shard_map(
            lambda part: part @ weights, mesh=mesh, in_specs=axis, out_specs=axis
        )(x)

    assert counted(product, jnp.ones((16, 8))) == 2 * 16 * 8 * 8


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("TPU v2", 22.5),
        ("TPU v3", 61.5),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla V100-PCIE-32GB", 112),
        ("Tesla T4", 65),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA B200", 2250),
    ],
)
def test_peaks_are_found_by_device_kind(kind, teraflops):
    assert speed.peak(kind) == teraflops * 1e12


@pytest.mark.parametrize(
    "kind", ["cpu", "NVIDIA L40S", "NVIDIA GH200 480GB", "NVIDIA H100 MIG 1g.10gb", ""]
)
def test_other_devices_have_no_peak(kind):
    assert math.isnan(speed.peak(kind))


class _Clock:
    now = 0.0

    def __call__(self):
        return self.now


class _Device:
    device_kind = "NVIDIA L4"


def test_utilisation_is_the_model_s_operations_against_the_peak(monkeypatch):
    clock = _Clock()
    meter = speed.Meter([_Device, _Device], clock=clock)
    side = 1000
    batch = types.Batch({"x": np.ones((side, side), np.float32)}, "a")
    step = meter.counted(jax.jit(lambda state, batch: (state @ batch.arrays["x"], {})))

    def batches():
        for _ in range(2):
            clock.now += 0.5  # reads
            yield batch

    state = jnp.ones((side, side))
    for number, one in enumerate(meter.timed(batches())):
        state, _ = step(state, one)
        clock.now += 1.5
        with meter.paused():
            clock.now += 100  # evaluates
        meter.add("a", 32)
        assert number < 2
    found = meter.read()

    assert found.seconds == 4
    assert found.images_per_device == 64 / 4 / 2
    assert found.waited == 1.0
    assert found.waited_share == 0.25
    assert found.utilisation == pytest.approx(2 * 2e9 / 4 / (2 * 121e12))
    assert set((found - found).scalars()) == {"speed/input_wait_seconds"}
    assert set(found.scalars()) == {
        "speed/images_per_second_per_device",
        "speed/model_flop_utilisation",
        "speed/input_wait_seconds",
        "speed/input_wait_share",
    }
