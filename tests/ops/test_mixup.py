"""Mixed pairs where one of the two is padding, or a label of it is not known."""

import jax.numpy as jnp
import numpy as np

from mtpret_jax.ops import losses, mixup

SHARE = 0.75


def batch(valid, label, known):
    rows = len(valid)
    return {
        "image": jnp.arange(rows, dtype=jnp.float32).reshape(rows, 1, 1, 1),
        "label": jnp.asarray(label, jnp.float32),
        "label_known": jnp.asarray(known, bool),
        "example_valid": jnp.asarray(valid, bool),
        "record": jnp.arange(rows),
    }


def test_an_example_whose_partner_is_padding_stays_as_it_is():
    label = [[1, 0], [0, 1], [1, 0], [0, 0]]
    arrays = batch([1, 1, 1, 0], label, np.ones((4, 2)))

    found = mixup.mix(arrays, jnp.float32(SHARE))

    np.testing.assert_allclose(found["image"].ravel()[:3], [0, 1.25, 1.75])
    expected = [[1, 0], [0.25, 0.75], [0.75, 0.25]]
    np.testing.assert_allclose(found["label"][:3], expected)
    np.testing.assert_allclose(found["label_known"], 1.0)
    np.testing.assert_array_equal(found["example_valid"], arrays["example_valid"])


def test_a_label_that_nobody_knows_does_not_count():
    """The loss of a pair is that of both labels, as far as they are known."""
    known = np.array([[1, 1, 0], [1, 0, 0]], bool)
    logits = jnp.asarray([[0.3, -1.0, 2.0], [0.5, 0.1, -2.0]])

    def loss(unknown):
        label = np.where(known, [[1, 0, 0], [0, 1, 0]], unknown)
        mixed = mixup.mix(batch([1, 1], label, known), jnp.float32(SHARE))
        return losses.classification(
            logits, mixed["label"], mixed["label_known"], exclusive=False
        )

    def cost(logit, label):
        return np.log1p(np.exp(-logit if label else logit))

    np.testing.assert_array_equal(loss(0), loss(1))
    first = 0.75 * (cost(0.3, 1) + cost(-1.0, 0)) + 0.25 * cost(0.3, 0)
    second = 0.75 * cost(0.5, 0) + 0.25 * (cost(0.5, 1) + cost(0.1, 0))
    expected = [first / (0.75 * 2 + 0.25), second / (0.75 + 0.25 * 2)]
    np.testing.assert_allclose(loss(0), expected, rtol=1e-6)
