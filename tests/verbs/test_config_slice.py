"""`config check --for`: a slice's four chips are devices of this machine here."""

import dataclasses
from typing import Any

import jax
import pytest

from mtpret_jax import config as schema
from mtpret_jax.ahead import topologies
from mtpret_jax.cli import command
from mtpret_jax.cli import config_check as verb
from mtpret_jax.experiment import estimate

SLICE = "tpu:v5e:2x2"


def small(**batches):
    """Classifiers with these batches, or two that share a step."""
    table: Any = schema.defaults()
    table.backbone.update(name="resnet18", width=4, in_channels=1)
    batches = batches or {"one": 32, "two": 32}
    labels = {name: ["no", "yes"] for name in batches}
    table.datasets.pictures = schema.dataset("xray_folder", folder="x", labels=labels)
    for name, batch in batches.items():
        table.tasks[name] = schema.task(
            kind="classification",
            dataset="pictures",
            target=name,
            image_size=32,
            batch_size=batch,
        )
        table.runs[name] = schema.run(stage="finetune", finetune={"task": name})
        table.runs[f"{name}_longer"] = schema.run(
            stage="finetune",
            seed=3,
            steps=7,
            finetune={"task": name},
            optimizer={"learning_rate": 0.3},
        )
    return schema.parse(table)


@pytest.fixture
def four_chips(monkeypatch):
    monkeypatch.setattr(topologies, "devices", lambda name: jax.devices()[:4])


def test_runs_that_differ_in_numbers_and_data_share_a_step():
    first, second = estimate.steps(small(one=32, two=32, other=16), {})

    assert first.runs == ("one", "one_longer", "two", "two_longer")
    assert first.names == ("one", "two")
    assert second.runs == ("other", "other_longer")
    assert second.part.batch_size == 16


def test_runs_of_another_recipe_do_not():
    config = small()
    runs = dict(config.runs)
    for name, options in {"one": {"ema": 0.9}, "two": {"trains": "head"}}.items():
        recipe = dataclasses.replace(runs[name].finetune, **options)
        runs[name] = dataclasses.replace(runs[name], finetune=recipe)

    steps = estimate.steps(dataclasses.replace(config, runs=runs), {})

    found = [step.runs for step in steps]
    assert found == [("one",), ("one_longer", "two_longer"), ("two",)]


def test_each_step_is_compiled_and_told(four_chips):
    head, titles, row, *lines = verb.check(small(), None, SLICE)

    assert f"For {SLICE}, 4 chips of 16 GiB, in float32. 1 steps" in head
    assert "a chip needs" in titles
    assert row.split()[:3] == ["4", "finetune", "32"]
    assert row.endswith("one, two")
    assert float(row.split("GiB")[1].split()[0]) > 0
    assert any(line.strip().startswith("all-reduce: ") for line in lines)
    assert any("largest batch: " in line for line in lines)
    assert not any("problem" in line or "advice" in line for line in lines)
    assert lines[-1].startswith("Not prepared in --data_dir")


def test_what_is_wrong_with_a_batch_is_a_line(four_chips, monkeypatch):
    monkeypatch.setattr("mtpret_jax.ahead.fitting.largest", lambda *given: "")

    lines = list(verb.check(small(padded=12, uneven=6), None, SLICE))

    wrong = [line.strip() for line in lines if "advice" in line or "problem" in line]
    advice = (
        "3 images on a chip are padded to 8 and cost as much: better a multiple of 8"
    )
    assert wrong == [f"advice: {advice}"] * 2
    assert "on 2 of 4 chips: they share its batches evenly" in map(str.strip, lines)


@pytest.mark.parametrize(("batch", "rows"), [(16, 32), (64, 32), (40, 8), (48, 16)])
def test_another_batch_is_made_of_whole_groups(batch, rows):
    (step,) = estimate.steps(small(), {})

    part = step.resized(batch).part

    assert (part.batch_size, part.batch_norm_rows) == (batch, rows)


def test_no_slice_is_asked_for_by_a_wrong_name():
    with pytest.raises(ValueError, match="'v5e' names no slice"):
        list(verb.check(small(), None, "v5e"))


def test_a_step_that_does_not_fit_is_a_problem(four_chips, monkeypatch):
    def full(lowered):
        raise MemoryError("does not fit: a chip needs 21.5GiB.")

    monkeypatch.setattr("mtpret_jax.ahead.fitting.compile_step", full)

    lines = [line.strip() for line in verb.check(small(), None, SLICE)]

    assert "problem: does not fit: a chip needs 21.5GiB." in lines
    assert "problem: not even a batch of 4 fits." in lines
    assert verb.code(lines) == command.MISTAKE
