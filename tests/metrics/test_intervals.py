"""Intervals: coverage, groups, pairing, and what is undefined."""

import time

import numpy as np
import pytest

from mtpret_jax.metrics import classification, intervals, weighing


class MeanMetric:
    """Mean of `value`, so that intervals can be checked against theory."""

    primary = "mean"

    def records(self, outputs, batch):
        return {"value": outputs["value"], "record": batch["record"]}

    def summarise(self, records):
        return dict(records)

    def compute(self, summary):
        return weighing.once(self, summary)

    def weighted(self, summary, weight):
        return {"mean": summary["value"] @ weight / weight.sum(axis=0)}


def _summary(value):
    value = np.asarray(value, float)
    return {"value": value, "record": np.arange(len(value), dtype=np.int32)}


def _binary(score, positive):
    metric = classification.ClassificationMetric(("no", "yes"), exclusive=True)
    score, positive = np.asarray(score, np.float32), np.asarray(positive)
    label = np.stack([~positive, positive], axis=1)
    records = {
        "probability": np.stack([1 - score, score], axis=1),
        "label": label,
        "label_known": np.ones(label.shape, bool),
        "record": np.arange(len(score)),
    }
    return metric, metric.summarise(records)


def _intervals(*arguments, **options) -> dict[str, tuple[float, float]]:
    drawn = intervals.draws(*arguments, **options)
    return {name: intervals.interval(values) for name, values in drawn.items()}


def test_the_interval_of_a_mean_is_near_that_of_the_normal_law():
    value = np.random.default_rng(0).normal(size=400)
    groups = np.arange(400)

    low, high = _intervals(
        MeanMetric(), _summary(value), groups, resamples=2000, seed=1
    )["mean"]

    half = 1.96 * value.std() / 20
    expected = [value.mean() - half, value.mean() + half]
    np.testing.assert_allclose([low, high], expected, atol=0.01)


def test_about_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        low, high = _intervals(
            MeanMetric(),
            _summary(rng.normal(size=60)),
            np.arange(60),
            resamples=200,
            seed=trial,
        )["mean"]
        held += low <= 0 <= high

    assert 0.89 <= held / 200 <= 0.99


@pytest.mark.smoke
def test_groups_that_vary_together_widen_the_interval():
    """Ten images that agree are worth one: the width grows by sqrt(10)."""
    rng = np.random.default_rng(2)
    value = np.repeat(rng.normal(size=40), 10)
    options = {"resamples": 1000, "seed": 0}

    alone = _intervals(MeanMetric(), _summary(value), np.arange(400), **options)["mean"]
    together = _intervals(
        MeanMetric(), _summary(value), np.repeat(np.arange(40), 10), **options
    )["mean"]

    ratio = (together[1] - together[0]) / (alone[1] - alone[0])
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)


def test_groups_need_not_be_neighbours_and_may_be_names():
    value = np.random.default_rng(3).normal(size=30)
    groups = np.array([f"patient {i % 7}" for i in range(30)])
    order = np.argsort(groups, kind="stable")
    options = {"resamples": 50, "seed": 0}

    mixed = _intervals(MeanMetric(), _summary(value), groups, **options)
    sorted_ = _intervals(MeanMetric(), _summary(value[order]), groups[order], **options)

    np.testing.assert_allclose(mixed["mean"], sorted_["mean"])


def test_one_group_gives_no_interval():
    interval = _intervals(
        MeanMetric(), _summary([1.0, 2.0]), ["a", "a"], resamples=20, seed=0
    )

    assert np.isnan(interval["mean"]).all()


def test_resamples_without_a_class_are_left_out():
    metric, summary = _binary([0.1, 0.2, 0.3, 0.9], np.array([0, 0, 0, 1], bool))
    options = {"resamples": 400, "seed": 0}

    drawn = intervals.draws(metric, summary, np.arange(4), **options)
    low, high = _intervals(metric, summary, np.arange(4), **options)["auroc"]

    lost = np.isnan(drawn["auroc"]).mean()
    assert lost == pytest.approx(0.75**4 + 0.25**4, abs=0.08)
    assert (low, high) == (1.0, 1.0)


def test_fewer_than_half_of_the_resamples_give_no_interval():
    drawn = np.array([1.0, 2.0, np.nan, np.nan, np.nan])

    assert np.isnan(intervals.interval(drawn)).all()
    assert np.isfinite(intervals.interval(drawn[:4])).all()


def test_a_mean_over_classes_is_left_out_when_a_class_is_missing():
    metric = classification.ClassificationMetric(("a", "b"), exclusive=False)
    label = np.array([[1, 1], [0, 0], [1, 0], [0, 0], [1, 0], [0, 0]], np.float32)
    records = {
        "probability": np.linspace(0, 1, 12, dtype=np.float32).reshape(6, 2),
        "label": label,
        "label_known": np.ones(label.shape, bool),
        "record": np.arange(6),
    }
    summary = metric.summarise(records)

    drawn = intervals.draws(metric, summary, np.arange(6), resamples=100, seed=0)

    missing = np.isnan(drawn["auroc/b"])
    assert missing.any()
    assert np.isnan(drawn["auroc"][missing]).all()


def test_a_paired_interval_is_narrow_when_models_err_together():
    rng = np.random.default_rng(4)
    shared = rng.normal(size=200)
    better = shared + 0.1 + rng.normal(scale=0.01, size=200)

    options = {"resamples": 500, "seed": 0}
    drawn = [
        intervals.draws(MeanMetric(), _summary(value), np.arange(200), **options)
        for value in (better, shared)
    ]
    low, high = intervals.interval(drawn[0]["mean"] - drawn[1]["mean"])
    difference = better.mean() - shared.mean()

    assert low < difference < high
    assert difference == pytest.approx(0.1, abs=0.005)
    assert high - low < 0.01


def test_a_thousand_resamples_of_two_thousand_images_take_seconds():
    rng = np.random.default_rng(5)
    positive = rng.random(2000) < 0.3
    metric, summary = _binary(rng.random(2000), positive)

    start = time.process_time()
    _intervals(metric, summary, np.arange(2000), resamples=1000, seed=0)

    assert time.process_time() - start < 5


def test_few_groups_put_the_percentiles_farther_out():
    """By Student's t of 9 degrees and 10 / 9 of the variance: 0.9 % in each tail."""
    drawn = np.linspace(0.0, 1.0, 100_001)

    low, high = intervals.interval(drawn, groups=10)

    assert low == pytest.approx(0.00856, abs=2e-4)
    assert low + high == pytest.approx(1.0)
    wide = intervals.interval(drawn, groups=10**6)
    assert wide == pytest.approx(intervals.interval(drawn), abs=1e-5)
