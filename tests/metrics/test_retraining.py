"""The interval of retraining by simulation: it holds the truth, and never explodes.

A seed's value is the mean over patients of its own error, whose part `correlation`
all seeds share, and a shift of its training, whose deviation is `of_seed` times that
of the resampled mean. The truth is 0.

`TRIALS=4000 python -m pytest tests/metrics/test_retraining.py` tries more of each
case, two minutes on a core.
"""

import itertools
import os

import numpy as np
import pytest
from scipy import stats

from mtpret_jax.metrics import comparison

PATIENTS, RESAMPLES = 100, 400
TRIALS = int(os.environ.get("TRIALS", "500"))
CASES = list(itertools.product((3, 5, 10), (0.0, 0.2, 0.4), (0, 1, 2)))


def _trials(rng, count, seeds, correlation, of_seed):
    """Values [seeds] and draws [seeds, resamples] of each trial."""
    even = [1 / PATIENTS] * PATIENTS
    drawn = rng.multinomial(PATIENTS, even, size=RESAMPLES).T / PATIENTS
    for _ in range(count):
        shared = np.sqrt(correlation) * rng.normal(size=PATIENTS)
        own = np.sqrt(1 - correlation) * rng.normal(size=(seeds, PATIENTS))
        shift = of_seed / np.sqrt(PATIENTS) * rng.normal(size=(seeds, 1))
        error = shared + own + shift
        yield error.mean(axis=1), error @ drawn


def _largest(values, drawn):
    """The half-width that the interval may have at most."""
    seeds = len(values)
    variance = drawn.mean(axis=0).var(ddof=1) + values.var(ddof=1) / seeds
    return stats.t.ppf(0.975, seeds - 1) * np.sqrt(variance)


def _half(estimate):
    return (estimate.high_retrained - estimate.low_retrained) / 2


@pytest.mark.smoke
def test_seeds_that_seem_to_offset_each_other_do_not_blow_up_the_interval():
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.02, size=RESAMPLES)
    values = np.array([0.1, 0.2, 0.3])
    # Each resample that raises two seeds lowers the third by as much.
    drawn = values[:, np.newaxis] + np.stack([noise, noise, -2 * noise])

    estimate = comparison.over_seeds(values, drawn)

    assert _half(estimate) == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-4)
    assert estimate.p_retrained == pytest.approx(
        2 * stats.t.sf(0.2 / (0.1 / np.sqrt(3)), 2), rel=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "correlation", "of_seed"), CASES)
def test_the_interval_holds_the_truth_and_is_bounded(seeds, correlation, of_seed):
    rng = np.random.default_rng([seeds, int(10 * correlation), of_seed])
    held = 0
    for values, drawn in _trials(rng, TRIALS, seeds, correlation, of_seed):
        estimate = comparison.over_seeds(values, drawn)
        held += estimate.low_retrained <= 0 <= estimate.high_retrained
        assert _half(estimate) <= _largest(values, drawn) * (1 + 1e-9)

    assert 0.92 <= held / TRIALS <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("of_seed", [0, 1, 2])
def test_a_study_without_any_difference_rarely_finds_one(of_seed):
    """Four tasks, on each two claims that share an arm; three seeds; 500 studies."""
    rng = np.random.default_rng(of_seed)
    studies, alarms = 500, 0
    arms = _trials(rng, 3 * 4 * studies, 3, 0.2, of_seed)
    for _ in range(studies):
        found = {}
        for task in range(4):
            one, *others = (next(arms) for _ in range(3))
            for claim, other in enumerate(others):
                values, drawn = one[0] - other[0], one[1] - other[1]
                found[f"{task}.{claim}"] = comparison.over_seeds(values, drawn)
        judged = comparison.judge(found).values()
        alarms += any(one.verdict != comparison.UNDECIDED for one in judged)

    assert alarms / studies <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)


@pytest.mark.parametrize(("seeds", "of_seed"), [(1, 0), (3, 0), (3, 1), (5, 2)])
def test_a_study_without_any_difference_seldom_finds_one(seeds, of_seed):
    """Six comparisons of a family, 500 times; their errors have a part in common."""
    rng = np.random.default_rng([seeds, of_seed])
    studies, alarms = 500, 0
    for _ in range(studies):
        shared, family = rng.normal(), {}
        for name in "abcdef":
            test_split = np.sqrt(0.5) * (shared + rng.normal())
            value = test_split + of_seed * rng.normal(size=seeds)
            drawn = value[:, None] + rng.normal(size=1000)
            family[name] = comparison.over_seeds(value, drawn)
        claims = comparison.judge(family).values()
        alarms += any(claim.verdict != comparison.UNDECIDED for claim in claims)

    error = 2 * np.sqrt(0.05 * 0.95 / studies)
    assert alarms / studies <= 0.05 + error
