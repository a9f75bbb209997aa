"""Parity of the losses of stage 1 with lightly's, gradients too.

In float64 to 1e-9, in float32 to 1e-5 of the largest number.
"""

import drawing
import jax
import jax.numpy as jnp
import make_objectives_goldens as goldens
import numpy as np
import pytest

from mtpret_jax.ops import self_supervision

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}


def moco_v3(query):
    keys, own = jnp.asarray(goldens.unit("keys"), query.dtype), jnp.arange(len(query))
    loss, _ = self_supervision.batch_contrast(
        query, keys, own, temperature=goldens.TEMPERATURE
    )
    return loss.mean()


def dino(*student):
    dtype = student[0].dtype
    teacher = [jnp.asarray(goldens.outputs(f"teacher {n}"), dtype) for n in range(2)]
    center = jnp.asarray(goldens.outputs("center")[0], dtype)
    terms = [
        self_supervision.distillation(
            view,
            other,
            center,
            student_temperature=goldens.STUDENT,
            teacher_temperature=goldens.TEACHER,
        )
        for number, view in enumerate(student)
        for place, other in enumerate(teacher)
        if number != place
    ]
    return jnp.stack(terms).mean()


def lejepa(projections):
    directions = jnp.asarray(goldens.directions(), projections.dtype)
    center = projections[:2].mean(0)
    likeness = jnp.square(center[None] - projections).mean()
    spread = jnp.stack(
        [self_supervision.gaussian_distance(x, directions) for x in projections]
    )
    return goldens.WEIGHT * spread.mean() + (1 - goldens.WEIGHT) * likeness


def mae(predicted):
    image = jnp.asarray(goldens.pictures(), predicted.dtype)
    patch = self_supervision.patches(image, goldens.SIDE)
    hidden = jnp.asarray(goldens.hidden())
    return self_supervision.reconstruction(predicted, patch, hidden).mean()


STUDENTS = [goldens.outputs(f"student {n}") for n in range(2 + goldens.SMALL)]
CASES = {
    "moco_v3": (moco_v3, [goldens.unit("query")]),
    "dino": (dino, STUDENTS),
    "lejepa": (lejepa, [goldens.views()]),
    "mae": (mae, [goldens.predicted()]),
}


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("name", CASES)
def test_a_loss_and_its_gradients_are_those_of_lightly(name, dtype):
    loss, given = CASES[name]
    given = [jnp.asarray(x, dtype) for x in given]
    with np.load(drawing.FOLDER / "objectives.npz") as golden:
        wanted = [golden[f"{name}_{place}"] for place in range(1 + len(given))]

    value, gradients = jax.value_and_grad(loss, argnums=tuple(range(len(given))))(
        *given
    )

    for found, expected in zip([value, *gradients], wanted, strict=True):
        assert found.dtype == dtype
        error = np.abs(np.asarray(found, np.float64) - expected).max()
        assert error <= TOLERANCE[dtype] * np.abs(expected).max()
