"""`config show` and `config check`: what is said is what the training would do."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from mtpret_jax import config as schema
from mtpret_jax.cli import config_check as verb
from mtpret_jax.experiment import estimate

REPOSITORY = pathlib.Path(__file__).parents[2]


def call(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "mtpret_jax.main", "config", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env=dict(os.environ, XLA_FLAGS="", PYTHONPATH=str(REPOSITORY)),
    )


@pytest.fixture(scope="module")
def tiny():
    path = REPOSITORY / "configs" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return schema.parse(module.get_config("demo"))


def test_every_option_is_shown_as_it_will_be(tiny):
    done = call("show", "--config=configs/tiny.py:demo", "--config.seed=7")

    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    expected = json.loads(json.dumps(schema.as_dict(tiny)))
    assert shown == expected | {"seed": 7}


def test_a_config_that_breaks_a_rule_is_told(tmp_path):
    done = call("check", "--config=configs/tiny.py:demo", "--config.input.fit=squeeze")

    assert done.returncode == 1
    assert "squeeze" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("part", ["shw", ""])
def test_another_part_is_refused(part):
    done = call(*filter(None, [part]))

    assert done.returncode == 2
    assert "show" in done.stdout + done.stderr


def test_classes_of_a_set_that_is_not_prepared_are_the_config_s(monkeypatch):
    config = schema.defaults()
    config.datasets.knees = schema.dataset(
        "xray_folder", folder="/nowhere", labels={"grade": [0, 1, 2, 3, 4]}
    )
    config.tasks.grade = schema.task(
        kind="classification", dataset="knees", target="grade"
    )
    config.runs.scratch = schema.run(stage="finetune", finetune={"task": "grade"})
    seen = []
    monkeypatch.setattr(estimate, "estimate", lambda _, names: seen.append(names) or ())

    list(verb.check(schema.parse(config), None))

    grades = seen[0]["knees"]["label_names"]["grade"]
    assert grades == ["0", "1", "2", "3", "4"]


def test_costs_are_those_of_the_runs(tiny, monkeypatch):
    """Two kinds of run; compiling the others takes minutes."""
    kept = [
        name
        for name, row in tiny.runs.items()
        if row.stage == "contrastive"
        or (row.tasks and tiny.tasks[row.tasks[-1]].kind == "classification")
    ]
    tiny = dataclasses.replace(
        tiny, runs={name: tiny.runs[name] for name in kept if "continual" not in name}
    )

    costs = []
    real = estimate.estimate

    def noted(*arguments):
        for cost in real(*arguments):
            costs.append(cost)
            yield cost

    monkeypatch.setattr(estimate, "estimate", noted)
    said = verb.check(tiny, None)
    first = [next(said), next(said)]  # Before anything is compiled.
    assert not costs
    lines = first + list(said)

    assert "without compiling, reading, evaluating and reporting" in lines[-2]
    assert lines[-1].startswith("Not prepared in --data_dir, taken to have the classes")
    assert sum(len(cost.runs) for cost in costs) == len(tiny.runs)
    by_stage = {cost.stage: cost for cost in costs}
    assert by_stage["contrastive"].steps == tiny.runs["contrastive"].steps
    assert len(costs) == 2
    assert len(by_stage["finetune"].runs) > 1  # arms cost the same
    for cost in costs:
        assert cost.step_seconds > 0
        # Parameters of four bytes, and what the optimiser keeps of each.
        assert cost.state_bytes > 4 * cost.parameters
