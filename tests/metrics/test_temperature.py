"""Temperatures by hand, found again after they were put in, and order kept."""

import numpy as np
import pytest
from scipy import special

from mtpret_jax.metrics import temperature


def test_a_temperature_by_hand():
    """Logit ln 4 halved is ln 2: of 0.8 to 0.2 becomes 2 to 1."""
    two = temperature.apply(np.array([[0.2, 0.8]]), 2.0, exclusive=True)
    one = temperature.apply(np.array([[0.8]]), 2.0, exclusive=False)

    np.testing.assert_allclose(two, [[1 / 3, 2 / 3]])
    np.testing.assert_allclose(one, [[2 / 3]])


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_was_made_three_times_too_sure_is_found(exclusive):
    rng = np.random.default_rng(0)
    logit = rng.normal(size=(20_000, 3))
    if exclusive:
        true = special.softmax(logit, -1)
        label = (true.cumsum(-1) > rng.random((20_000, 1))).argmax(-1)
        label = np.eye(3)[label]
        told = special.softmax(3 * logit, -1)
    else:
        label = rng.random((20_000, 3)) < special.expit(logit)
        told = special.expit(3 * logit)
    known = rng.random((20_000, 3)) < 0.5
    if exclusive:
        known[:] = known[:, :1]
    hidden = np.where(known, label, 1 - label)  # must not count

    found = temperature.fit(told, hidden, known, exclusive=exclusive)

    assert found == pytest.approx(3, rel=0.05)


def test_perfect_validation_and_no_label_stay_finite():
    p, label = np.array([[0.1, 0.9], [0.9, 0.1]]), np.array([[0, 1], [1, 0]])

    sure = temperature.fit(p, label, np.ones((2, 2), bool), exclusive=True)
    none = temperature.fit(p, label, np.zeros((2, 2), bool), exclusive=True)

    assert temperature.LOWEST <= sure < 0.2
    assert none == 1.0
    assert np.isfinite(temperature.apply([[0.0, 1.0]], 0.05, exclusive=True)).all()
