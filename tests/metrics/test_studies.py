"""Values per study, worked out by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mtpret_jax.metrics import classification, intervals

BINARY = classification.ClassificationMetric(("normal", "abnormal"), exclusive=True)
LABELS = classification.ClassificationMetric(("mass", "nodule"), exclusive=False)


def _summary(metric, probability, label, study=None, known=None):
    label = np.asarray(label, np.float32)
    batch = {
        "label": label,
        "label_known": np.ones(label.shape, bool) if known is None else known,
        "record": np.arange(len(label), dtype=np.int32),
    }
    if study is not None:
        batch["study"] = np.asarray(study, np.int32)
    outputs = {"probability": np.asarray(probability, np.float32)}
    return metric.summarise(metric.records(outputs, batch))


def _abnormal(score, positive, study, known=None):
    """A summary of the two-class metric from the score and truth of `abnormal`."""
    score, positive = np.asarray(score, float), np.asarray(positive, float)
    if known is not None:
        known = np.repeat(np.asarray(known, bool)[:, None], 2, axis=1)
    return _summary(
        BINARY,
        np.stack([1 - score, score], axis=1),
        np.stack([1 - positive, positive], axis=1),
        study,
        known,
    )


@pytest.mark.smoke
def test_two_classes_by_hand():
    """Means 0.5 (of 0.75, 0.25) and 0.75 of abnormal, 0.25, 0.5 of normal studies.

    Pairs won: 0.5 beats 0.25 and ties 0.5, 0.75 beats both: 3.5 of 4. Only 0.75 is
    decided abnormal: 3 of 4 right, by chance (2 * 1 + 2 * 3) / 16, kappa 0.5.
    """
    score = [0.75, 0.25, 0.75, 0.25, 0.25, 0.5]
    positive = [1, 1, 1, 0, 0, 0]

    values = BINARY.compute(_abnormal(score, positive, [7, 7, 2, 4, 4, 5]))

    assert values["auroc_study"] == pytest.approx(3.5 / 4)
    assert values["kappa_study"] == pytest.approx(0.5)
    # Per image: 2 * 3 + 2 * 0.5 pairs won; 5 right, by chance (3 * 2 + 3 * 4) / 6.
    assert values["auroc"] == pytest.approx(7 / 9)
    assert values["kappa"] == pytest.approx((5 - 3) / (6 - 3))


def test_a_study_counts_once_however_many_images_it_has():
    few = _abnormal([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], [0, 1, 2, 3])
    many = _abnormal(
        [0.9, 0.4, 0.4, 0.4, 0.6, 0.6, 0.1],
        [1, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 2, 2, 3],
    )

    for name in ("auroc_study", "kappa_study"):
        assert BINARY.compute(many)[name] == pytest.approx(BINARY.compute(few)[name])


def test_studies_of_one_image_give_the_values_of_the_images():
    rng = np.random.default_rng(0)
    score, positive = rng.random(60), rng.random(60) < 0.4

    values = BINARY.compute(_abnormal(score, positive, rng.permutation(60)))

    assert values["auroc_study"] == pytest.approx(values["auroc"])
    assert values["kappa_study"] == pytest.approx(values["kappa"])


def test_an_image_without_a_study_is_a_study_by_itself():
    score, positive = [0.9, 0.2, 0.3, 0.8], [1, 1, 0, 0]

    some = BINARY.compute(_abnormal(score, positive, [3, -1, -1, 3 + 1]))
    alone = BINARY.compute(_abnormal(score, positive, [0, 1, 2, 3]))

    assert some == alone


def test_without_studies_nothing_is_said_of_them():
    score, positive = [0.9, 0.2], [1, 0]

    for study in (None, [-1, -1]):
        values = BINARY.compute(_abnormal(score, positive, study))
        assert not [name for name in values if "study" in name]


def test_one_study_and_one_class_are_undefined_and_not_zero():
    one_study = BINARY.compute(_abnormal([0.9, 0.2], [1, 1], [0, 0]))
    one_class = BINARY.compute(_abnormal([0.9, 0.2, 0.4], [1, 1, 1], [0, 1, 1]))

    for values in (one_study, one_class):
        for name in ("auroc", "kappa", "auroc_study", "kappa_study"):
            assert np.isnan(values[name])


def test_unknown_images_do_not_change_their_study():
    score, positive = [0.9, 0.3, 0.1, 0.6], [1, 1, 0, 0]
    study = [0, 1, 2, 3]
    expected = BINARY.compute(_abnormal(score, positive, study))

    more = _abnormal(
        [*score, 0.01, 0.99], [*positive, 0, 1], [*study, 0, 9], [1, 1, 1, 1, 0, 0]
    )

    assert BINARY.compute(more) == expected


def test_exclusive_studies_whose_images_disagree_are_left_out():
    expected = BINARY.compute(_abnormal([0.9, 0.4], [1, 0], [0, 1]))

    both = BINARY.compute(_abnormal([0.9, 0.4, 0.2, 0.7], [1, 0, 1, 0], [0, 1, 2, 2]))

    for name in ("auroc_study", "kappa_study"):
        assert both[name] == expected[name]


def test_of_labels_that_do_not_exclude_each_other_one_image_may_show_the_finding():
    """Studies 0 (means 0.5, 0.4) and 1 (0.2, 0.6).

    Mass: only the first has it, and 0.5 > 0.2; decided right. Nodule: the first has it
    in one image, unknown in the other, where 0.2 < 0.6; decided wrong, kappa -1.
    """
    probability = [[0.7, 0.2], [0.3, 0.6], [0.2, 0.6]]
    label = [[1, 1], [0, 0], [0, 0]]
    known = np.array([[True, True], [True, False], [True, True]])

    values = LABELS.compute(_summary(LABELS, probability, label, [0, 0, 1], known))

    assert values["auroc_study/mass"] == 1.0
    assert values["auroc_study/nodule"] == 0.0
    assert values["auroc_study"] == 0.5
    assert values["kappa_study"] == pytest.approx((1 - 1) / 2)


def test_three_classes_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    metric = classification.ClassificationMetric(("a", "b", "c"), exclusive=True)
    study = rng.integers(50, size=200)
    truth = rng.integers(3, size=50)
    probability = rng.dirichlet(np.ones(3), size=200).astype(np.float32)

    label = np.eye(3)[truth[study]]
    values = metric.compute(_summary(metric, probability, label, study))

    there = np.unique(study)
    mean = np.stack([probability[study == s].mean(axis=0) for s in there])
    area = [
        sklearn_metrics.roc_auc_score(truth[there] == c, mean[:, c]) for c in (0, 1, 2)
    ]
    assert values["auroc_study"] == pytest.approx(np.mean(area))
    assert values["auroc_study/b"] == pytest.approx(area[1])
    expected = sklearn_metrics.cohen_kappa_score(truth[there], mean.argmax(axis=1))
    assert values["kappa_study"] == pytest.approx(expected)
    expected = sklearn_metrics.cohen_kappa_score(
        truth[study], probability.argmax(axis=1)
    )
    assert values["kappa"] == pytest.approx(expected)


def test_a_patient_drawn_twice_counts_each_of_its_studies_twice():
    score, positive = [0.9, 0.3, 0.1, 0.2, 0.6], [1, 1, 0, 0, 0]
    summary = _abnormal(score, positive, [0, 0, 1, 1, 2])
    twice = [0, 1, 0, 1, 2, 3, 4]

    drawn = BINARY.compute({name: array[twice] for name, array in summary.items()})

    copied = _abnormal(
        [0.9, 0.3, 0.9, 0.3, 0.1, 0.2, 0.6],
        [1, 1, 1, 1, 0, 0, 0],
        [0, 0, 3, 3, 1, 1, 2],
    )
    for name, value in BINARY.compute(copied).items():
        assert drawn[name] == pytest.approx(value)


def test_values_per_study_have_intervals_by_patient():
    rng = np.random.default_rng(2)
    study = rng.integers(40, size=120)
    truth = rng.random(40) < 0.5
    score = np.clip(0.5 + 0.2 * (truth[study] - 0.5) + rng.normal(0, 0.2, 120), 0, 1)

    summary = _abnormal(score, truth[study], study)
    drawn = intervals.draws(
        BINARY, summary, [f"p{s // 2}" for s in study], resamples=200, seed=0
    )

    values = BINARY.compute(summary)
    for name in ("auroc_study", "kappa_study", "kappa"):
        low, high = intervals.interval(drawn[name])
        assert low < values[name] < high
