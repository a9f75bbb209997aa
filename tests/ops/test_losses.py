"""Losses against numbers worked out by hand; unknown values count for nothing."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import losses


def test_equal_similarities_cost_the_logarithm_of_their_number():
    one = jnp.ones((2, 4)) / 2.0

    loss, first = losses.info_nce(one, one, jnp.tile(one[:1], (7, 1)), temperature=0.2)

    np.testing.assert_allclose(loss, math.log(8), rtol=1e-5)
    assert not first.any()  # A tie is no win.


def test_a_positive_alone_costs_nothing_much():
    query = jnp.asarray([[1.0, 0.0]])
    negatives = jnp.asarray([[-1.0, 0.0]])

    loss, first = losses.info_nce(query, query, negatives, temperature=0.1)

    np.testing.assert_allclose(loss, math.log1p(math.exp(-20.0)), atol=1e-6)
    assert first.all()


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature must be above 0"):
        losses.info_nce(
            jnp.ones((1, 2)), jnp.ones((1, 2)), jnp.ones((1, 2)), temperature=0
        )


def test_unknown_labels_do_not_change_the_loss():
    logits = jnp.asarray([[0.3, -1.0, 2.0]])
    known = jnp.asarray([[True, True, False]])

    def loss(last):
        label = jnp.asarray([[1.0, 0.0, last]])
        return losses.classification(logits, label, known, exclusive=False)

    np.testing.assert_array_equal(loss(0.0), loss(1.0))
    expected = (math.log1p(math.exp(-0.3)) + math.log1p(math.exp(-1.0))) / 2
    np.testing.assert_allclose(loss(0.0), expected, rtol=1e-5)


def test_exclusive_classes_use_softmax():
    logits = jnp.zeros((1, 4))
    label = jnp.asarray([[0.0, 1.0, 0.0, 0.0]])

    loss = losses.classification(logits, label, jnp.ones((1, 4), bool), exclusive=True)

    np.testing.assert_allclose(loss, math.log(4), rtol=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_wholly_unknown_example_costs_nothing(exclusive):
    known = jnp.zeros((1, 2), bool)

    loss = losses.classification(
        jnp.ones((1, 2)), jnp.zeros((1, 2)), known, exclusive=exclusive
    )

    assert loss == 0.0


@pytest.mark.parametrize("dice_weight", [0.0, 1.0])
def test_unknown_pixels_do_not_change_loss_or_gradient(dice_weight):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 3, 3, 2)), jnp.float32)
    truth = rng.integers(0, 2, (2, 3, 3)).astype(np.int32)
    known = rng.random((2, 3, 3)) < 0.5
    other = np.where(known, truth, 255)

    def total(logits, truth):
        return losses.segmentation(
            logits, jnp.asarray(truth), jnp.asarray(known), dice_weight=dice_weight
        ).sum()

    one, grad_one = jax.value_and_grad(total)(logits, truth)
    two, grad_two = jax.value_and_grad(total)(logits, other)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(grad_one, grad_two)
    assert (np.asarray(grad_one)[~known] == 0).all()


def test_a_perfect_mask_has_no_dice_loss():
    truth = jnp.asarray([[[0, 1], [1, 1]]])
    logits = 40.0 * jax.nn.one_hot(truth, 2)

    loss = losses.segmentation(
        logits, truth, jnp.ones_like(truth, bool), dice_weight=1.0
    )

    np.testing.assert_allclose(loss, 0.0, atol=1e-6)
