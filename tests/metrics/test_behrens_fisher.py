"""A sum of a normal error and one whose variance is estimated: limits, and draws."""

import numpy as np
import pytest
from scipy import stats

from mtpret_jax.metrics import behrens_fisher


@pytest.mark.parametrize("freedom", [1, 2, 9, 40])
def test_without_a_known_part_it_is_students_t(freedom):
    made = behrens_fisher.Sum(0.0, 4.0, freedom)

    for level in (0.4, 0.05, 0.001):
        expected = 2 * stats.t.ppf(1 - level / 2, freedom)
        assert made.quantile(level) == pytest.approx(expected, rel=1e-4)
        assert made.tail(expected) == pytest.approx(level, rel=1e-4)


@pytest.mark.parametrize("freedom", [1, 2, 9])
def test_without_an_estimated_part_it_is_normal(freedom):
    made = behrens_fisher.Sum(4.0, 0.0, freedom)

    assert made.quantile(0.05) == pytest.approx(2 * 1.959964, rel=1e-5)
    assert made.tail(0.0) == pytest.approx(1)


@pytest.mark.parametrize("freedom", [2, 4, 9])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_its_tails_are_those_of_drawn_sums(freedom, share):
    rng = np.random.default_rng(freedom)
    count = 400_000
    drawn = np.sqrt(1 - share) * rng.normal(size=count)
    drawn += np.sqrt(share) * rng.standard_t(freedom, size=count)
    made = behrens_fisher.Sum(1 - share, share, freedom)

    for distance in (0.5, 2.0, 6.0):
        expected = np.mean(np.abs(drawn) > distance)
        error = 4 * np.sqrt(expected / count)
        assert made.tail(distance) == pytest.approx(expected, abs=error + 1e-6)
    assert made.quantile(made.tail(3.0)) == pytest.approx(3.0, rel=1e-6)
