"""Differences over seeds, Holm's correction and verdicts, worked out by hand."""

import dataclasses

import numpy as np
import pytest

from mtpret_jax.metrics import behrens_fisher, comparison

GRID = np.linspace(-1, 1, 2001)  # draws whose percentiles are known


def _estimate(value, p, *, p_retrained=float("nan"), drawn=1000, error=0.5):
    return comparison.Estimate(
        value=value,
        by_seed=(value,),
        spread=float("nan"),
        low=value - 1,
        high=value + 1,
        error=error,
        p=p,
        low_retrained=float("nan"),
        high_retrained=float("nan"),
        retraining=None,
        p_retrained=p_retrained,
        resamples=drawn,
        resamples_drawn=drawn,
    )


@pytest.mark.smoke
def test_holm_by_hand():
    """In order times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04; none below one before it."""
    corrected = comparison.holm([0.04, 0.01, 0.03, 0.02])

    np.testing.assert_allclose(corrected, [0.06, 0.04, 0.06, 0.06])


def test_holm_stays_in_range_and_leaves_out_what_was_not_compared():
    np.testing.assert_allclose(comparison.holm([0.7, 0.4]), [0.8, 0.8][::-1])
    np.testing.assert_allclose(comparison.holm([0.9, 0.8, 1.0]), [1, 1, 1])
    np.testing.assert_allclose(
        comparison.holm([np.nan, 0.01, np.nan, 0.03]), [np.nan, 0.02, np.nan, 0.03]
    )
    assert comparison.holm([]).shape == (0,)
    assert np.isnan(comparison.holm([np.nan])).all()


def test_one_seed_has_the_bootstraps_interval_and_nothing_of_retraining():
    """Evenly from -0.7 to 1.3: 2.5 % lie below -0.65, and 701 of 2001 up to 0."""
    estimate = comparison.over_seeds([0.3], [GRID + 0.3])

    assert estimate.value == 0.3
    assert estimate.by_seed == (0.3,)
    assert (estimate.low, estimate.high) == pytest.approx((-0.65, 1.25))
    assert estimate.p == pytest.approx(2 * 702 / 2002, abs=2 / 2002)
    assert estimate.resamples == estimate.resamples_drawn == 2001
    for name in ("spread", "low_retrained", "high_retrained", "p_retrained"):
        assert np.isnan(getattr(estimate, name))


def test_seeds_are_averaged_on_each_resample():
    """Seeds whose draws go opposite ways: their mean does not vary at all."""
    estimate = comparison.over_seeds([0.2, 0.4], [0.2 + GRID, 0.4 - GRID])

    assert (estimate.low, estimate.high) == pytest.approx((0.3, 0.3))
    assert estimate.spread == pytest.approx(np.sqrt(0.02))
    assert estimate.p == pytest.approx(2 / 2002)  # as small as 2001 draws can say


def test_retraining_adds_the_spread_of_seeds_by_hand():
    """Seeds 0, 1, 2 on the same draws: spread 1, nothing of it due to resampling.

    Variance of the mean 1/3 of seeds, estimated with 2 degrees of freedom, and, with
    draws of variance 2/3, 1 in all.
    """
    unit = np.array([-1, 1, 0] * 400) - 0.0
    unit *= np.sqrt(2 / 3 / unit.var(ddof=1))
    rng = np.random.default_rng(0)
    error = np.sqrt(2 / 3) * rng.normal(size=10**6)
    error += np.sqrt(1 / 3) * rng.standard_t(2, size=10**6)

    estimate = comparison.over_seeds([0, 1, 2], [unit, 1 + unit, 2 + unit])

    assert estimate.value == 1
    assert estimate.spread == 1
    half = np.quantile(np.abs(error), 0.95)
    assert estimate.low_retrained == pytest.approx(1 - half, rel=0.01)
    assert estimate.high_retrained == pytest.approx(1 + half, rel=0.01)
    expected = np.mean(np.abs(error) > 1)
    assert estimate.p_retrained == pytest.approx(expected, rel=0.01)


def test_what_resampling_explains_of_the_spread_is_not_added_again():
    """Draws that are apart from seed to seed explain a spread that is as large."""
    drawn = np.random.default_rng(0).normal(size=(3, 4000))
    values = np.array([-1.0, 0.0, 1.0])

    estimate = comparison.over_seeds(values, values[:, None] + drawn)

    # The spread, 1, is that of the draws: the variance of their mean, 1/3, is all.
    # It is known no better than the spread is: 2 degrees of freedom, t = 4.303.
    assert estimate.high_retrained == pytest.approx(4.303 / np.sqrt(3), rel=0.1)


def test_seeds_without_spread_leave_the_normal_interval():
    drawn = np.random.default_rng(1).normal(size=1000)
    drawn = (drawn - drawn.mean()) / drawn.std(ddof=1)

    estimate = comparison.over_seeds([0.5, 0.5], [drawn, drawn])

    ends = (estimate.low_retrained, estimate.high_retrained)
    assert ends == pytest.approx((0.5 - 1.959964, 0.5 + 1.959964), abs=1e-5)


def test_a_difference_is_paired_seed_by_seed_and_draw_by_draw():
    rng = np.random.default_rng(2)
    hard = rng.normal(size=(2, 500))

    found = comparison.difference([0.9, 0.7], hard + 0.25, [0.7, 0.4], hard)

    assert found.by_seed == pytest.approx((0.2, 0.3))
    assert found.value == pytest.approx(0.25)
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))


def test_an_arm_does_not_differ_from_itself():
    drawn = np.random.default_rng(3).normal(size=(3, 200))
    values = drawn.mean(axis=1)

    same = comparison.difference(values, drawn, values, drawn)

    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert np.isnan(same.p_retrained)
    assert comparison.judge({"a - a": same})["a - a"].verdict == comparison.UNDECIDED


def test_a_resample_that_one_seed_does_not_define_is_left_out_of_all():
    drawn = np.stack([GRID, GRID])
    drawn[1, :500] = np.nan

    estimate = comparison.over_seeds([0.0, 0.0], drawn)

    assert (estimate.resamples, estimate.resamples_drawn) == (1501, 2001)
    assert estimate.low == pytest.approx(np.percentile(GRID[500:], 2.5))


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([0.5, np.nan], np.zeros((2, 100))),
        ([np.nan], np.full((1, 100), np.nan)),
        ([0.5], np.full((1, 100), np.nan)),
        ([0.5], np.zeros((1, 0))),
    ],
)
def test_what_is_not_defined_is_nan_and_undecided(values, drawn):
    estimate = comparison.over_seeds(values, drawn)

    assert np.isnan(estimate.p)
    assert np.isnan(estimate.p_retrained)
    assert np.isnan(estimate.value) == np.isnan(values).any()
    claims = comparison.judge(
        {"one": dataclasses.replace(estimate, resamples_drawn=100)}
    )
    assert claims["one"].verdict == comparison.UNDECIDED
    assert np.isnan(claims["one"].p_corrected)


def test_verdicts_follow_the_corrected_p_value():
    """0.012 * 4, 0.012 * 3, then 0.03 * 2: the third is no longer below 0.05."""
    claims = comparison.judge(
        {
            "clear": _estimate(0.2, 0.012),
            "harmful": _estimate(-0.2, 0.012),
            "alone": _estimate(0.1, 0.03),
            "noise": _estimate(0.0, 0.8),
        }
    )

    assert {name: claim.verdict for name, claim in claims.items()} == {
        "clear": "better",
        "harmful": "worse",
        "alone": "not distinguishable at this n",
        "noise": "not distinguishable at this n",
    }
    assert claims["alone"].p == 0.03
    assert claims["alone"].p_corrected == pytest.approx(0.06)
    alone = comparison.judge({"alone": _estimate(0.1, 0.03)})
    assert alone["alone"].verdict == "better"


def test_a_verdict_needs_both_p_values():
    seeds = comparison.judge({"a": _estimate(0.1, 0.001, p_retrained=0.3)})
    patients = comparison.judge({"a": _estimate(0.1, 0.3, p_retrained=0.001)})
    both = comparison.judge({"a": _estimate(0.1, 0.002, p_retrained=0.001)})

    assert seeds["a"].verdict == patients["a"].verdict == comparison.UNDECIDED
    assert (seeds["a"].p, both["a"].p) == (0.3, 0.002)
    assert both["a"].verdict == comparison.BETTER


def test_too_few_resamples_for_the_number_of_comparisons_are_refused():
    """Of 30 the smallest p-value, 2 / (R + 1), must be below 0.05 / 30."""
    names = [f"claim {i}" for i in range(30)]
    least = 2 / (1200 + 1)

    with pytest.raises(ValueError, match=r"at least 1200\. Raise report\.bootstrap"):
        comparison.judge({name: _estimate(1, least, drawn=1199) for name in names})
    claims = comparison.judge({name: _estimate(1, least, drawn=1200) for name in names})

    assert {claim.verdict for claim in claims.values()} == {"better"}


def test_arms_with_unlike_seeds_or_resamples_are_refused():
    with pytest.raises(ValueError, match="seeds that both arms have finished"):
        comparison.difference([1, 2], np.zeros((2, 9)), [1], np.zeros((1, 9)))
    with pytest.raises(ValueError, match="same resamples"):
        comparison.difference([1], np.zeros((1, 9)), [1], np.zeros((1, 8)))
    with pytest.raises(ValueError, match=r"\[seeds, resamples\]"):
        comparison.over_seeds([1, 2], np.zeros((3, 9)))
    with pytest.raises(ValueError, match="no seed"):
        comparison.over_seeds([], np.zeros((0, 9)))


def test_the_detectable_difference_counts_the_correction_by_hand():
    claims = comparison.judge({"a": _estimate(0.1, 0.3), "b": _estimate(0.1, 0.3)})
    alone = comparison.judge({"a": _estimate(0.1, 0.3)})

    # Normal quantiles of 1 - 0.05 / 2 / 2 and of 0.8, times the error of 0.5.
    assert claims["a"].detectable == pytest.approx(0.5 * (2.24140 + 0.84162), abs=1e-5)
    assert alone["a"].detectable == pytest.approx(0.5 * (1.95996 + 0.84162), abs=1e-5)


def test_seeds_that_disagree_make_the_detectable_difference_larger():
    one = dataclasses.replace(
        _estimate(0.1, 0.3, p_retrained=0.4),
        retraining=behrens_fisher.Sum(0.0, 0.36, 2),
    )

    (claim,) = comparison.judge({"a": one}).values()

    # Of Student's t with two degrees of freedom: 0.975 and 0.8.
    assert claim.detectable == pytest.approx(0.6 * (4.30265 + 1.06066), abs=1e-5)


def test_what_does_not_vary_has_no_detectable_difference():
    (claim,) = comparison.judge({"a": _estimate(0.0, 1.0, error=0.0)}).values()

    assert np.isnan(claim.detectable)


@pytest.mark.parametrize(("seeds", "of_seed"), [(1, 0.0), (10, 1.0)])
def test_eight_in_ten_detectable_differences_are_found(seeds, of_seed):
    """Four comparisons; in one of them there is a difference as large as that."""
    rng = np.random.default_rng(seeds)
    error = 0.1

    def compared(truth):
        test_split = error * rng.normal()
        value = truth + test_split + of_seed * error * rng.normal(size=seeds)
        noise = error * rng.normal(size=1000)
        return comparison.over_seeds(value, value[:, None] + noise)

    found, expected = [], []
    for _ in range(400):
        # Its error is that of a mean over seeds, which all share the test split.
        truth = 3.4 * error * np.sqrt(1 + of_seed**2 / seeds)
        family = {name: compared(0.0) for name in "abc"} | {"d": compared(truth)}
        claim = comparison.judge(family)["d"]
        expected.append(claim.detectable)
        found.append(claim.verdict == comparison.BETTER)

    assert np.median(expected) == pytest.approx(truth, rel=0.05)
    assert np.mean(found) == pytest.approx(comparison.POWER, abs=0.06)
