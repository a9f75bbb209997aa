"""Effective rank and spread by hand; what is a collapse, and what is none."""

import math

import numpy as np
import pytest

from mtpret_jax.metrics import representations

GOOD = {
    "effective_rank": [(0, 75.0), (40, 60.0), (80, 50.0)],
    "spread": [(0, 0.18), (40, 0.4), (80, 0.5)],
    "embedding_spread": [(40, 0.3), (80, 0.5)],
}


def test_a_cross_of_equal_arms_has_as_many_directions_as_arms():
    feature = 5 + 2 * np.concatenate([np.eye(3), -np.eye(3)])

    assert representations.effective_rank(feature) == pytest.approx(3, abs=1e-4)


def test_one_arm_three_times_as_long_counts_for_less():
    """Shares of the singular values are 3/4 and 1/4."""
    feature = np.array([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))

    found = representations.effective_rank(feature)

    assert found == pytest.approx(math.exp(entropy), abs=1e-4)


def test_points_on_a_line_have_one_direction():
    feature = np.outer(np.arange(6.0), [1, 2, 3]) + 7

    assert representations.effective_rank(feature) == pytest.approx(1, abs=1e-4)


def test_of_features_that_are_all_alike_none_is_spread():
    feature = np.full((5, 4), 3.0)

    assert representations.effective_rank(feature) == pytest.approx(1, abs=1e-4)
    assert representations.spread(feature) == 0


def test_opposite_features_are_spread_on_all_sides_whatever_their_length():
    feature = np.array([[1.0, 1], [-2, -2], [3, -3], [-4, 4]])

    assert representations.spread(feature) == pytest.approx(1)


def test_two_directions_at_right_angles():
    """Each dimension is 1 or 0: deviation 1/2, times the root of two."""
    assert representations.spread(np.eye(2)) == pytest.approx(math.sqrt(2) / 2)


def test_what_is_not_finite_has_no_figure():
    feature = np.array([[1.0, math.nan], [0, 1]])

    assert math.isnan(representations.effective_rank(feature))
    assert math.isnan(representations.spread(feature))


def test_good_curves_are_no_collapse():
    assert representations.collapses(GOOD) == []
    assert representations.collapses({}) == []


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("effective_rank", [75.0, 2.2, 2.1], "effective rank of features 2.1"),
        ("effective_rank", [20.0, 1.9, 1.5], "effective rank of features 1.5"),
        ("spread", [0.18, 0.016, 0.005], "spread of features 0.005"),
        ("spread", [0.18, math.nan, math.nan], "spread of features nan"),
        ("embedding_spread", [0.003, 0.002], "spread of a batch's embeddings 0.002"),
    ],
)
def test_a_collapse_is_told_in_a_sentence(name, values, told):
    curves = {**GOOD, name: [(40 * n, value) for n, value in enumerate(values)]}

    (found,) = representations.collapses(curves)

    step = 40 * (len(values) - 1)
    assert found.startswith(f"collapse at step {step}: {told}, 2 times below ")
    assert "\n" not in found


def test_one_look_alone_is_no_collapse():
    curve = [(0, 75.0), (40, 2.0), (80, 60.0), (120, 2.0), (160, 70.0)]

    assert representations.collapses({"effective_rank": curve}) == []


def test_what_was_told_stays_told_when_features_come_back():
    curve = [(0, 0.18), (40, 0.01), (80, 0.005)]
    early = representations.collapses({"spread": curve})

    later = representations.collapses({"spread": [*curve, (120, 0.3), (160, 0.3)]})

    assert later == early != []
