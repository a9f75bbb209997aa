"""What is done on CPUs only, and on TPUs only, follows the program's platform."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from mtpret_jax import config as schema
from mtpret_jax import models, types
from mtpret_jax.ahead import program, topologies
from mtpret_jax.models import convolution
from mtpret_jax.ops import pooling
from mtpret_jax.training import sharding

OPTIONS = {"padding": ((3, 3), (3, 3)), "window_strides": (2, 2)}
OPTIONS |= {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def gradient(remat=False):
    """A gradient of a narrow network, and the shapes that it takes."""
    options = {"name": "resnet50", "width": 8, "remat": remat}
    body = models.build_backbone(schema.BackboneConfig(**options))
    image = jax.ShapeDtypeStruct((4, 32, 32, 1), jnp.float32)
    variables = jax.eval_shape(body.init, jax.random.key(0), image)

    def loss(params, state, image):
        features, _ = body.apply(types.Variables(params, state), image, train=True)
        return jnp.square(features.pooled).sum()

    return jax.jit(jax.grad(loss)), (variables.params, variables.model_state, image)


def count(text: str) -> dict[str, int]:
    names = ("optimization_barrier", "select_and_scatter")
    return {name: len(re.findall(rf"stablehlo\.{name}", text)) for name in names}


@pytest.mark.parametrize("remat", [False, True])
def test_barriers_and_pooling_are_those_of_the_platform_lowered_for(remat):
    function, shapes = gradient(remat)
    traced = function.trace(*shapes)

    found = {
        platform: count(traced.lower(lowering_platforms=(platform,)).as_text())
        for platform in ("cpu", "cuda", "tpu")
    }

    own = {name: found[name]["select_and_scatter"] for name in found}
    assert own == {"cpu": 0, "cuda": 0, "tpu": 1}
    # Recomputation has one of its own for each block that is computed again.
    assert found["tpu"] == found["cuda"] | {"select_and_scatter": 1}
    barriers = {name: each["optimization_barrier"] for name, each in found.items()}
    assert barriers["cuda"] == (16 if remat else 0)
    assert barriers["cpu"] - barriers["cuda"] > 2 * 53


def test_an_export_for_one_platform_is_what_is_lowered_for_it():
    function, shapes = gradient()

    lowered = function.trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()
    exported = export.export(function, platforms=("tpu",))(*shapes)

    assert count(exported.mlir_module()) == count(lowered)
    assert count(lowered) == {"optimization_barrier": 0, "select_and_scatter": 1}


def test_an_export_for_several_platforms_computes_the_same_here():
    body = models.build_backbone(schema.BackboneConfig(name="resnet18", width=4))
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 1)), "float32")
    variables = jax.jit(body.init)(jax.random.key(0), image)

    @jax.jit
    def function(image):
        return body.apply(variables, image, train=False)[0].pooled

    exported = export.export(function, platforms=("cpu", "cuda", "tpu"))(image)

    np.testing.assert_allclose(exported.call(image), function(image), rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_channel_convolved_is_all_convolved(channels):
    generator = np.random.default_rng(0)
    grey = jnp.asarray(generator.normal(size=(2, 16, 16, 1)), "float32")
    kernel = jnp.asarray(generator.normal(size=(7, 7, channels, 4)), "float32")
    inputs = jnp.repeat(grey, channels, -1)
    ways = (
        convolution.convolve_all,
        convolution.convolve_one,
        convolution.convolve_grey,
    )

    def loss(kernel, way):
        return jnp.cos(way(inputs, kernel, **OPTIONS)).sum()

    outputs = [way(inputs, kernel, **OPTIONS) for way in ways]
    gradients = [jax.grad(loss)(kernel, way) for way in ways]

    for other in (1, 2):  # 147 addends of about one, in another order.
        np.testing.assert_allclose(outputs[other], outputs[0], atol=2e-5)
        np.testing.assert_allclose(gradients[other], gradients[0], atol=2e-4)


@pytest.mark.slow
def test_an_export_made_here_costs_a_tpu_what_is_lowered_for_it():
    pytest.importorskip("libtpu")
    mesh = sharding.make_mesh(topologies.devices("tpu:v5e:1"))
    shapes = [(7, 7, 3, 16), (8, 32, 32, 3)]

    def loss(kernel, image):
        hidden = convolution.convolve_grey(image, kernel, **OPTIONS)
        return jnp.square(pooling.max_pool(jax.nn.relu(hidden))).sum()

    function = jax.jit(jax.grad(loss))
    blank = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    exported = export.export(function, platforms=("cpu", "cuda", "tpu"))(*blank)
    where = sharding.replicated(mesh)
    placed = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where) for shape in shapes
    ]

    lowered, called = (
        program.read(each.lower(*placed).compile())
        for each in (function, jax.jit(exported.call))
    )

    assert called.cycles == lowered.cycles > 0
    assert called.operations == lowered.operations
