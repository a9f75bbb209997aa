"""AUROC and decisions, against numbers worked out by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mtpret_jax.metrics import classification


def _batch(label, known=None):
    label = np.asarray(label, np.float32)
    known = np.ones(label.shape, bool) if known is None else np.asarray(known, bool)
    record = np.arange(len(label), dtype=np.int32)
    return {"label": label, "label_known": known, "record": record}


def _values(metric, probability, label, known=None):
    outputs = {"probability": np.asarray(probability, np.float32)}
    summary = metric.summarise(metric.records(outputs, _batch(label, known)))
    return metric.compute(summary)


def _two_class(score, positive):
    score, positive = np.asarray(score, float), np.asarray(positive, float)
    probability = np.stack([1 - score, score], axis=1)
    return probability, np.stack([1 - positive, positive], axis=1)


BINARY = classification.ClassificationMetric(("normal", "opacity"), exclusive=True)
LABELS = classification.ClassificationMetric(("mass", "nodule"), exclusive=False)
THREE = classification.ClassificationMetric(("a", "b", "c"), exclusive=True)


@pytest.mark.smoke
def test_two_classes_by_hand():
    """Pairs won: 0.9 beats both, 0.4 beats 0.2 and ties 0.4: 3.5 of 4."""
    values = _values(BINARY, *_two_class([0.9, 0.4, 0.4, 0.2], [1, 1, 0, 0]))

    expected = {
        "auroc": 3.5 / 4,
        "accuracy": 3 / 4,
        "sensitivity": 1 / 2,
        "specificity": 1.0,
        "kappa": 1 / 2,
    }
    assert values == pytest.approx(expected)


def test_confusion_agrees_with_scikit_learn_and_leaves_out_what_is_unknown():
    rng = np.random.default_rng(0)
    true, probability = rng.integers(3, size=50), rng.dirichlet(np.ones(3), 50)
    known = np.ones((50, 3), bool)
    known[:5] = False
    batch = _batch(np.eye(3)[true], known)

    found = [
        metric.confusion(metric.summarise(metric.records({"probability": p}, batch)))
        for metric, p in (
            (THREE, probability),
            (classification.ClassificationMetric("abc", exclusive=False), probability),
        )
    ]

    decided = probability.astype(np.float32).argmax(axis=1)
    expected = sklearn_metrics.confusion_matrix(true[5:], decided[5:])
    np.testing.assert_array_equal(found[0], expected)
    assert found[1] is None


@pytest.mark.smoke
def test_auroc_agrees_with_scikit_learn_when_scores_tie():
    rng = np.random.default_rng(0)
    metric = classification.ClassificationMetric("a", exclusive=False)
    for levels in (2, 5, 1000):
        score = (rng.integers(levels, size=300) / levels).astype(np.float32)
        positive = rng.random(300) < 0.3

        got = _values(metric, score[:, np.newaxis], positive[:, np.newaxis])["auroc"]

        assert got == pytest.approx(sklearn_metrics.roc_auc_score(positive, score))


def test_three_classes_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    probability = rng.dirichlet(np.ones(3), size=120).astype(np.float32)
    truth = rng.integers(3, size=120)

    values = _values(THREE, probability, np.eye(3)[truth])

    decided = probability.argmax(axis=1)
    area = [
        sklearn_metrics.roc_auc_score(truth == c, probability[:, c]) for c in (0, 1, 2)
    ]
    assert values["auroc"] == pytest.approx(np.mean(area))
    assert values["auroc/b"] == pytest.approx(area[1])
    assert values["accuracy"] == pytest.approx((decided == truth).mean())
    assert values["sensitivity"] == pytest.approx(
        sklearn_metrics.recall_score(truth, decided, average="macro")
    )


def test_labels_that_do_not_exclude_each_other():
    """Mass is ranked right; nodule is ranked wrong; each has one row above 0.5."""
    values = _values(LABELS, [[0.9, 0.2], [0.1, 0.8]], [[1, 1], [0, 0]])

    assert values["auroc/mass"] == 1.0
    assert values["auroc/nodule"] == 0.0
    assert values["auroc"] == 0.5
    assert values["accuracy"] == 0.5
    assert values["sensitivity"] == 0.5
    assert values["specificity"] == 0.5


def test_unknown_labels_do_not_change_the_values():
    label = [[1, 1], [0, 0], [1, 0]]
    known = [[True, True], [True, True], [False, False]]
    probability = [[0.9, 0.2], [0.1, 0.8], [0.0, 1.0]]

    with_unknown = _values(LABELS, probability, label, known)
    without = _values(LABELS, probability[:2], label[:2])

    assert with_unknown == without


def test_a_class_that_is_absent_leaves_the_mean_but_not_its_name():
    probability = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])

    values = _values(THREE, probability, np.eye(3)[[0, 1]])

    assert values["auroc"] == 1.0
    assert np.isnan(values["auroc/c"])


@pytest.mark.parametrize("metric", [BINARY, LABELS, THREE])
def test_one_class_only_is_undefined_and_not_zero(metric):
    size = len(metric.class_names)
    label = np.zeros((4, size))
    label[:, 0] = 1
    probability = np.full((4, size), 1 / size)

    values = _values(metric, probability, label)

    assert np.isnan(values["auroc"])
    assert values["accuracy"] >= 0


def test_nothing_known_is_undefined():
    values = _values(LABELS, np.full((2, 2), 0.5), np.ones((2, 2)), np.zeros((2, 2)))

    assert all(np.isnan(value) for value in values.values())


def test_order_and_batching_of_examples_do_not_matter():
    rng = np.random.default_rng(2)
    probability, label = _two_class(rng.random(40), rng.random(40) < 0.5)
    whole = _values(BINARY, probability, label)
    order = rng.permutation(40)

    parts = [
        BINARY.records({"probability": probability[i]}, _batch(label[i]))
        for i in np.array_split(order, 3)
    ]
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    assert BINARY.compute(BINARY.summarise(joined)) == whole


def test_a_subset_of_a_summary_gives_the_values_of_the_subset():
    rng = np.random.default_rng(3)
    probability, label = _two_class(rng.random(40), rng.random(40) < 0.5)
    keep = rng.integers(40, size=40)
    records = BINARY.records({"probability": probability}, _batch(label))
    summary = BINARY.summarise(records)

    values = BINARY.compute({name: array[keep] for name, array in summary.items()})

    assert values == _values(BINARY, probability[keep], label[keep])


def test_wrong_shapes_and_diverged_models_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\).*normal"):
        BINARY.records({"probability": np.ones((2, 3))}, _batch(np.ones((2, 2))))
    with pytest.raises(ValueError, match="diverged"):
        _values(BINARY, np.full((2, 2), np.nan), np.eye(2))
    with pytest.raises(ValueError, match="at least 2 classes"):
        classification.ClassificationMetric(("one",), exclusive=True)
