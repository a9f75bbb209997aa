"""Transfers of a matrix whose values are known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest

from mtpret_jax import config as schema
from mtpret_jax.report import parts, transfer
from mtpret_jax.study import plan

pytestmark = pytest.mark.smoke

Study = Callable[..., schema.ExperimentConfig]
NAN = math.nan


def _matrix(*segments: tuple[str, int, dict[str, float]]) -> parts.Matrix:
    tasks = list(segments[-1][2])
    rows = [parts.Segment(task, turn, found, found) for task, turn, found in segments]
    return parts.Matrix(tasks, rows, dict.fromkeys(tasks, "auroc"), {})


ONE_ROUND = _matrix(
    ("a", 0, {"a": 0.9, "b": NAN, "c": NAN}),
    ("b", 0, {"a": 0.7, "b": 0.8, "c": NAN}),
    ("c", 0, {"a": 0.6, "b": 0.85, "c": 0.5}),
)


def test_backward_transfer_is_lopez_paz_of_one_round():
    found = transfer.backward(ONE_ROUND)

    assert found == pytest.approx({"a": -0.3, "b": 0.05})
    assert transfer.mean(ONE_ROUND, found) == pytest.approx(-0.125)


def test_backward_transfer_counts_from_the_last_own_segment():
    matrix = _matrix(
        ("a", 0, {"a": 0.9, "b": NAN}),
        ("b", 0, {"a": 0.1, "b": 0.8}),
        ("a", 1, {"a": 0.8, "b": 0.5}),
        ("b", 1, {"a": 0.6, "b": 0.9}),
    )

    assert transfer.backward(matrix) == pytest.approx({"a": -0.2})


def test_backward_transfer_of_what_was_not_measured_is_not_known():
    first, _, last = ONE_ROUND.segments
    partly = dataclasses.replace(ONE_ROUND, segments=[first, last])
    found = transfer.backward(partly)

    assert found["a"] == pytest.approx(-0.3)
    assert math.isnan(found["b"])
    assert math.isnan(transfer.mean(partly, found))
    # Of two rounds only the first measured task b right after its own segment.
    late = _matrix(("b", 0, {"a": 0.1, "b": 0.8}), ("a", 1, {"a": 0.8, "b": 0.5}))
    assert math.isnan(transfer.backward(late)["b"])


def test_what_is_forgotten_is_told_of_the_whole_split_and_of_enough_positives():
    whole = ({"a": 0.8}, {"b": 0.7}, {"a": 0.4, "b": 0.75, "c": 0.5})
    segments = [
        dataclasses.replace(segment, whole=values)
        for segment, values in zip(ONE_ROUND.segments, whole, strict=True)
    ]
    matrix = dataclasses.replace(ONE_ROUND, segments=segments)

    found = transfer.backward(matrix)

    assert found == pytest.approx({"a": -0.4, "b": 0.05})
    few = {"a": parts.Used(9, 9, is_enough=False), "b": parts.Used(40, 40)}
    told = transfer.mean(dataclasses.replace(matrix, measured_on=few), found)
    assert told == pytest.approx(0.05)
    assert math.isnan(transfer.mean(matrix, {}))


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
    later = [*ONE_ROUND.segments, *_matrix(*rounds).segments]
    longer = dataclasses.replace(ONE_ROUND, segments=later)
    again = transfer.forward(longer, alone, 30, 30)
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

    def forgets(lost: float) -> parts.Matrix:
        return _matrix(
            ("opacity", 0, {"opacity": 0.9, "lungs": NAN}),
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
    assert behind.by_seed == pytest.approx([-0.1, -0.2])
    assert behind.value == pytest.approx(-0.15)
    assert behind.spread == pytest.approx(0.1 / 2**0.5)
    plain = found["continual_plain"]["0.1"]
    assert plain["backward"].value == pytest.approx(-0.5)
    # After one segment of 30 steps, and of all 4 rounds in one go.
    assert described["mtpret.f10.s0"].forward_transfer == pytest.approx(0.3)
    assert plain["forward"].value == pytest.approx(0.0)
    # The control of this seed was not done.
    assert math.isnan(described["mtpret.f10.s1"].forward_transfer)


def test_of_errors_signs_are_turned_and_no_mean_is_taken():
    errors = dataclasses.replace(ONE_ROUND, metric={**ONE_ROUND.metric, "a": "mae"})

    found = transfer.backward(errors)
    kept = transfer._kept(errors, "a")

    assert found == pytest.approx({"a": 0.3, "b": 0.05})
    assert transfer.mean(errors, found) == pytest.approx(0.05)
    assert (kept.best, kept.last) == (0.6, 0.6)
    assert kept.forgotten == pytest.approx(0)
