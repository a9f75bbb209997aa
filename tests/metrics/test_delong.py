"""DeLong's test: by hand, by a double loop over pairs, with clusters, undefined."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from mtpret_jax.metrics import classification, delong, intervals


def _random(seed=0, *, models=2, count=60, patients=60):
    """Scores with ties that tell the class a little; groups of mixed classes."""
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.4
    group = rng.integers(patients, size=count)
    score = np.round(rng.normal(size=(models, count)) + positive + 0.3 * group % 2, 1)
    return score, positive, group


def _by_pairs(score, positive):
    """Components of each positive and each negative, by every pair; their means."""
    above, below = score[:, positive], score[:, ~positive]
    won = np.zeros((len(score), above.shape[1], below.shape[1]))
    for m in range(len(score)):
        for i in range(above.shape[1]):
            for j in range(below.shape[1]):
                a, b = above[m, i], below[m, j]
                won[m, i, j] = 1.0 if a > b else 0.5 if a == b else 0.0
    return won.mean(axis=2), won.mean(axis=1), won.mean(axis=(1, 2))


@pytest.mark.smoke
def test_a_case_by_hand():
    """Positives score 3, 2, 1 and negatives 0, 2 with A; 2, 3, 0 and 1, 1 with B.

    A: of the negatives, the positives beat 1, 3/4, 1/2; of the positives, 1 and 1/2 are
    above the negatives. Area 3/4; variances 1/16 (of 3) and 1/8 (of 2), so
    1/48 + 1/16 = 1/12. B: 1, 1, 0 and 2/3, 2/3. Area 2/3; variances 1/3 (of 3) and 0,
    so 1/9. Covariance of the positives (1/4 * 1/3 + 0 + 1/4 * 2/3) / 2 = 1/8, of 3,
    so 1/24. The difference 1/12 varies by 1/12 + 1/9 - 2/24 = 1/9: z = 1/4.
    """
    positive = np.array([1, 1, 1, 0, 0], bool)
    score = np.array([[3, 2, 1, 0, 2], [2, 3, 0, 1, 1]], float)

    area, covariance = delong.covariance(score, positive, np.arange(5))
    found = delong.compare(score[:1], score[1:], positive, np.arange(5))

    np.testing.assert_allclose(area, [3 / 4, 2 / 3])
    np.testing.assert_allclose(covariance, [[1 / 12, 1 / 24], [1 / 24, 1 / 9]])
    assert found.difference == pytest.approx(1 / 12)
    assert found.error == pytest.approx(1 / 3)
    assert found.p == pytest.approx(0.80259, abs=1e-5)  # 2 * (1 - Phi(0.25))
    assert found.low == pytest.approx(1 / 12 - 1.959964 / 3, abs=1e-6)
    assert found.high == pytest.approx(1 / 12 + 1.959964 / 3, abs=1e-6)
    assert (found.positives, found.negatives) == (3, 2)


def test_mid_ranks_agree_with_a_double_loop_over_pairs():
    score, positive, _ = _random(models=3)

    area, covariance = delong.covariance(score, positive, np.arange(60))

    of_positive, of_negative, expected = _by_pairs(score, positive)
    np.testing.assert_allclose(area, expected)
    np.testing.assert_allclose(
        covariance,
        np.cov(of_positive) / positive.sum() + np.cov(of_negative) / (~positive).sum(),
    )
    for m in range(3):
        assert area[m] == pytest.approx(
            sklearn_metrics.roc_auc_score(positive, score[m])
        )


def test_clusters_agree_with_a_loop_over_groups_of_both_classes():
    """Obuchowski's S10, S01 and S11, term by term."""
    score, positive, group = _random(1, models=2, count=50, patients=14)

    _, covariance = delong.covariance(score, positive, group)

    of_positive, of_negative, area = _by_pairs(score, positive)
    m, n = positive.sum(), (~positive).sum()
    terms, both, units, names = [0.0, 0.0], 0.0, [0, 0], np.unique(group)
    for name in names:
        inside = group[positive] == name, group[~positive] == name
        x = of_positive[:, inside[0]].sum(axis=1) - inside[0].sum() * area
        y = of_negative[:, inside[1]].sum(axis=1) - inside[1].sum() * area
        terms[0] += np.outer(x, x)
        terms[1] += np.outer(y, y)
        both += np.outer(x, y)
        units = [units[c] + inside[c].any() for c in (0, 1)]
    s10 = units[0] / ((units[0] - 1) * m) * terms[0]
    s01 = units[1] / ((units[1] - 1) * n) * terms[1]
    s11 = len(names) / (len(names) - 1) * both
    np.testing.assert_allclose(
        covariance, s10 / m + s01 / n + (s11 + s11.T) / (m * n), atol=1e-15
    )


def test_copies_of_images_add_nothing_when_they_share_a_group():
    score, positive, _ = _random(2)
    once = delong.compare(score[:1], score[1:], positive, np.arange(60))
    copies = [np.repeat(x, 4, axis=-1) for x in (score[:1], score[1:], positive)]

    together = delong.compare(*copies, np.repeat(np.arange(60), 4))
    apart = delong.compare(*copies, np.arange(240))

    assert together.error == pytest.approx(once.error)
    assert together.p == pytest.approx(once.p)
    assert apart.error == pytest.approx(once.error / 2, rel=0.02)


def test_several_seeds_are_the_mean_of_areas_with_their_covariance():
    score, positive, group = _random(3, models=5, patients=20)

    found = delong.compare(score[:3], score[3:], positive, group)

    area, covariance = delong.covariance(score, positive, group)
    weight = np.array([1 / 3, 1 / 3, 1 / 3, -1 / 2, -1 / 2])
    assert found.area == pytest.approx(area[:3].mean())
    assert found.other_area == pytest.approx(area[3:].mean())
    assert found.difference == pytest.approx(weight @ area)
    assert found.error == pytest.approx(np.sqrt(weight @ covariance @ weight))


def test_the_bootstrap_finds_about_the_same_error():
    score, positive, group = _random(4, count=300, patients=120)
    metric = classification.ClassificationMetric(("finding",), exclusive=False)
    summaries = [_summary(metric, one[:, None], positive[:, None]) for one in score]

    drawn = [
        intervals.draws(metric, one, group, resamples=1000, seed=0)["auroc"]
        for one in summaries
    ]

    found = delong.compare(score[:1], score[1:], positive, group)
    # A standard deviation of 1000 draws is within 5 % of its expectation.
    assert np.std(drawn[0] - drawn[1]) == pytest.approx(found.error, rel=0.1)


def test_models_that_rank_alike_have_no_p_value():
    score, positive, group = _random(5)

    found = delong.compare(score[:1], 2 * score[:1] - 7, positive, group)
    seeds = delong.compare(score, score[::-1], positive, group)

    for same in (found, seeds):
        assert same.difference == pytest.approx(0, abs=1e-12)
        assert same.error == 0
        assert np.isnan(same.p)


@pytest.mark.parametrize("positive", [[], [1, 1, 1], [0, 0, 0]])
def test_one_class_and_no_example_are_undefined(positive):
    positive = np.array(positive, bool)
    score = np.arange(len(positive), dtype=float)[None]

    found = delong.compare(score, -score, positive, np.arange(len(positive)))

    for name in ("area", "other_area", "difference", "error", "low", "high", "p"):
        assert np.isnan(getattr(found, name))
    assert found.positives + found.negatives == len(positive)


def test_positives_of_one_group_have_an_area_and_no_error():
    positive = np.array([1, 1, 0, 0, 0], bool)
    score = np.array([[5.0, 2.0, 1.0, 3.0, 0.0]])

    found = delong.compare(score, -score, positive, ["a", "a", "b", "c", "d"])

    assert found.difference == pytest.approx(5 / 6 - 1 / 6)
    assert np.isnan([found.error, found.low, found.high, found.p]).all()


def test_scores_without_a_rank_and_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="no rank"):
        delong.covariance([[1.0, np.nan]], [True, False], [0, 1])
    with pytest.raises(ValueError, match="N groups"):
        delong.covariance([[1.0, 2.0]], [True, False], [0])


def _summary(metric, probability, label, known=None):
    label = np.asarray(label, np.float32)
    return metric.summarise(
        {
            "probability": np.asarray(probability, np.float32),
            "label": label,
            "label_known": np.ones(label.shape, bool) if known is None else known,
            "record": np.arange(len(label)),
        }
    )


def test_each_class_is_tested_against_the_rest():
    rng = np.random.default_rng(6)
    metric = classification.ClassificationMetric(("a", "b", "c"), exclusive=True)
    label = np.eye(3)[rng.integers(3, size=80)]
    known = np.ones(label.shape, bool)
    known[:9] = False
    arms = [rng.dirichlet(np.ones(3), size=80) + 0.3 * label for _ in range(3)]
    summaries = [
        _summary(metric, one / one.sum(1)[:, None], label, known) for one in arms
    ]
    group = np.arange(80)

    found = delong.compare_classes(metric, summaries[:2], summaries[2:], group)

    values = [metric.compute(one) for one in summaries]
    assert list(found) == ["auroc/a", "auroc/b", "auroc/c"]
    for name, one in found.items():
        assert one.area == pytest.approx((values[0][name] + values[1][name]) / 2)
        assert one.other_area == pytest.approx(values[2][name])
        assert one.positives + one.negatives == 71
        assert one.p == pytest.approx(
            2 * stats.norm.sf(abs(one.difference) / one.error)
        )


@pytest.mark.parametrize("names", [("no", "yes"), ("finding",)])
def test_one_area_is_tested_once_by_the_name_of_its_value(names):
    rng = np.random.default_rng(7)
    exclusive = len(names) == 2
    metric = classification.ClassificationMetric(names, exclusive=exclusive)
    positive = rng.random(40) < 0.5
    label = np.stack([~positive, positive], 1)[:, -len(names) :]
    score = rng.random((2, 40))
    summaries = [
        _summary(metric, np.stack([1 - one, one], 1)[:, -len(names) :], label)
        for one in score
    ]

    found = delong.compare_classes(metric, summaries[:1], summaries[1:], np.arange(40))

    assert list(found) == ["auroc"]
    assert found["auroc"].area == pytest.approx(metric.compute(summaries[0])["auroc"])


def test_runs_on_different_examples_are_refused():
    metric = classification.ClassificationMetric(("finding",), exclusive=False)
    label = np.array([[1], [0], [1]])
    first = _summary(metric, [[0.1], [0.2], [0.3]], label)
    other = {**first, "record": first["record"] + 1}

    with pytest.raises(ValueError, match="different examples"):
        delong.compare_classes(metric, [first], [other], np.arange(3))
