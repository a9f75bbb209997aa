"""Linear probe and neighbours on features whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special
from sklearn import base, linear_model, metrics

from mtpret_jax.metrics import probes

pytestmark = pytest.mark.smoke


def _examples(feature, label, *, known=None, exclusive=True) -> probes.Examples:
    label = np.asarray(label, np.float32)
    known = np.ones(label.shape, bool) if known is None else known
    return probes.Examples(np.asarray(feature), label, known, exclusive)


def _both(train: probes.Examples, feature: np.ndarray) -> dict[str, np.ndarray]:
    linear = probes.linear(train, feature, strength=probes.STRENGTH)
    return {"linear": linear, "knn": probes.vote(train, feature)}


def _classes(rng: np.random.Generator, count: int, apart: float):
    """Features of three classes, the last of whose axes say nothing; one-hot."""
    truth = np.arange(count) % 3
    feature = rng.normal(size=(count, 16))
    feature[:, :3] += apart * np.eye(3)[truth]
    return feature.astype(np.float32), np.eye(3)[truth]


@pytest.mark.parametrize("exclusive", [True, False])
def test_classes_that_lie_apart_are_told_apart(exclusive):
    rng = np.random.default_rng(0)
    feature, label = _classes(rng, 60, 20.0)
    unseen, truth = _classes(rng, 90, 20.0)

    found = _both(_examples(feature, label, exclusive=exclusive), unseen)

    for probability in found.values():
        assert probability.dtype == np.float32
        for column in range(3):
            area = metrics.roc_auc_score(truth[:, column], probability[:, column])
            assert area == 1.0
        if exclusive:
            np.testing.assert_allclose(probability.sum(1), 1.0, rtol=1e-6)


def test_features_that_say_nothing_tell_nothing():
    rng = np.random.default_rng(1)
    feature, label = _classes(rng, 90, 0.0)
    unseen, truth = _classes(rng, 1200, 0.0)

    for probability in _both(_examples(feature, label), unseen).values():
        for column in range(3):
            # 400 against 800 give a standard error of 0.018; and what is learnt by
            # chance from 90 counts, too.
            area = metrics.roc_auc_score(truth[:, column], probability[:, column])
            assert abs(area - 0.5) < 0.07


def _fitted(train: probes.Examples, feature: np.ndarray, strength: float):
    """What the docstring says, written out: one weight a class, found by SciPy."""
    part = train.counted / train.counted.sum(axis=0)
    rows = train.counted.any(axis=1)
    mean, scale = train.feature[rows].mean(0), train.feature[rows].std(0)
    known, asked = (
        np.hstack([(x - mean) / scale, np.ones((len(x), 1))])
        for x in (train.feature, feature)
    )

    def logarithms(logits):
        if train.exclusive:
            return special.log_softmax(logits, axis=1), 0.0 * logits
        return special.log_expit(logits), special.log_expit(-logits)

    def loss(flat):
        weight = flat.reshape(known.shape[1], -1)
        yes, no = logarithms(known @ weight)
        found = train.label * yes + (1 - train.label) * no
        return -(part * found).sum() + strength / 2 * np.square(weight[:-1]).sum()

    start = np.zeros(known.shape[1] * train.label.shape[1])
    best = optimize.minimize(loss, start, method="L-BFGS-B", options={"maxfun": 10**6})
    return np.exp(logarithms(asked @ best.x.reshape(known.shape[1], -1))[0])


@pytest.mark.parametrize("strength", [0.01, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("exclusive", [True, False])
def test_the_linear_probe_makes_least_what_it_says(strength, classes, exclusive):
    rng = np.random.default_rng(2)
    feature, label = _classes(rng, 60, 1.0)
    # Units and offsets of features must not matter.
    feature = feature * rng.uniform(0.01, 100, 16) + rng.normal(size=16)
    held = label[:, :classes].any(axis=1)
    known = rng.random((60, classes)) < 0.9
    train = _examples(
        feature[held], label[held, :classes], known=known[held], exclusive=exclusive
    )

    found = probes.linear(train, feature[::-2] + 0.1, strength=strength)

    wanted = _fitted(train, feature[::-2] + 0.1, strength)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_neighbours_vote_by_their_cosine():
    train = _examples([[2.0, 0.0], [0.0, 0.5], [-1.0, 0.0]], [[1, 0], [0, 1], [1, 0]])

    found = probes.vote(train, np.array([[3.0, 4.0], [0.0, 0.0]]))

    # Cosines 0.6, 0.8 and -0.6; of nothing 0 with all.
    votes = [math.exp(cosine / 0.07) for cosine in (0.6, 0.8, -0.6)]
    first = (votes[0] + votes[2]) / sum(votes)
    np.testing.assert_allclose(found, [[first, 1 - first], [2 / 3, 1 / 3]], rtol=1e-6)


def test_twenty_vote_and_of_equally_near_ones_the_earlier():
    near = np.tile([1.0, 0.0], (22, 1))
    far = np.tile([1.0, 0.1], (50, 1))
    label = np.zeros((72, 2))
    label[:15, 0] = label[15:, 1] = 1

    found = probes.vote(_examples(np.vstack([near, far]), label), near[:1])

    # Fifteen and five, though there are seven of the second class as near.
    np.testing.assert_allclose(found, [[15 / 20, 5 / 20]], rtol=1e-6)


def test_many_rows_are_predicted_as_few_are(monkeypatch):
    rng = np.random.default_rng(3)
    feature, label = _classes(rng, 30, 1.0)
    train = _examples(feature, label)
    whole = probes.vote(train, feature)

    monkeypatch.setattr(probes, "_ROWS", 7)

    np.testing.assert_allclose(probes.vote(train, feature), whole, rtol=1e-6)


def test_what_is_not_known_does_not_count():
    rng = np.random.default_rng(4)
    feature, label = _classes(rng, 60, 2.0)
    known = rng.random(label.shape) < 0.6
    wrong = np.where(known, label, 1 - label)

    clean = _both(_examples(feature, label, known=known, exclusive=False), feature)
    spoilt = _both(_examples(feature, wrong, known=known, exclusive=False), feature)

    for name, probability in clean.items():
        np.testing.assert_array_equal(probability, spoilt[name], err_msg=name)
    # The twenty are those of which the label is known.
    held = known[:, 0]
    alone = _examples(feature[held], label[held, :1], exclusive=False)
    np.testing.assert_allclose(
        clean["knn"][:, :1], probes.vote(alone, feature), rtol=1e-6
    )


def test_of_classes_that_exclude_each_other_all_must_be_known():
    rng = np.random.default_rng(5)
    feature, label = _classes(rng, 60, 2.0)
    known = np.ones(label.shape, bool)
    known[::4, 1] = False
    held = known.all(1)

    found = _both(_examples(feature, label, known=known), feature)
    wanted = _both(_examples(feature[held], label[held]), feature)

    for name, probability in found.items():
        np.testing.assert_allclose(probability, wanted[name], rtol=1e-5, err_msg=name)


def test_a_label_with_one_value_is_predicted_by_its_share():
    rng = np.random.default_rng(6)
    feature, label = _classes(rng, 30, 2.0)
    label[:, 1] = 0.0
    known = np.ones(label.shape, bool)
    known[:, 2] = False

    train = _examples(feature, label, known=known, exclusive=False)
    for probability in _both(train, feature).values():
        assert len(np.unique(probability[:, 0])) > 1
        assert (probability[:, 1] == 0.0).all()
        assert (probability[:, 2] == 0.5).all()


def test_a_class_without_an_image_has_no_share():
    rng = np.random.default_rng(7)
    feature, label = _classes(rng, 30, 2.0)
    held = label[:, 1] == 0

    for probability in _both(_examples(feature[held], label[held]), feature).values():
        assert (probability[:, 1] == 0.0).all()
        np.testing.assert_allclose(probability.sum(1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("are_known", [True, False])
def test_one_class_alone_is_refused(exclusive, are_known):
    label = np.tile([1.0, 0.0], (5, 1))
    known = np.full(label.shape, are_known)

    with pytest.raises(ValueError, match=r"of the 5 training images.*label_fraction"):
        _examples(np.eye(5), label, known=known, exclusive=exclusive)


def test_a_feature_that_never_changes_does_no_harm():
    rng = np.random.default_rng(8)
    feature, label = _classes(rng, 30, 2.0)
    dead = np.hstack([feature, np.full((30, 2), 3.0)])

    found = probes.linear(_examples(dead, label), dead, strength=0.1)
    wanted = probes.linear(_examples(feature, label), feature, strength=0.1)

    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("strength", probes.STRENGTHS)
def test_the_linear_probe_is_at_scikit_learns_optimum(exclusive, strength, monkeypatch):
    """Its loss is that of a solver that goes on until nothing changes."""
    fitted = []

    fit = linear_model.LogisticRegression.fit

    def keep(self, rows, label):
        fitted.append((self, rows, label))
        return fit(self, rows, label)

    monkeypatch.setattr(linear_model.LogisticRegression, "fit", keep)
    rng = np.random.default_rng(9)
    feature, label = _classes(rng, 90, 1.0)
    train = _examples(feature, label, exclusive=exclusive)

    probes.linear(train, feature, strength=strength)

    def loss(model, rows, label) -> float:
        known = model.predict_proba(rows)[np.arange(len(rows)), label.astype(int)]
        return -model.C * np.log(known).sum() + np.square(model.coef_).sum() / 2

    assert len(fitted) == (1 if exclusive else 3)
    for model, rows, label in fitted:
        best = base.clone(model).set_params(tol=1e-10, max_iter=10**4)
        fit(best, rows, label)
        assert loss(model, rows, label) == pytest.approx(
            loss(best, rows, label), rel=1e-6
        )
