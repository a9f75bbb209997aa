"""How often intervals hold the truth, by simulation where the truth is known.

Every trial is a new test split. All trials of a simulation are columns of one summary,
so that the resampling under test draws for all of them at once. The truth is that of
the normal law: positives score N(shift, 1) above negatives N(0, 1), patients vary
together, and the AUROC is Phi(shift / sqrt(2)).
"""

import numpy as np
import pytest
from scipy import stats

from mtpret_jax.metrics import comparison, delong, intervals, ratios, weighing

TRIALS = 500  # Two standard errors of a share of 0.95 are then 0.02.
NOMINAL = pytest.approx(0.95, abs=0.03)


class TrialsMetric:
    """AUROC of many trials; `won` says which pairs each trial ranks rightly."""

    primary = "0"

    def __init__(self, score, positive):
        above, below = score[:, positive, None], score[:, None, ~positive]
        won = (above > below).astype(np.float32)
        self._shape = won.shape
        self._won = won.reshape(-1, won.shape[2])
        self._positive = positive

    def compute(self, summary):
        return weighing.once(self, summary)

    def weighted(self, summary, weight):
        above = weight[self._positive].astype(np.float32)
        below = weight[~self._positive].astype(np.float32)
        pairs = above.sum(axis=0) * below.sum(axis=0)
        wins = (self._won @ below).reshape(*self._shape[:2], -1)
        won = np.einsum("tpr,pr->tr", wins, above)
        area = ratios.ratio(won, np.broadcast_to(pairs, won.shape))
        return dict(zip(map(str, range(len(area))), area, strict=True))


def _drawn(score, positive, groups, *, resamples):
    """Areas [trials] and their draws [trials, resamples]."""
    metric = TrialsMetric(score, positive)
    summary = {"record": np.arange(len(positive))}
    area = np.array(list(metric.compute(summary).values()))
    drawn = intervals.draws(metric, summary, groups, resamples=resamples, seed=0)
    return area, np.stack(list(drawn.values()))


def _patients(count, images):
    """Labels and groups: every other patient positive, all images of one alike."""
    group = np.repeat(np.arange(count), images)
    return group % 2 == 1, group


def _noise(rng, trials, group, *, shared):
    """N(0, 1), of which the share `shared` of the variance is the patient's."""
    of_patient = rng.normal(size=(trials, group.max() + 1))[:, group]
    of_image = rng.normal(size=(trials, len(group)))
    return np.sqrt(shared) * of_patient + np.sqrt(1 - shared) * of_image


def _holding(low, truth, high):
    return np.mean((np.array(low) <= truth) & (truth <= np.array(high)))


def _clustered(rng, patients):
    """Trials of patients with 2 images each, and a true AUROC of Phi(0.8)."""
    positive, group = _patients(patients, 2)
    noise = _noise(rng, TRIALS, group, shared=0.8)
    score = noise + 0.8 * np.sqrt(2) * positive
    return score.astype(np.float32), positive, group, float(stats.norm.cdf(0.8))


def _coverage(score, positive, groups, truth):
    _, drawn = _drawn(score, positive, groups, resamples=400)
    ends = np.array([intervals.interval(one) for one in drawn])
    return _holding(ends[:, 0], truth, ends[:, 1]), np.diff(ends).mean()


def test_intervals_of_an_auroc_hold_the_truth_95_times_in_100():
    positive, group = _patients(100, 1)
    noise = _noise(np.random.default_rng(1), TRIALS, group, shared=0.0)
    score = (noise + 0.8 * np.sqrt(2) * positive).astype(np.float32)

    held, _ = _coverage(score, positive, group, stats.norm.cdf(0.8))

    assert held == NOMINAL


def test_patients_must_be_drawn_whole_where_their_images_vary_together():
    score, positive, group, truth = _clustered(np.random.default_rng(0), 80)

    held, width = _coverage(score, positive, group, truth)
    held_apart, width_apart = _coverage(score, positive, np.arange(160), truth)

    assert held == NOMINAL
    assert held_apart < 0.9
    # The mean of 2 images with 0.8 of their variance in common varies as that of
    # 2 / (1 + 0.8) images apart.
    assert width / width_apart == pytest.approx(np.sqrt(1.8), rel=0.1)


def test_delongs_intervals_hold_the_truth_95_times_in_100_also_of_clusters():
    score, positive, group, truth = _clustered(np.random.default_rng(5), 120)
    z = stats.norm.ppf(0.975)
    held = {}
    for name, groups in (("clustered", group), ("apart", np.arange(240))):
        area, covariance = delong.covariance(score, positive, groups)
        half = z * np.sqrt(np.diag(covariance))
        held[name] = _holding(area - half, truth, area + half)

    assert held["clustered"] == NOMINAL
    assert held["apart"] < 0.9


def _arms(rng, *, of_seed):
    """Estimates of the difference of two arms over 3 seeds, less the true difference.

    Both arms share their patients' difficulty. Seed s of an arm has its own shift,
    N(arm's shift, of_seed**2), so that its AUROC is on average
    Phi(shift / sqrt(2 + of_seed**2)).
    """
    positive, group = _patients(60, 1)
    hard = rng.normal(size=(TRIALS, len(group)))
    arms = []
    for shift in (1.3, 1.0):
        truth = stats.norm.cdf(shift / np.sqrt(2 + of_seed**2))
        values, drawn = [], []
        for _ in range(3):
            moved = shift + of_seed * rng.normal(size=(TRIALS, 1))
            own = rng.normal(size=hard.shape)
            score = moved * positive + np.sqrt(0.7) * hard + np.sqrt(0.3) * own
            one = _drawn(score.astype(np.float32), positive, group, resamples=250)
            values.append(one[0] - truth)
            drawn.append(one[1] - truth)
        arms += [np.stack(values, axis=1), np.stack(drawn, axis=1)]
    return [comparison.difference(*one) for one in zip(*arms, strict=True)]


def _shares(differences):
    """How often either interval holds the truth, and a verdict is wrong."""
    claims = [comparison.judge({"a": one})["a"] for one in differences]
    return (
        np.mean([one.low <= 0 <= one.high for one in differences]),
        np.mean([one.low_retrained <= 0 <= one.high_retrained for one in differences]),
        np.mean([one.p < 0.05 for one in differences]),
        np.mean([claim.verdict != comparison.UNDECIDED for claim in claims]),
    )


def test_differences_over_seeds_that_agree():
    fixed, retrained, found, wrong = _shares(
        _arms(np.random.default_rng(2), of_seed=0.0)
    )

    assert fixed == NOMINAL
    assert found == pytest.approx(0.05, abs=0.03)
    # What is added for the seeds is never less than nothing, so on average too much.
    assert retrained >= 0.94
    assert wrong <= 0.06


def test_differences_over_seeds_that_disagree_need_the_interval_of_retraining():
    fixed, retrained, found, wrong = _shares(
        _arms(np.random.default_rng(3), of_seed=0.3)
    )

    assert fixed < 0.8
    assert found > 0.2
    assert retrained == NOMINAL
    assert wrong <= 0.08
