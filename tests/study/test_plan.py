"""Which runs a study makes, and what they start from."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax.config import study_rules
from mtpret_jax.report import contents
from mtpret_jax.study import arms, plan

pytestmark = pytest.mark.smoke

Study = Callable[..., schema.ExperimentConfig]
FILE = "weights/r18.safetensors"
ALL = dict(arms=(*study_rules.ARMS, "published"))


def _ancestors(config: schema.ExperimentConfig, run: str) -> list[str]:
    """Names of the runs that a run descends from, the nearest first."""
    found = []
    while (run := config.runs[run].init_from) in config.runs:
        found.append(run)
    return found


def _stage_2_steps(row: schema.RunConfig) -> dict[str, int]:
    return dict.fromkeys(row.continual.tasks, row.steps * row.continual.rounds)


def test_the_table_of_arms_has_what_a_config_may_name():
    assert tuple(arms.ARMS) == study_rules.ARMS
    others = {row.untrained for row in arms.ARMS.values()} - {"", "longer"}
    assert others | {"mtpret"} <= set(arms.ARMS)


def test_every_arm_has_the_chain_that_its_name_says(study: Study):
    config = plan.expand(study(**ALL, single_queue_size=16))

    chains = {
        cell.arm: _ancestors(config, cell.run)
        for cell in plan.cells(config)
        if (cell.task, cell.fraction, cell.seed) == ("lungs", 0.1, 1)
    }
    first = "contrastive.s1"
    expected = {
        name: [f"{name}.f10.s1", first]
        for name in (
            "continual_plain",
            "mtpret",
            "memorization_only",
            "schedule_only",
            "anchor_previous_only",
            "anchor_pretrained_only",
        )
    }
    assert chains == expected | {
        "scratch": [],
        "published": [],
        "unetplusplus": [],
        "contrastive_single": ["contrastive_single.lung.s1"],
        "contrastive": [first],
        "joint_supervised": ["joint_supervised.f10.s1"],
        "control": ["control.lungs.f10.s1.extra", first],
        "control_updates": ["control_updates.lungs.f10.s1.extra", first],
        "head_carried": ["mtpret.f10.s1", first],
    }
    assert config.runs["published.lungs.f10.s1"].init_from == FILE
    assert config.runs["head_carried.lungs.f10.s1"].finetune.head == "carried"
    single = config.runs["contrastive_single.lung.s1"].contrastive
    assert (dict(single.datasets), single.queue_size) == ({"lung": 1.0}, 16)


def test_the_arms_of_a_task_are_fine_tuned_alike(study: Study):
    config = plan.expand(study(**ALL))
    budgets = collections.defaultdict(set)
    for cell in plan.cells(config):
        row = config.runs[cell.run]
        alike = dataclasses.replace(
            row, arm="", encoder="", init_from="", finetune=schema.FinetuneConfig()
        )
        budgets[cell.task, cell.fraction, cell.seed].add(json.dumps(repr(alike)))
        batches = row.finetune.batch_norm_batches
        assert (row.stage, batches) == ("finetune", 10)

    assert all(len(found) == 1 for found in budgets.values())
    assert config.runs["mtpret.boxes.f10.s0"].steps == 200
    assert config.runs["mtpret.lungs.f10.s0"].steps == 100
    assert config.runs["mtpret.lungs.f10.s0"].optimizer.learning_rate == 0.5
    assert config.runs["mtpret.boxes.f10.s0"].optimizer.learning_rate == 0.01


def test_every_stage_2_gives_a_task_as_many_steps(study: Study):
    config = plan.expand(study(**ALL))
    rows = {n: row for n, row in config.runs.items() if row.stage == "continual"}

    # Seven arms, and both controls of three tasks.
    assert len(rows) == 3 * 7 + 2 * 3 * 3
    for name, row in rows.items():
        whole = 3 if name.startswith("control_updates") else 1
        assert set(_stage_2_steps(row).values()) == {whole * 4 * 30}, name
        tasks = (name.split(".")[1],) if ".extra" in name else row.continual.tasks
        assert tasks == row.continual.tasks
    assert rows["mtpret.f10.s0"].continual.tasks == ("opacity", "boxes", "lungs")
    assert rows["joint_supervised.f10.s0"].steps == plan.INTERLEAVED


def test_stage_2_has_of_memorization_and_schedule_what_its_name_says(study: Study):
    config = plan.expand(study(**ALL))

    def parts(name: str) -> tuple[bool, ...]:
        stage = config.runs[f"{name}.f10.s0"].continual
        on = (stage.anchor_previous, stage.anchor_pretrained, stage.feature_memory)
        schedule = (stage.reshuffle, stage.cyclic, stage.rounds > 1)
        return (*(bool(value) for value in on), *schedule)

    assert parts("mtpret") == (True,) * 6
    # The curve starts again for each task, or the last would have next to no rate.
    assert parts("continual_plain") == (False,) * 4 + (True, False)
    assert parts("memorization_only") == (True,) * 3 + (False, True, False)
    assert parts("schedule_only") == (False,) * 3 + (True,) * 3
    assert parts("anchor_previous_only") == (True, False, False) + (True,) * 3
    assert parts("anchor_pretrained_only") == (False, True, False) + (True,) * 3
    assert parts("joint_supervised") == (False,) * 5 + (True,)
    control = config.runs["control.lungs.f10.s0.extra"].continual
    assert (control.anchor_previous, control.anchor_pretrained) == (0, 0)
    assert (control.cyclic, control.rounds) == (True, 4)


def test_what_is_held_out_is_in_no_pre_training(study: Study):
    for options in (ALL, {"arms": ("scratch", "mtpret")}):
        config = plan.expand(study(**options))
        for name, row in config.runs.items():
            if row.stage == "contrastive":
                assert "bone" not in row.contrastive.datasets, name
            elif row.stage == "continual":
                assert "fracture" not in row.continual.tasks, name
    assert set(config.runs["contrastive.s0"].contrastive.datasets) == {
        "chest",
        "lung",
        "teeth",
    }


def test_a_task_held_out_has_the_cells_that_make_sense(study: Study):
    cells = plan.cells(study(**ALL))
    runs = {cell.arm: cell.run for cell in cells if cell.task == "fracture"}

    assert set(study_rules.ARMS) - set(runs) == {
        "contrastive_single",
        "head_carried",
        "unetplusplus",
    }
    # No extra steps: the control is the contrastive arm itself, done once.
    assert runs["control"] == runs["contrastive"]


def test_the_control_of_equal_updates_has_those_of_stage_2(study: Study):
    config = plan.expand(study(**ALL))
    spent = contents.compute(config)

    for task in config.study.tasks:
        found = {arm: row.updates for arm, row in spent[task]["0.1"].items()}
        assert found["control_updates"] == found["mtpret"], task
        longer = 0 if task == "fracture" else 4 * 30
        assert found["control"] == found["contrastive"] + longer, task
    # Held out, a task is in no pre-training: stage 1 goes on instead.
    run = config.runs["control_updates.fracture.f10.s0"].init_from
    assert (config.runs[run].stage, config.runs[run].steps) == ("contrastive", 3 * 120)
    assert config.runs[run].init_from == "contrastive.s0"
    assert "bone" not in config.runs[run].contrastive.datasets


def test_the_control_of_a_task_held_out_is_made_without_the_contrastive_arm(
    study: Study,
):
    config = plan.expand(study(arms=("scratch", "control")))

    assert config.runs["contrastive.fracture.f10.s0"].init_from == "contrastive.s0"
    assert "contrastive.lungs.f10.s0" not in config.runs


def test_fraction_and_seed_bind_every_supervised_run(study: Study):
    config = plan.expand(dataclasses.replace(study(**ALL), seed=40))

    for name, row in config.runs.items():
        seed = int(name.split(".s")[1].partition(".")[0])
        assert row.seed == 40 + seed, name
        wanted = 0.1 if ".f10." in name else 1.0
        assert row.label_fraction == wanted, name
        if row.stage == "contrastive":
            assert ".f" not in name
        for ancestor in _ancestors(config, name):
            assert config.runs[ancestor].seed == row.seed
            parent = config.runs[ancestor]
            assert parent.label_fraction in (
                (row.label_fraction,) if parent.stage == "continual" else (1.0,)
            )


def test_pre_training_is_shared_and_made_once(study: Study):
    config = plan.expand(study(**ALL))
    stages = collections.Counter(row.stage for row in config.runs.values())
    cells = plan.cells(config)

    # Of two fractions and two seeds three pairs: 0.1 twice, 1.0 once.
    assert sum(name.startswith("contrastive.s") for name in config.runs) == 2
    # The two tasks of one set share its stage 1; that of the held-out task goes on.
    assert stages["contrastive"] == 2 + 2 * 2 + 2
    assert stages["finetune"] == len({cell.run for cell in cells}) == len(cells) - 3
    assert config.runs["mtpret.f10.s0"].init_from == "contrastive.s0"
    assert config.runs["mtpret.f100.s0"].init_from == "contrastive.s0"
    assert "mtpret.f100.s1" not in config.runs


def test_runs_come_after_what_they_start_from_and_seed_by_seed(study: Study):
    names = list(plan.expand(study(**ALL)).runs)

    assert names.index("contrastive.s1") > names.index("unetplusplus.lungs.f100.s0")
    assert names[0].startswith("scratch.")


def test_an_expanded_config_stays_as_it_is(study: Study):
    config = plan.expand(study(**ALL))

    assert plan.expand(config) == config
    stored = json.loads(json.dumps(schema.as_dict(config)))
    assert plan.expand(schema.parse(stored)) == config
    assert plan.expand(schema.ExperimentConfig()) == schema.ExperimentConfig()


def test_unetplusplus_reads_the_same_set_as_the_task(study: Study):
    config = plan.expand(study(**ALL))
    variant = config.tasks["lungs.unetplusplus"]

    assert variant.segmentation.head == "unetplusplus"
    same = dataclasses.replace(variant, segmentation=config.tasks["lungs"].segmentation)
    assert same == config.tasks["lungs"]
    row = config.runs["unetplusplus.lungs.f10.s0"]
    assert (row.init_from, row.tasks) == ("", ("lungs.unetplusplus",))
    assert row.optimizer.learning_rate == 0.5
    assert "opacity.unetplusplus" not in config.tasks


def test_stage_2_may_train_tasks_that_the_study_does_not_compare(study: Study):
    stage = dict(stage="continual", continual=dict(tasks=("opacity", "fracture")))
    config = study(tasks=("lungs", "fracture"), continual=stage, finetune_steps={})
    runs = {cell.run for cell in plan.cells(config) if cell.arm == "control"}

    stages = plan.expand(config).runs
    assert stages["mtpret.f10.s0"].continual.tasks == ("opacity",)
    # Of the tasks compared, stage 2 trains none: none gets steps more.
    assert all(run.startswith("contrastive.") for run in runs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": ("scrach",)}, "'scratch'"),
        ({"arms": ()}, "name at least one of"),
        ({"arms": ("scratch", "scratch")}, "comes twice"),
        ({"tasks": ("lungs", "fractur")}, "'fracture'"),
        ({"tasks": (), "hold_out": ()}, "name at least one task"),
        ({"hold_out": ("fractures",)}, "'fracture'"),
        ({"hold_out": ("boxes",)}, "'opacity' reads the same set 'chest'"),
        ({"seeds": (3,)}, "one number for each"),
        ({"seeds": (3, 0)}, "at least 1 each"),
        ({"fractions": (0.1, 1.5)}, "up to 1"),
        ({"fractions": (0.1, 0.1)}, "one comes twice"),
        ({"finetune_steps": {"lung": 4}}, "'lungs'"),
        ({"finetune_steps": {"lungs": 0}}, "at least 1"),
        ({"finetune": {"arm": "a"}}, "the study sets it for each run"),
        ({"finetune": {"finetune": {"task": "lungs"}}}, "the study sets task and head"),
        ({"finetune": {"finetune": {"frozen": True}}}, "by config.study.frozen"),
        (
            {"frozen": True, "tasks": ("lungs",), "hold_out": (), "finetune_steps": {}},
            "expected a task of classification",
        ),
        ({"continual": {"stage": "finetune"}}, "expected 'continual'"),
        ({"claims": ("mtpret-scratch",)}, "expected 'arm - arm'"),
        ({"claims": ("mtpret - published",)}, "Unknown arm in config.study.claims"),
        (
            {
                "arms": ("anchor_previous_only",),
                "continual": {
                    "stage": "continual",
                    "continual": {"anchor_previous": 0.0},
                },
            },
            "anchor_previous above 0",
        ),
    ],
)
def test_a_study_that_cannot_be_done_is_refused_with_advice(
    study: Study, options: dict[str, Any], message: str
):
    with pytest.raises(ValueError) as error:
        study(**options)

    assert message in str(error.value)
    assert "config.study" in str(error.value)


def test_the_start_is_measured_where_classes_are_told(study: Study):
    for wanted in (True, False):
        config = plan.expand(study(**ALL, frozen=wanted))
        for cell in plan.cells(config):
            is_class = cell.task in ("opacity", "fracture")
            found = config.runs[cell.run].finetune.frozen
            assert found == (wanted and is_class), cell


def test_an_arm_without_a_task_is_refused(study: Study):
    alone = dict(tasks=("opacity",), hold_out=(), finetune_steps={}, learning_rates={})

    with pytest.raises(ValueError, match=r"\['unetplusplus'\] have no task"):
        plan.expand(study(arms=("unetplusplus",), **alone))


def test_a_study_leaves_no_room_for_other_runs(study: Study):
    row = schema.RunConfig(finetune=schema.FinetuneConfig(task="lungs"))
    config = dataclasses.replace(study(), runs={"mine": row})

    with pytest.raises(ValueError, match=r"\['mine'\].*Leave config.runs empty"):
        plan.expand(config)


def test_a_run_that_was_made_keeps_the_rules(study: Study):
    stage = dict(
        stage="contrastive",
        contrastive=dict(datasets={"bone": 1.0}, batch_size=8, queue_size=64),
    )

    with pytest.raises(ValueError, match=r"contrastive.s0.*at least one set"):
        plan.expand(study(contrastive=stage))


def test_claims_are_pairs_of_arms(study: Study):
    config = study(claims=("mtpret - scratch", "mtpret - contrastive"))

    assert study_rules.claims(config.study) == (
        ("mtpret", "scratch"),
        ("mtpret", "contrastive"),
    )
