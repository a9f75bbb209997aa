"""Errors of numbers, against scikit-learn and NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mtpret_jax.metrics import comparison, intervals, regression

METRIC = regression.RegressionMetric(("bone_age_months",))


def _records(value, truth) -> dict[str, np.ndarray]:
    batch = {"value": np.asarray(truth), "record": np.arange(len(truth))}
    return METRIC.records({"value": np.asarray(value)}, batch)


def _values(value, truth) -> dict[str, float]:
    return METRIC.compute(METRIC.summarise(_records(value, truth)))


def test_errors_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.uniform(12, 216, 80).astype(np.float32)
    value = (truth + rng.normal(5, 12, 80)).astype(np.float32)

    found = _values(value, truth)

    assert found == pytest.approx(
        {
            "mae": sklearn_metrics.mean_absolute_error(truth, value),
            "rmse": sklearn_metrics.root_mean_squared_error(truth, value),
            "bias": (value - truth).mean(dtype=float),
            "pearson": np.corrcoef(truth, value)[0, 1],
        },
        rel=1e-5,
    )


def test_a_case_by_hand():
    found = _values([10.0, 20.0, 39.0], [10.0, 23.0, 33.0])

    assert found["mae"] == pytest.approx(3)
    assert found["rmse"] == pytest.approx(math.sqrt(15))
    assert found["bias"] == pytest.approx(1)
    np.testing.assert_allclose(
        METRIC.error(_records([10.0, 20.0, 39.0], [10.0, 23.0, 33.0])), [0, 3, 6]
    )


def test_values_far_from_zero_lose_no_digits():
    near, far = ([1.0, 2.0, 4.0], [1.5, 2.0, 3.0]), 2.0**20

    shifted = _values(*(np.array(row) + far for row in near))

    assert shifted == pytest.approx(_values(*near), rel=1e-9)


@pytest.mark.parametrize("constant", [5.0, 127.3, 1e4 + 0.1])
def test_a_constant_prediction_has_no_correlation(constant):
    truth = np.random.default_rng(4).uniform(12, 216, 101)
    records = _records(np.full(101, constant), truth)
    weight = np.random.default_rng(5).integers(0, 3, (101, 200)).astype(float)

    drawn = METRIC.weighted(METRIC.summarise(records), weight)

    assert math.isnan(_values(np.full(101, constant), truth)["pearson"])
    assert np.isnan(drawn["pearson"]).all()
    assert math.isnan(_values(truth, np.full(101, constant))["pearson"])


def test_an_example_that_is_drawn_twice_counts_twice():
    rng = np.random.default_rng(1)
    value, truth = rng.normal(size=(2, 12))
    weight = rng.integers(0, 3, 12)

    found = METRIC.weighted(
        METRIC.summarise(_records(value, truth)), weight[:, None].astype(float)
    )

    wanted = _values(np.repeat(value, weight), np.repeat(truth, weight))
    assert {name: x[0] for name, x in found.items()} == pytest.approx(wanted)


def test_whole_patients_are_drawn_for_the_interval():
    rng = np.random.default_rng(2)
    truth = np.repeat(rng.normal(size=20), 5)
    value = truth + np.repeat(rng.normal(size=20), 5)  # One error for each patient.
    summary = METRIC.summarise(_records(value, truth))
    wide, narrow = (
        intervals.interval(
            intervals.draws(METRIC, summary, groups, resamples=400, seed=0)["mae"]
        )
        for groups in (np.repeat(np.arange(20), 5), np.arange(100))
    )

    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_a_diverged_model_is_an_error():
    with pytest.raises(ValueError, match="diverged"):
        _values([math.nan, 1.0], [1.0, 2.0])


def test_the_arm_with_the_lower_error_is_better():
    """What `report.comparisons` makes of it: differences with their sign turned."""
    from mtpret_jax.report import comparisons, measured

    rng = np.random.default_rng(3)
    truth = rng.normal(size=200)
    groups = np.arange(200)
    cells = {}
    for arm, noise in (("good", 0.1), ("bad", 1.0)):
        records = _records(truth + noise * rng.normal(size=200), truth)
        summary = METRIC.summarise(records)
        cells[arm, 1.0] = {
            0: measured.Measured(
                folder=None,
                records=records,
                groups=groups,
                summary=summary,
                values=METRIC.compute(summary),
                draws=intervals.draws(METRIC, summary, groups, resamples=100, seed=0),
            )
        }
    pair = comparisons.Pair("good - bad", "good", "bad", "age", 1.0, ("a", "b"))

    (one,) = comparisons.compare([pair], cells, METRIC)

    gap = cells["bad", 1.0][0].values["mae"] - cells["good", 1.0][0].values["mae"]
    assert one.estimate.value == pytest.approx(gap)
    verdict = comparison.judge({"a - b": one.estimate})["a - b"].verdict
    assert verdict == comparison.BETTER
