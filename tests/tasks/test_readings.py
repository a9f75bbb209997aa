"""Heads of numbers and of grades: what is learnt, told and predicted."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax import config as schema
from mtpret_jax import tasks, types
from mtpret_jax.metrics import regression
from mtpret_jax.ops import losses

GRADES = ("0", "1", "2", "3")
SET = {
    "label_names": {"grade": GRADES, "side": ("L", "R")},
    "values": {"months": "months"},
}


def _build(kind: str, scale: regression.Scale | None = None, **options: Any) -> Any:
    row = schema.TaskConfig(kind=kind, dataset="set", **options)
    names = {**SET, "scales": {"task": scale} if scale else {}}
    return tasks.build_tasks({"task": row}, {"set": names}, dtype=jnp.dtype("float32"))[
        "task"
    ]


def _features(rows: int = 3, second: Any = None) -> types.Features:
    pooled = jax.random.normal(jax.random.key(0), (rows, 6))
    return types.Features((pooled[:, None, None],), pooled, pooled, second)


def _batch(**arrays: Any) -> types.Batch:
    return types.Batch({name: jnp.asarray(x) for name, x in arrays.items()}, "task")


def test_a_number_is_learnt_in_deviations_and_told_in_its_unit():
    scale = regression.Scale(mean=100.0, deviation=40.0)
    task = _build("regression", scale, target="months")
    variables = task.init(jax.random.key(1), _features())

    value = task.predict(variables, _features())["value"]
    loss, _, _ = task.loss(
        jax.random.key(2), variables, _features(), _batch(value=value + 20.0)
    )

    output = _features().pooled @ variables.params["fc"]["kernel"][:, 0]
    np.testing.assert_allclose(value, 100 + 40 * output, rtol=1e-5)
    np.testing.assert_allclose(loss, 0.5, rtol=1e-4)


def test_what_is_told_beside_the_image_counts_and_unknown_counts_nothing():
    scale = regression.Scale(second=("F", "M"))
    task = _build("regression", scale, target="months", second_input="sex")
    variables = task.init(jax.random.key(1), _features())
    kernel = variables.params["fc"]["kernel"]
    assert kernel.shape == (8, 1)

    told = task.predict(variables, _features(second=jnp.array([0, 1, -1])))["value"]
    untold = task.predict(variables, _features())["value"]

    expected = jnp.array([kernel[6, 0], kernel[7, 0], 0.0])
    np.testing.assert_allclose(told - untold, expected, atol=1e-6)


def test_the_second_input_is_a_label_column_or_the_sex():
    by_side = _build("regression", target="months", second_input="side")
    assert by_side.scale.second == ("L", "R")
    by_sex = _build("regression", target="months", second_input="sex")
    assert by_sex.scale.second == ("F", "M")
    with pytest.raises(ValueError, match=r"second_input.*'sid'"):
        _build("regression", target="months", second_input="sid")
    with pytest.raises(ValueError, match=r"value column in config.tasks.task.target"):
        _build("regression", target="month")
    with pytest.raises(ValueError, match="only tasks of regression have it"):
        schema.parse(_config(kind="ordinal", second_input="sex"))


def test_a_set_without_values_says_how_it_gets_them():
    config = schema.TaskConfig(kind="regression", target="months")

    with pytest.raises(ValueError, match=r"has no values.*`values`.*--rebuild"):
        tasks.build_tasks({"task": config}, {"": {}}, dtype=jnp.float32)


def _config(**options: Any) -> Any:
    config = schema.defaults()
    config.datasets.set = schema.dataset("phantom_xray")
    config.tasks.task = schema.task(dataset="set", **options)
    return config


@pytest.mark.parametrize(
    ("kind", "option", "of"),
    [
        ("ordinal", {"exclusive": False}, "classification"),
        ("regression", {"exclusive": False}, "classification"),
        ("landmarks", {"exclusive": False}, "classification"),
        ("regression", {"landmarks": {"channels": 64}}, "landmarks"),
    ],
)
def test_what_means_nothing_to_a_kind_is_refused(kind, option, of):
    (name,) = option
    said = rf"tasks.task.{name}: only tasks of {of} have it, and this is one of {kind}"

    with pytest.raises(ValueError, match=said):
        schema.parse(_config(kind=kind, **option))


def test_grades_are_products_of_what_is_passed():
    logits = jnp.array([[0.3, -1.2, 2.0], [5.0, 0.0, -4.0]])

    found = np.exp(losses.grades(logits))

    higher = np.array(jax.nn.sigmoid(logits))
    for row, (a, b, c) in zip(found, higher, strict=True):
        wanted = [1 - a, a * (1 - b), a * b * (1 - c), a * b * c]
        np.testing.assert_allclose(row, wanted, rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_the_loss_is_that_of_corn_example_by_example():
    """Binary cross-entropies of the questions that an example reaches, added up."""
    task = _build("ordinal", target="grade")
    variables = task.init(jax.random.key(1), _features(4))
    label = jnp.eye(4)
    logits = _features(4).pooled @ variables.params["fc"]["kernel"]

    batch = _batch(label=label, label_known=jnp.ones((4, 4), bool))
    loss, _, _ = task.loss(jax.random.key(2), variables, _features(4), batch)

    assert logits.shape == (4, 3)
    for grade, question in itertools.product(range(4), range(3)):
        sign = 1 if grade > question else -1
        if grade >= question:  # Else it is not asked.
            loss = loss.at[grade].add(
                jax.nn.log_sigmoid(sign * logits[grade, question])
            )
    np.testing.assert_allclose(loss, 0, atol=1e-5)


@pytest.mark.parametrize("kind", ["regression", "ordinal"])
def test_the_mean_over_an_image_and_its_mirror_image_is_predicted(kind):
    target = {"regression": "months", "ordinal": "grade"}[kind]
    task = _build(kind, target=target, flip_at_test=True)
    one, other = _features(), _features().replace(pooled=-_features().pooled)
    variables = task.init(jax.random.key(1), one)

    both = task.predict(variables, one, other)

    for name, found in both.items():
        alone = [task.predict(variables, each)[name] for each in (one, other)]
        np.testing.assert_allclose(found, (alone[0] + alone[1]) / 2, atol=1e-5)
