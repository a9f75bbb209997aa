"""What is predicted of a compiled step, and that figures are kept."""

import jax
import numpy as np
import pytest

from benchmarks import harness, slices
from mtpret_jax.ahead import fitting, hlo, program


def options(*given: str):
    return slices.parser().parse_args(given)


GRADIENT = 100_000_000  # bytes


def figures(**kinds):
    row = {"chips": 256, "cycles": 15e6, "gradient": GRADIENT}
    return row | {"collectives": kinds}


def test_a_step_with_the_gradient_alone_is_bound_by_it():
    ring = 2 * GRADIENT * 255 / 256
    row = {"count": 1, "bytes": GRADIENT, "sent": ring}

    found = slices.predict(figures(reduce=row), options())

    assert found["milliseconds_computing"] == pytest.approx(10)
    assert found["beside_gradient"] == pytest.approx(0)
    assert found["gradient_alone"] == pytest.approx(0.01 / (0.01 + ring / 50e9))
    assert found["free_starts"] == pytest.approx(found["gradient_alone"])
    assert found["slow_starts"] == pytest.approx(0.01 / (0.01 + ring / 50e9 + 5e-6))


def test_what_is_sent_beside_the_gradient_and_many_starts_cost():
    ring = 2 * GRADIENT * 255 / 256
    rows = {
        "reduce": {"count": 100, "bytes": GRADIENT, "sent": ring},
        "gather": {"count": 20, "bytes": 1, "sent": 0.25 * ring},
    }

    found = slices.predict(figures(**rows), options())

    assert found["beside_gradient"] == pytest.approx(0.25)
    link = 1.25 * ring / 50e9
    assert found["free_starts"] == pytest.approx(0.01 / (0.01 + link))
    assert found["slow_starts"] == pytest.approx(0.01 / (0.01 + link + 120 * 5e-6))
    assert found["slow_starts_merged"] == pytest.approx(0.01 / (0.01 + link + 2 * 5e-6))


def test_a_gradient_counts_in_the_dtype_in_which_it_is_summed():
    def exchange(dtype, *sides):
        shapes = tuple(hlo.Shape(dtype, each) for each in sides)
        size = sum(shape.bytes for shape in shapes)
        return program.Collective("all-reduce", size, shapes, 8, 1, "")

    found = program.Program(
        8,
        0.0,
        0,
        # A kernel, a scale and a bias, and two statistics of a BatchNorm.
        (exchange("bf16", (3, 3, 8, 8)), exchange("f32", (8,), (8,), (8,), (8,))),
        (),
        {},
        {},
        0,
    )
    sides = {"kernel": (3, 3, 8, 8), "scale": (8,), "bias": (8,), "other": (5, 2)}
    params = {name: np.zeros(each) for name, each in sides.items()}

    assert slices.gradient(found, params) == 2 * 576 + 2 * 32 + 4 * 10


def test_a_stage_is_measured_and_its_figures_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "_compiler", lambda: {"libtpu": "none"})
    monkeypatch.setattr(harness, "show", lambda text: None)
    real = slices.summary  # A CPU's compiler estimates no cycles.
    monkeypatch.setattr(slices, "summary", lambda found: real(found) | {"cycles": 9})
    devices = {"one": jax.devices()[:1], "two": jax.devices()[:2]}

    small = options("--width=4", "--image_size=32", "--batch_size=4")
    small.kept = str(tmp_path)

    first = slices.measure("classification", devices, small)
    monkeypatch.delattr(fitting, "compile_step")
    again = slices.measure("classification", devices, small)

    assert again == first
    one, two = first["one"], first["two"]
    assert one["predicted"]["megabytes_sent"] == 0
    assert two["operations"] == pytest.approx(one["operations"], rel=0.05)
    assert "all-reduce" in two["collectives"]


def test_stage_2_holds_more_than_one_backbone():
    step = slices.step("continual", 2, options())

    assert step.row.stage == "continual"
    assert step.part.batch_size == 2 * step.part.batch_norm_rows
