"""The benchmarks' own parts on tiny networks; PyTorch is not needed."""

import argparse
import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np
import pytest

from benchmarks import comparison, contrastive, harness, ours
from mtpret_jax import config as schema
from mtpret_jax.data import transforms
from mtpret_jax.training import sharding

TURNING = "tests.benchmarks.turning_side"
TINY = {
    "network": "resnet18",
    "image_size": 32,
    "batch_size": 2,
    "dtype": "float32",
    "backbone": {"width": 4},
}
DETECTOR = {"channels": 8, "hidden": 16, "proposals_before_nms": 20, "proposals": 10}


def _side(name: str) -> harness.Side:
    return harness.Side(sys.executable, TURNING, {"name": name})


def test_sides_take_turns_and_alternate_who_is_first():
    with _side("a") as one, _side("b") as other:
        ways = {
            "a": lambda: one.ask("moment", wait=0.01),
            "b": lambda: other.ask("moment", wait=0.01),
        }
        found = harness.take_turns(ways, 3)

    order = [name for _, name in sorted(found["a"] + found["b"])]
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_a_side_that_fails_says_why():
    with _side("a") as side, pytest.raises(RuntimeError, match="a cannot do this"):
        side.ask("fail")


def test_a_file_of_figures_says_what_was_measured_where_and_when(tmp_path, monkeypatch):
    script = "/somewhere/benchmarks/contrastive.py"
    argv = [script, "--image_size=64", "--torch_python=/home/me/bin/python"]
    argv += ["--config=configs/detection.py:/home/me/sets"]
    monkeypatch.setattr(sys, "argv", argv)
    options = argparse.Namespace(results=str(tmp_path))

    harness.write(
        "Any question", {"rate": 1 / 3}, options, n=2, device="NVIDIA H100 80GB"
    )

    found = json.loads((tmp_path / "any_question_nvidia_h100_80gb.json").read_text())
    assert found["results"] == {"rate": 0.33333}
    assert found["command"] == (
        "python -m benchmarks.contrastive --image_size=64 --torch_python=python "
        "--config=configs/detection.py:sets"
    )
    assert found["n"] == 2
    assert found["machine"]["cores"] > 0
    assert found["versions"]["jax"] == jax.__version__
    assert found["date"].startswith("20")


def test_a_ratio_above_one_says_that_ours_is_faster(tmp_path):
    options = comparison.parser("").parse_args([f"--results={tmp_path}"])
    seconds = {comparison.OURS: [1.0, 2.0, 4.0], comparison.TORCH: [2.0, 6.0, 4.0]}
    made_from = comparison.settings("contrastive", options)
    facts = {comparison.OURS: {"device": "cpu", "parameters": 1}}

    found = {"end_to_end": comparison.rates(seconds, images=192)}
    comparison.write("asked", found, made_from, facts, options)

    results = json.loads((tmp_path / "asked_resnet18_128_cpu.json").read_text())
    assert results["results"]["end_to_end_ratio"] == 2.0
    assert results["results"]["end_to_end_ratio_range"] == [1.0, 3.0]
    assert found["end_to_end"][comparison.OURS]["median"] == 192 / 2.0


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("images")
    return contrastive.store_images(folder, images=8, size=64)


def test_both_sides_get_the_same_pixels(stored):
    source = ours.sources.open_prepared(stored["prepared"], "train")
    files = sorted(pathlib.Path(stored["files"]).iterdir())

    assert len(files) == len(source) == 8
    for record, path in enumerate(files):
        decoded = transforms.decode(np.frombuffer(path.read_bytes(), np.uint8))
        np.testing.assert_array_equal(decoded, source[record]["image"])


@pytest.mark.parametrize("kind", ["contrastive", "segmentation", "detection"])
def test_the_constant_batch_is_like_those_of_the_stream(kind, stored):
    config = ours.config(TINY | stored_of(stored) | {"kind": kind} | _options(kind))

    constant = ours.constant_batch(config)
    with ours.stream(config, stored["prepared"]) as batches:
        real = next(batches)

    assert constant.task == real.task
    shapes = jax.tree.map(lambda array: (array.shape, array.dtype), real.arrays)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), constant.arrays) == shapes


def stored_of(stored: dict) -> dict:
    return {"dataset": stored["dataset"], "prepared": stored["prepared"]}


def _options(kind: str) -> dict:
    if kind == "contrastive":
        return {kind: {"queue_size": 16, "batch_norm_rows": 0}}
    if kind == "detection":
        return {kind: DETECTOR}
    return {kind: {"channels": 8}}


@pytest.fixture
def one_device(monkeypatch):
    """Compiling for the tests' eight devices takes several times as long."""
    mesh = sharding.make_mesh(jax.devices()[:1])
    monkeypatch.setattr(sharding, "make_mesh", lambda: mesh)


@pytest.mark.slow
def test_our_side_does_the_steps_it_is_asked_for(stored, one_device):
    settings = TINY | stored_of(stored) | {"kind": "contrastive"}
    side = ours.Side(settings | _options("contrastive"))
    before = int(side._trainer.state.step)

    assert side.step(3) > 0
    assert side.end_to_end(2, warm_up=1) > 0
    tried = side.choose_readers([1, 2], 1, 0)

    assert int(side._trainer.state.step) == before + 3 + 3 + 2
    assert side._threads == (1 if tried[0] <= tried[1] else 2)


def test_pytorch_gets_the_changes_of_our_views():
    # The reference reads the fields by name.
    source = pathlib.Path(contrastive.__file__).parent / "reference" / "contrastive.py"
    read = source.read_text(encoding="utf-8")

    fields = [field.name for field in dataclasses.fields(schema.AugmentConfig)]
    assert [name for name in fields if f'drawn["{name}"]' not in read] == []
