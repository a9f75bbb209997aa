"""Agreement of grades, against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mtpret_jax.metrics import ordinal

NAMES = ("0", "1", "2", "3", "4")
METRIC = ordinal.OrdinalMetric(NAMES)


def _records(decided, true, known=None) -> dict[str, np.ndarray]:
    """Records whose predicted grades are these."""
    count = len(true)
    known = np.ones(count, bool) if known is None else np.asarray(known)
    batch = {
        "label": np.eye(5, dtype=np.float32)[true],
        "label_known": np.repeat(known[:, None], 5, axis=1),
        "record": np.arange(count),
    }
    return METRIC.records({"probability": 0.6 * np.eye(5)[decided] + 0.08}, batch)


def _values(*arguments) -> dict[str, float]:
    return METRIC.compute(METRIC.summarise(_records(*arguments)))


def _draw(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 5, count)
    return np.clip(true + rng.integers(-1, 2, count), 0, 4), true


def test_values_agree_with_scikit_learn():
    decided, true = _draw(0)

    assert _values(decided, true) == pytest.approx(
        {
            "kappa_quadratic": sklearn_metrics.cohen_kappa_score(
                true, decided, weights="quadratic"
            ),
            "accuracy": sklearn_metrics.accuracy_score(true, decided),
            "grades_off": sklearn_metrics.mean_absolute_error(true, decided),
        }
    )


def test_a_case_by_hand():
    """Squared distances 0, 1, 4; by chance the mean of all nine pairs, 14 / 9... ."""
    found = _values([0, 2, 2], [0, 1, 4])

    # Seen: 0 + 1 + 4 = 5 over 3. By chance: (0+1+16 + 2 (4+1+4)) / 9 = 35 / 9.
    assert found["kappa_quadratic"] == pytest.approx(1 - (5 / 3) / (35 / 9))
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["grades_off"] == pytest.approx(1)


def test_images_of_an_unknown_grade_are_left_out():
    decided, true = _draw(1)
    known = np.arange(60) % 3 > 0

    found = _values(decided, true, known)

    assert found == pytest.approx(_values(decided[known], true[known]))
    error = METRIC.error(_records(decided, true, known))
    assert np.isnan(error[~known]).all()
    np.testing.assert_array_equal(error[known], np.abs(decided - true)[known])


def test_counts_are_by_true_and_predicted_grade():
    decided, true = _draw(2)

    counts = METRIC.confusion(METRIC.summarise(_records(decided, true)))

    expected = sklearn_metrics.confusion_matrix(true, decided)
    np.testing.assert_array_equal(counts, expected)


def test_one_grade_alone_has_no_kappa():
    assert math.isnan(_values([0, 1, 2], [1, 1, 1])["kappa_quadratic"])


def test_an_example_that_is_drawn_twice_counts_twice():
    decided, true = _draw(3)
    weight = np.random.default_rng(3).integers(0, 3, 60)

    found = METRIC.weighted(
        METRIC.summarise(_records(decided, true)), weight[:, None].astype(float)
    )

    wanted = _values(np.repeat(decided, weight), np.repeat(true, weight))
    assert {name: x[0] for name, x in found.items()} == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("probability", "wanted"),
    [
        ([0.6, 0.4, 0.0, 0.0, 0.0], 0),
        ([0.4, 0.3, 0.3, 0.0, 0.0], 1),  # 0 is likeliest, and passed by more than half.
        ([0.0, 0.0, 0.0, 0.0, 1.0], 4),
    ],
)
def test_the_predicted_grade_is_the_median(probability, wanted):
    assert ordinal.grade(np.array(probability)) == wanted
