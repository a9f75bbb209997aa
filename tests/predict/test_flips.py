"""Predictions that are means over an image and its mirror image."""

import dataclasses

import jax
import numpy as np
import pytest

from mtpret_jax import types
from mtpret_jax.inference import model as model_lib
from mtpret_jax.stages import supervised


@pytest.fixture
def image() -> jax.Array:
    return jax.random.normal(jax.random.key(5), (2, 64, 64, 1))


def flipping(plain: model_lib.Model) -> model_lib.Model:
    """The same model, had its task asked for it."""
    said = plain.description
    row = dataclasses.replace(said.tasks["task"], flip_at_test=True)
    said = dataclasses.replace(said, tasks={"task": row})
    return model_lib.Model(plain.tree, said, "task")


def test_a_classifier_predicts_the_mean_of_both(load, image):
    plain = load("classification")
    one, other = plain.compute(image), plain.compute(image[:, :, ::-1])

    found = flipping(plain).compute(image)

    probability = (one["probability"] + other["probability"]) / 2
    attention = (one["attention"] + other["attention"][:, :, ::-1]) / 2
    assert np.abs(one["probability"] - other["probability"]).max() > 1e-3
    np.testing.assert_allclose(found["probability"], probability, rtol=1e-5)
    np.testing.assert_allclose(found["attention"], attention, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["embedding"], one["embedding"], rtol=1e-5)


def test_a_mask_of_the_mirror_image_is_the_mirrored_mask(load, image):
    plain = load("segmentation")
    flips = flipping(plain)
    one, other = (plain.compute(x)["segmentation"] for x in (image, image[:, :, ::-1]))

    found, again = (
        flips.compute(x)["segmentation"] for x in (image, image[:, :, ::-1])
    )

    assert (one != other[:, :, ::-1]).mean() > 0.01
    np.testing.assert_array_equal(found, again[:, :, ::-1])

    learner = supervised.Learner(
        flips.network.backbone, {"task": flips.network.task}, {}, {}
    )
    params, state = (
        {
            "backbone": flips.tree["backbone"][part],
            "heads": {"task": flips.tree["head"][part]},
        }
        for part in ("params", "model_state")
    )
    batch = types.Batch({"image": image}, "task")
    measured = jax.jit(learner.predict)(params, state, batch)
    np.testing.assert_array_equal(measured["segmentation"], found)
