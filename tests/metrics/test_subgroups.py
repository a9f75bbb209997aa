"""Values by level of a column: only levels that exist, NaN where undefined."""

import numpy as np
import pytest

from mtpret_jax.metrics import classification, intervals, subgroups

BINARY = classification.ClassificationMetric(("no", "yes"), exclusive=True)
LABELS = classification.ClassificationMetric(("mass", "nodule"), exclusive=False)
OPTIONS = {"resamples": 50, "seed": 0}


def _summary(metric, probability, label):
    label = np.asarray(label, np.float32)
    return metric.summarise(
        {
            "probability": np.asarray(probability, np.float32),
            "label": label,
            "label_known": np.ones(label.shape, bool),
            "record": np.arange(len(label)),
        }
    )


def _binary(score, positive):
    score, positive = np.asarray(score, float), np.asarray(positive, float)
    return _summary(
        BINARY, np.stack([1 - score, score], 1), np.stack([1 - positive, positive], 1)
    )


@pytest.mark.smoke
def test_each_level_is_measured_on_its_own_images():
    rng = np.random.default_rng(0)
    score, positive = rng.random(40), rng.random(40) < 0.5
    sex = np.array(["M", "F", "", "F"] * 10)
    group = np.arange(40) // 8

    levels = subgroups.table(BINARY, _binary(score, positive), group, sex, **OPTIONS)

    assert [one.name for one in levels] == ["F", "M", "not recorded"]
    assert [one.images for one in levels] == [20, 10, 10]
    assert [one.groups for one in levels] == [5, 5, 5]
    for level, name in zip(levels, ("F", "M", ""), strict=True):
        inside = sex == name
        part = _binary(score[inside], positive[inside])
        assert level.values == pytest.approx(BINARY.compute(part))
        drawn = intervals.draws(BINARY, part, group[inside], **OPTIONS)
        ends = intervals.interval(drawn["auroc"])
        assert (level.low["auroc"], level.high["auroc"]) == ends


def test_levels_of_one_class_are_undefined_and_still_counted():
    levels = subgroups.table(
        BINARY,
        _binary([0.1, 0.9, 0.8, 0.7], [0, 1, 1, 1]),
        np.arange(4),
        ["AP", "AP", "PA", "PA"],
        **OPTIONS,
    )

    assert levels[0].values["auroc"] == 1
    for ends in (levels[1].values, levels[1].low, levels[1].high):
        assert np.isnan(ends["auroc"])
    assert levels[1].values["accuracy"] == 1
    assert levels[1].images == 2


def test_a_mean_over_classes_needs_all_classes_of_the_whole():
    label = [[1, 1], [0, 0], [1, 0], [0, 0]]
    probability = [[0.9, 0.9], [0.1, 0.2], [0.8, 0.3], [0.4, 0.1]]

    first, second = subgroups.table(
        LABELS,
        _summary(LABELS, probability, label),
        np.arange(4),
        list("aabb"),
        **OPTIONS,
    )

    assert first.values["auroc"] == 1
    assert second.values["auroc/mass"] == 1
    assert np.isnan(second.values["auroc/nodule"])
    for ends in (second.values, second.low, second.high):
        assert np.isnan(ends["auroc"])


def test_one_group_has_a_value_and_no_interval():
    (level,) = subgroups.table(
        BINARY, _binary([0.1, 0.9], [0, 1]), ["p", "p"], ["M", "M"], **OPTIONS
    )

    assert level.values["auroc"] == 1
    assert (level.images, level.groups) == (2, 1)
    assert np.isnan([level.low["auroc"], level.high["auroc"]]).all()


def test_a_column_of_another_length_is_refused():
    with pytest.raises(ValueError, match="each of 2 examples"):
        subgroups.table(BINARY, _binary([0.1, 0.9], [0, 1]), [0, 1], ["M"], **OPTIONS)


def test_ages_fall_into_bands_that_sort():
    years = [0, 5.9, 6, 17, 18, 39.9, 40, 60, 97, np.nan, -1]

    bands = subgroups.age_bands(years)

    expected = ["00-05", "00-05", "06-11", "12-17", "18-39", "18-39", "40-59"]
    assert bands.tolist() == [*expected, "60+", "60+", "", ""]
    assert sorted(set(bands)) == ["", *dict.fromkeys([*expected, "60+"])]
