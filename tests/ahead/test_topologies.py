"""Slices by name. What needs the compiler of TPUs is skipped without it."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mtpret_jax.ahead import fitting, topologies
from mtpret_jax.training import sharding

compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs the compiler of TPUs, the extra `tpu`: make tpu-test",
)


@pytest.mark.parametrize("name", ["v5e:4x4", "gpu:a100:8", "tpu:v5e", "tpu:v9:2x2", ""])
def test_what_names_no_slice_is_refused(name):
    with pytest.raises(ValueError, match=r"names no slice of TPUs.*tpu:v5e:4x4"):
        topologies.devices(name)


def test_without_the_compiler_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ModuleNotFoundError, match=r"mtpret_jax\[tpu\]"):
        topologies.devices("tpu:v5e:2x2")


@compiler
def test_a_slice_that_is_not_made_is_refused():
    with pytest.raises(ValueError, match=r"tpu:v5e:3x5.*no such slice"):
        topologies.devices("tpu:v5e:3x5")


@compiler
@pytest.mark.parametrize(
    ("name", "count", "kind"),
    [
        ("tpu:v5e:1", 1, "TPU v5 lite"),
        ("tpu:v5e:2x4", 8, "TPU v5 lite"),
        ("tpu:v5e:16x16", 256, "TPU v5 lite"),
        ("tpu:v4:2x2x1", 4, "TPU v4"),
        ("tpu:v5p:2x2x1", 4, "TPU v5"),
        ("tpu:v6e:2x2", 4, "TPU v6 lite"),
    ],
)
def test_a_slice_has_a_device_for_each_chip(name, count, kind):
    found = topologies.devices(name)

    assert len(found) == count
    assert {device.device_kind for device in found} == {kind}


@compiler
def test_a_program_for_eight_chips_is_compiled_and_read():
    mesh = sharding.make_mesh(topologies.devices("tpu:v5e:2x4"))
    rows, everywhere = sharding.divided(mesh), NamedSharding(mesh, PartitionSpec())

    def mean(kernel, rows):
        def body(rows, _):
            return rows @ kernel, None

        return jax.lax.scan(body, rows, length=50)[0].mean(0)

    shapes = (
        jax.ShapeDtypeStruct((256, 256), jnp.bfloat16, sharding=everywhere),
        jax.ShapeDtypeStruct((8 * 64, 256), jnp.bfloat16, sharding=rows),
    )
    found = fitting.compile_step(jax.jit(mean, out_shardings=everywhere).lower(*shapes))

    assert found.operations == pytest.approx(50 * 2 * 64 * 256 * 256, rel=0.02)
    assert [loop.trips for loop in found.loops] == [50]
    assert found.cycles > 50 * 1000
    assert list(found.by_kind()) == ["all-reduce"]
    assert found.bytes >= 256 * 256 * 2
