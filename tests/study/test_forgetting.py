"""Transfers of a matrix whose values are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from mtpret_jax import config as schema
from mtpret_jax.report import transfer
from mtpret_jax.study import plan

pytestmark = pytest.mark.smoke

Study = Callable[..., schema.ExperimentConfig]


def _matrix(*segments: tuple[str, int, dict[str, float | None]]) -> dict[str, Any]:
    tasks = list(segments[-1][2])
    return {
        "tasks": tasks,
        "metric": dict.fromkeys(tasks, "auroc"),
        "segments": [
            {"task": task, "round": round_, "steps": 0, "values": values}
            for task, round_, values in segments
        ],
    }


ONE_ROUND = _matrix(
    ("a", 0, {"a": 0.9, "b": None, "c": None}),
    ("b", 0, {"a": 0.7, "b": 0.8, "c": None}),
    ("c", 0, {"a": 0.6, "b": 0.85, "c": 0.5}),
)


def test_backward_transfer_is_lopez_paz_of_one_round():
    found = transfer.backward(ONE_ROUND)

    assert found == pytest.approx({"a": -0.3, "b": 0.05})
    assert transfer.mean(found) == pytest.approx(-0.125)


def test_backward_transfer_counts_from_the_last_own_segment():
    matrix = _matrix(
        ("a", 0, {"a": 0.9, "b": None}),
        ("b", 0, {"a": 0.1, "b": 0.8}),
        ("a", 1, {"a": 0.8, "b": 0.5}),
        ("b", 1, {"a": 0.6, "b": 0.9}),
    )

    assert transfer.backward(matrix) == pytest.approx({"a": -0.2})


def test_backward_transfer_of_what_was_not_measured_is_not_known():
    segments = [ONE_ROUND["segments"][0], ONE_ROUND["segments"][2]]
    found = transfer.backward({**ONE_ROUND, "segments": segments})

    assert found["a"] == pytest.approx(-0.3)
    assert math.isnan(found["b"])
    assert math.isnan(transfer.mean(found))
    # Of two rounds only the first measured task b right after its own segment.
    late = _matrix(("b", 0, {"a": 0.1, "b": 0.8}), ("a", 1, {"a": 0.8, "b": 0.5}))
    assert math.isnan(transfer.backward(late)["b"])


def test_what_is_forgotten_is_told_of_the_whole_split_and_of_enough_positives():
    segments = [dict(segment) for segment in ONE_ROUND["segments"]]
    segments[0]["whole"], segments[1]["whole"] = {"a": 0.8}, {"b": 0.7}
    segments[2]["whole"] = {"a": 0.4, "b": 0.75, "c": 0.5}
    matrix = {**ONE_ROUND, "segments": segments}

    found = transfer.backward(matrix)

    assert found == pytest.approx({"a": -0.4, "b": 0.05})
    few = {"a": {"is_enough": False}, "b": {"is_enough": True}}
    told = transfer._told({**matrix, "measured_on": few}, found)
    assert told == pytest.approx({"b": 0.05})
    assert math.isnan(transfer.mean({}))


def test_forward_transfer_is_what_the_control_learns_in_as_many_steps():
    alone = {
        "b": _matrix(("b", 0, {"b": 0.75}), ("b", 1, {"b": 0.9})),
        "c": _matrix(("c", 0, {"c": 0.6}), ("c", 1, {"c": 0.7})),
    }

    same = transfer.forward(ONE_ROUND, alone, 30, 30)
    twice = transfer.forward(ONE_ROUND, alone, 60, 30)

    assert same == pytest.approx({"b": 0.05, "c": -0.1})
    assert twice == pytest.approx({"b": -0.1, "c": -0.2})
    # What counts is the first time: task b is better later.
    rounds = [("a", 1, {"a": 0.9, "b": 0.9, "c": 0.9})]
    rounds += [("b", 1, {"a": 0.9, "b": 0.99, "c": 0.9})]
    later = ONE_ROUND["segments"] + _matrix(*rounds)["segments"]
    again = transfer.forward({**ONE_ROUND, "segments": later}, alone, 30, 30)
    assert again == pytest.approx(same)
    none = transfer.forward(ONE_ROUND, {}, 30, 30)
    assert list(none) == ["b", "c"]
    assert all(math.isnan(value) for value in none.values())


def test_arms_with_and_without_memorization(study: Study):
    config = plan.expand(
        study(
            tasks=("opacity", "lungs"),
            hold_out=(),
            arms=("scratch", "control", "continual_plain", "mtpret", "head_carried"),
            fractions=(0.1,),
            seeds=(2,),
            finetune_steps={},
        )
    )

    def forgets(lost: float) -> dict[str, Any]:
        return _matrix(
            ("opacity", 0, {"opacity": 0.9, "lungs": None}),
            ("lungs", 0, {"opacity": 0.9 - lost, "lungs": 0.8}),
        )

    rounds = config.study.continual.continual.rounds
    alone = _matrix(*[("lungs", n, {"lungs": 0.5 + 0.1 * n}) for n in range(rounds)])
    described = transfer.describe(
        config,
        {
            "mtpret.f10.s0": forgets(0.1),
            "mtpret.f10.s1": forgets(0.2),
            "continual_plain.f10.s0": forgets(0.5),
            "control.lungs.f10.s0.extra": alone,
        },
    )
    found = transfer.transfer(described)

    assert list(found) == ["mtpret", "continual_plain"]
    behind = found["mtpret"]["0.1"]["backward"]
    assert behind["by_seed"] == pytest.approx([-0.1, -0.2])
    assert behind["value"] == pytest.approx(-0.15)
    assert behind["spread"] == pytest.approx(0.1 / 2**0.5)
    plain = found["continual_plain"]["0.1"]
    assert plain["backward"]["value"] == pytest.approx(-0.5)
    # After one segment of 30 steps, and of all 4 rounds in one go.
    assert described["mtpret.f10.s0"]["forward_transfer"] == pytest.approx(0.3)
    assert plain["forward"]["value"] == pytest.approx(0.0)
    # The control of this seed was not done.
    assert math.isnan(described["mtpret.f10.s1"]["forward_transfer"])
