"""Calibration, thresholds and proportions, worked out by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mtpret_jax.metrics import calibration


def _alone(values):
    return np.arange(len(values))


@pytest.mark.smoke
def test_calibration_error_by_hand():
    """20 images, so two bins of 10: 0.2 with 1 in 10, 0.7 with 9 in 10.

    Both are off by 0.1 and 0.2: 0.15. By chance sqrt(2 / pi) of the standard
    deviations sqrt(0.16 / 10) and sqrt(0.21 / 10).
    """
    probability = np.array([0.2] * 10 + [0.7] * 10)
    positive = np.array([1] + [0] * 9 + [0] + [1] * 9, bool)

    found = calibration.calibration(probability, positive, _alone(positive))

    assert found.error == pytest.approx(0.15)
    assert found.confidence == pytest.approx((0.2, 0.7))
    assert [one.value for one in found.observed] == pytest.approx([0.1, 0.9])
    assert [one.images for one in found.observed] == [10, 10]
    expected = np.sqrt(2 / np.pi) * np.mean(np.sqrt([0.016, 0.021]))
    assert found.floor == pytest.approx(expected)


def test_bins_hold_as_many_images_each():
    rng = np.random.default_rng(0)
    probability = rng.random(1000) ** 6  # nearly all below 0.1

    found = calibration.calibration(
        probability, rng.random(1000) < 0.5, np.arange(1000)
    )

    assert [one.images for one in found.observed] == [100] * 10
    means = np.sort(probability).reshape(10, 100).mean(axis=1)
    np.testing.assert_allclose(found.confidence, means)


def test_equal_probabilities_share_a_bin_in_any_order():
    probability = np.array([0.0] * 70 + [0.5] * 5 + [1.0] * 25)
    positive = np.arange(100) % 3 == 0
    order = np.random.default_rng(1).permutation(100)

    found = calibration.calibration(probability, positive, np.arange(100))
    mixed = calibration.calibration(probability[order], positive[order], np.arange(100))

    assert found.confidence == (0.0, 0.5, 1.0)
    assert [one.images for one in found.observed] == [70, 5, 25]
    assert mixed == found


def test_few_images_make_few_bins():
    probability = np.linspace(0, 1, 19)

    found = calibration.calibration(probability, probability > 0.5, np.arange(19))

    assert len(found.observed) == 1


def test_the_floor_is_what_a_calibrated_model_shows_by_chance():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(200):
        probability = rng.beta(0.5, 0.5, size=300)
        positive = rng.random(300) < probability
        found.append(calibration.calibration(probability, positive, np.arange(300)))

    errors = np.array([one.error for one in found])
    # 200 errors, each about 0.01 around 0.04, have a mean within 0.001 or so; the
    # normal law is a little off in bins near 0 and 1.
    assert errors.mean() == pytest.approx(np.mean([c.floor for c in found]), rel=0.05)


def test_one_class_only_has_an_error():
    """Nothing comes true of 0.3, so the error is 0.3."""
    found = calibration.calibration(np.full(20, 0.3), np.zeros(20, bool), np.arange(20))

    assert found.error == pytest.approx(0.3)
    assert found.observed[0].value == 0


def test_no_image_has_no_error():
    found = calibration.calibration([], [], [])

    assert np.isnan([found.error, found.floor]).all()
    assert found.confidence == found.observed == ()


@pytest.mark.parametrize("wrong", [np.nan, 1.01, -2.0])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match="must lie in"):
        calibration.calibration([0.5, wrong], [True, False], [0, 1])
    with pytest.raises(ValueError, match="must lie in"):
        calibration.youden_threshold([0.5, wrong], [True, False])


def test_more_than_one_label_is_refused():
    with pytest.raises(ValueError, match="of one label"):
        calibration.youden_threshold(np.zeros((3, 2)), np.zeros((3, 2)))


@pytest.mark.smoke
def test_a_proportion_by_hand():
    """Wilson's interval of 8 in 10, z**2 = 3.8415: centre (8 + 1.9207) / 13.8415."""
    found = calibration.proportion(np.arange(10) < 8, np.arange(10))

    centre = 0.716740
    half = 1.959964 / 13.841459 * np.sqrt(10 * 0.8 * 0.2 + 3.841459 / 4)
    assert (found.value, found.images, found.groups) == (0.8, 10, 10)
    assert (found.low, found.high) == pytest.approx(
        (centre - half, centre + half), abs=1e-5
    )


def test_a_proportion_of_all_does_not_end_in_a_point():
    found = calibration.proportion(np.ones(10, bool), np.arange(10))

    assert found.high == found.value == 1
    assert found.low == pytest.approx(10 / 13.841459)


def test_images_of_one_group_count_as_one_trial():
    is_so = np.array([1, 1, 0, 1], bool)
    together = calibration.proportion(np.repeat(is_so, 5), np.repeat(np.arange(4), 5))
    once = calibration.proportion(is_so, np.arange(4))

    assert (together.low, together.high) == (once.low, once.high)
    assert (together.images, together.groups) == (20, 4)


@pytest.mark.smoke
def test_youdens_threshold_by_hand():
    """Between 0.4 and 0.6 both positives but one negative are above: 1 + 2/3 - 1.

    Between 0.6 and 0.8 one positive and no negative: 1/2 + 1 - 1.
    """
    threshold = calibration.youden_threshold(
        [0.1, 0.4, 0.6, 0.6, 0.8], [False, False, False, True, True]
    )

    assert threshold == pytest.approx(0.5)


def test_of_equally_good_thresholds_the_most_sensitive_is_taken():
    """Above 0.2: 1 + 1/2. Above 0.6: 1/2 + 1."""
    threshold = calibration.youden_threshold(
        [0.1, 0.3, 0.5, 0.7], [False, True, False, True]
    )

    assert threshold == pytest.approx(0.2)


def test_youdens_threshold_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    positive = rng.random(200) < 0.3
    probability = 1 / (1 + np.exp(-rng.normal(size=200) - positive))

    threshold = calibration.youden_threshold(probability, positive)

    found = calibration.operating_point(
        probability, positive, np.arange(200), threshold=threshold
    )
    false, true, _ = sklearn_metrics.roc_curve(positive, probability)
    best = (true - false).max()
    index = found.sensitivity.value + found.specificity.value - 1
    assert index == pytest.approx(best)


@pytest.mark.parametrize(
    ("probability", "positive"),
    [
        ([], []),
        ([0.2, 0.7], [True, True]),
        ([0.2, 0.7], [False, False]),
        ([0.4, 0.4], [True, False]),
    ],
)
def test_without_two_classes_and_two_probabilities_there_is_no_threshold(
    probability, positive
):
    assert np.isnan(calibration.youden_threshold(probability, positive))


def test_an_operating_point_by_hand():
    """At 0.5 itself a positive is decided: 2 of 3 found, 1 of 2 spared."""
    found = calibration.operating_point(
        [0.5, 0.9, 0.4, 0.5, 0.1],
        [True, True, True, False, False],
        ["a", "a", "b", "c", "d"],
        threshold=0.5,
    )

    assert found.sensitivity.value == pytest.approx(2 / 3)
    assert (found.sensitivity.images, found.sensitivity.groups) == (3, 2)
    assert found.specificity.value == 0.5


def test_without_a_threshold_or_a_class_nothing_is_measured():
    point = calibration.operating_point(
        [0.5, 0.9], [True, False], [0, 1], threshold=float("nan")
    )
    one_class = calibration.operating_point([0.5], [True], [0], threshold=0.4)

    for found in (point.sensitivity, point.specificity, one_class.specificity):
        assert np.isnan([found.value, found.low, found.high]).all()
        assert found.images == 0
    assert one_class.sensitivity.value == 1
