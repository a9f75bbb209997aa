"""What validation teaches: by classes of which there is enough, each for itself."""

import types

import numpy as np
import pytest
from scipy import special

from mtpret_jax import config as schema
from mtpret_jax.experiment import run
from mtpret_jax.inference import answers
from mtpret_jax.metrics import classification, detection, operating_points, segmentation

FINDINGS = ("effusion", "nodule", "mass", "hernia")
METRIC = classification.ClassificationMetric(FINDINGS, exclusive=False)


def _validation(positives, sureness=(1.0,) * 4, *, count=400, seed=0):
    """Records in which label c has `positives[c]` images; logits times `sureness`.

    At a sureness of 1 the probabilities come true.
    """
    rng = np.random.default_rng(seed)
    logit = rng.normal(scale=1.5, size=(count, len(positives)))
    label = rng.random(logit.shape) < special.expit(logit)
    for c, wanted in enumerate(positives):
        place = rng.permutation(np.flatnonzero(label[:, c]))
        label[place[wanted:], c] = False
    assert label.sum(axis=0).tolist() == list(positives)
    return {
        "probability": special.expit(logit * sureness).astype(np.float32),
        "label": label.astype(np.float32),
        "label_known": np.ones(label.shape, bool),
        "record": np.arange(count, dtype=np.int32),
    }


def test_a_rare_class_neither_forbids_the_choice_nor_has_a_part_in_it():
    records = _validation((150, 60, 30, 5))
    areas = METRIC.compute(METRIC.summarise(records))
    expected = np.mean([areas[f"auroc/{name}"] for name in FINDINGS[:3]])

    assert operating_points.choice(METRIC, records) == pytest.approx(expected)
    records["probability"][:, 3] = 0.5
    assert operating_points.choice(METRIC, records) == pytest.approx(expected)


def test_validation_does_not_choose_where_most_classes_are_rare():
    assert np.isfinite(operating_points.choice(METRIC, _validation((150, 60, 29, 5))))
    assert np.isnan(operating_points.choice(METRIC, _validation((150, 29, 29, 5))))


def test_one_of_two_classes_must_have_enough_with_and_without():
    metric = classification.ClassificationMetric(("no", "yes"), exclusive=True)

    for positives, enough in ((30, True), (29, False), (371, False)):
        yes = np.arange(400) < positives
        score = np.linspace(0, 1, 400, dtype=np.float32)
        records = {
            "probability": np.stack([1 - score, score], axis=1),
            "label": np.stack([~yes, yes], axis=1),
            "label_known": np.ones((400, 2), bool),
            "record": np.arange(400),
        }
        assert np.isfinite(operating_points.choice(metric, records)) == enough
        told = operating_points.fit(metric, records)
        assert bool(told["thresholds"]) == ("temperature" in told) == enough
        expected = {} if enough else {"yes": [positives, 400 - positives]}
        assert told["lacking"] == expected


def test_boxes_and_masks_choose_where_there_are_enough_images():
    boxes, masks = detection.DetectionMetric(1), segmentation.SegmentationMetric("ab")
    for count in (29, 30):
        found = {
            "box": np.tile([0.1, 0.1, 0.5, 0.5], (40, 1, 1)),
            "score": np.full((40, 1), 0.5),
            "class": np.zeros((40, 1), int),
            "valid": np.ones((40, 1), bool),
            "record": np.arange(40),
        }
        found |= {"truth_box": found["box"], "truth_class": found["class"]}
        found["truth_valid"] = np.arange(40)[:, None] < count
        pixels = {name: np.ones((count, 2), int) for name in ("tp", "fp", "fn")}
        pixels["record"] = np.arange(count)

        assert np.isfinite(operating_points.choice(boxes, found)) == (count == 30)
        assert np.isfinite(operating_points.choice(masks, pixels)) == (count == 30)


@pytest.mark.parametrize("value", [0.75, None])
def test_auto_takes_the_last_step_only_where_validation_could_not_tell(
    value, monkeypatch
):
    made = object.__new__(run.Run)  # Without a set, and devices.
    monkeypatch.setattr(made, "_template", lambda: None)
    made.checkpoints = types.SimpleNamespace(
        best=lambda: (4, value), newest=lambda: (9, 0.5), restore=lambda step, _: step
    )
    made.row = schema.RunConfig(finetune=schema.FinetuneConfig(selection="auto"))

    state, facts = made.choose()

    assert state == facts["best_step"] == (9 if value is None else 4)
    assert facts["selection"] == ("last" if value is None else "validation")


def test_each_label_has_its_own_temperature_and_threshold_if_it_has_enough():
    told = operating_points.fit(
        METRIC, _validation((150, 60, 40, 5), (3.0, 1.0, 0.4, 1.0))
    )

    assert list(told["thresholds"]) == list(told["temperatures"]) == [*FINDINGS[:3]]
    assert told["temperatures"]["effusion"] > 1.5  # Too sure.
    assert told["temperatures"]["mass"] < told["temperatures"]["nodule"]
    assert "temperature" not in told


def test_exclusive_classes_share_a_temperature():
    metric = classification.ClassificationMetric(FINDINGS, exclusive=True)
    rng = np.random.default_rng(1)
    logit = rng.normal(scale=2, size=(400, 4))
    logit[:, 3] -= 6
    chosen = (special.softmax(logit, axis=1).cumsum(axis=1) < rng.random((400, 1))).sum(
        axis=1
    )
    records = {
        "probability": special.softmax(2 * logit, axis=1).astype(np.float32),
        "label": np.eye(4)[chosen],
        "label_known": np.ones((400, 4), bool),
        "record": np.arange(400),
    }

    told = operating_points.fit(metric, records)

    assert told["temperature"] == pytest.approx(2, rel=0.25)
    assert not told["temperatures"]
    assert set(told["thresholds"]) == set(FINDINGS[:3])


def test_why_a_class_has_no_decision_is_told():
    some = operating_points.fit(
        METRIC, _validation((150, 60, 40, 5), (3.0, 1.0, 0.4, 1.0))
    )
    none = operating_points.fit(METRIC, _validation((5, 6, 7, 8)))

    (last,) = FINDINGS[3:]
    others = some["lacking"][last][1]
    assert operating_points.shortfall(some) == (
        "No decision for 1 class: validation has too few images "
        f"('{last}' 5 with and {others} without; 30 of either are needed)."
    )
    assert "No decision for 4 classes, and no calibrated" in operating_points.shortfall(
        none
    )
    assert operating_points.shortfall({}) == ""
    assert "decision" not in _answer(none)
    assert "calibrated" not in _answer(none)


def _answer(decisions):
    task = schema.TaskConfig(exclusive=False)
    probability = {"probability": np.array([0.9, 0.6, 0.2, 0.5])}
    return answers.Classification(FINDINGS, task, decisions).answer(probability, None)


def test_an_answer_calibrates_each_label_by_its_own_temperature():
    thresholds = {"effusion": {"threshold": 0.95}, "mass": {"threshold": 0.1}}

    answer = _answer(
        {"temperatures": {"effusion": 2.0, "mass": 0.5}, "thresholds": thresholds}
    )

    softened = special.expit(special.logit(0.9) / 2)
    sharpened = special.expit(special.logit(0.2) * 2)
    assert answer["calibrated"] == {
        "effusion": pytest.approx(softened, abs=1e-6),
        "mass": pytest.approx(sharpened, abs=1e-6),
    }
    assert answer["decision"] == {"effusion": False, "mass": True}


def test_models_from_before_calibrate_all_labels_alike():
    answer = _answer({"temperature": 2.0, "thresholds": {}})

    expected = special.expit(special.logit([0.9, 0.6, 0.2, 0.5]) / 2)
    assert list(answer["calibrated"].values()) == pytest.approx(expected, abs=1e-6)
