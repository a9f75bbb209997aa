"""Radial errors worked by hand: units, unknown points, images that count twice."""

import numpy as np
import pytest

from mtpret_jax.metrics import intervals, landmarks

METRIC = landmarks.LandmarksMetric(("sella", "nasion"))
NAN = np.nan


def _batch(**changes: object) -> dict[str, np.ndarray]:
    """Two images of 400 x 300 pixels, stretched to the square."""
    batch = {
        "landmark": [[[0.5, 0.5], [0.1, 0.2]], [[0.5, 0.5], [0.0, 0.0]]],
        "landmark_known": [[True, True], [True, False]],
        "extent": [[400, 300], [400, 300]],
        "longer_side": [400, 400],
        "spacing": [NAN, NAN],
        "record": [0, 1],
    }
    return {name: np.array(value) for name, value in {**batch, **changes}.items()}


# Off by 0; 3 down and 4 to the right; 8 down; anything where it is not known.
FOUND = {
    "landmark": np.array(
        [
            [[0.5, 0.5], [0.1 + 3 / 400, 0.2 + 4 / 300]],
            [[0.5 + 8 / 400, 0.5], [0.9, 0.9]],
        ]
    )
}


def _summary(**changes: object) -> dict[str, np.ndarray]:
    return METRIC.summarise(METRIC.records(FOUND, _batch(**changes)))


def test_errors_are_per_cent_of_the_longer_side_over_known_points():
    found = METRIC.compute(_summary())

    assert found == pytest.approx(
        {
            "radial_error": 100 * (0 + 5 + 8) / 3 / 400,
            "within_2_percent": 1.0,  # 8 pixels are just 2 %.
            "point_error/sella": 100 * (0 + 8) / 2 / 400,
            "point_error/nasion": 100 * 5 / 400,
        },
        rel=1e-5,
    )


def test_millimetres_are_those_of_images_whose_pixels_have_a_size():
    found = METRIC.compute(_summary(spacing=[0.5, NAN]))  # 0 and 2.5 mm

    assert found["radial_error_mm"] == pytest.approx(1.25, rel=1e-5)
    assert found["within_2_mm"] == 0.5
    assert found["within_4_mm"] == 1
    assert found["radial_error"] == pytest.approx(100 * 13 / 3 / 400, rel=1e-5)


def test_an_image_counts_as_often_as_it_was_drawn():
    weight = np.array([[1.0, 2, 0], [1, 0, 1]])

    found = METRIC.weighted(_summary(), weight)

    np.testing.assert_allclose(
        found["radial_error"], np.array([13 / 3, 2.5, 8]) / 4, rtol=1e-5
    )
    np.testing.assert_allclose(
        found["point_error/nasion"], np.array([5, 5, NAN]) / 4, rtol=1e-5
    )


def test_the_worst_image_has_the_largest_mean_error():
    records = METRIC.records(FOUND, _batch(landmark_known=[[True, True], [True, True]]))
    unknown = METRIC.records(FOUND, _batch(landmark_known=[[True, True], [False] * 2]))

    assert np.argmax(METRIC.error(records)) == 1
    assert np.isnan(METRIC.error(unknown)[1])


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_is_no_unknown_truth(value):
    outputs = {"landmark": FOUND["landmark"].copy()}
    outputs["landmark"][1, 1] = value  # The truth of it is unknown.
    METRIC.summarise(METRIC.records(outputs, _batch()))
    outputs["landmark"][0, 1, 0] = value

    records = METRIC.records(outputs, _batch())

    assert np.argmax(METRIC.error(records)) == 0
    with pytest.raises(ValueError, match="the model has diverged"):
        METRIC.summarise(records)


def test_a_rare_landmark_does_not_take_the_interval_of_the_mean():
    """Known in one image of twelve: most resamples lack it."""
    truth = np.full((12, 2, 2), 0.5)
    batch = {
        "landmark": truth,
        "landmark_known": np.array([[True, n == 0] for n in range(12)]),
        "extent": np.full((12, 2), 400),
        "longer_side": np.full(12, 400),
        "spacing": np.full(12, NAN),
        "record": np.arange(12),
    }
    outputs = {"landmark": truth + np.linspace(0, 0.1, 12)[:, None, None]}
    summary = METRIC.summarise(METRIC.records(outputs, batch))

    drawn = intervals.draws(METRIC, summary, np.arange(12), resamples=200, seed=0)

    assert np.isnan(drawn["point_error/nasion"]).any()
    assert np.isfinite(drawn["radial_error"]).all()


def test_what_a_crop_left_out_is_as_far_as_the_point_was_put_from_it():
    beyond = [[[0.5, 0.5], [0.1, 0.2]], [[1.25, 0.5], [0.0, 0.0]]]

    found = METRIC.records(FOUND, _batch(landmark=beyond))["distance"]

    assert found[1, 0] == pytest.approx(300 - 8)


def test_one_landmark_has_no_values_of_its_own():
    metric = landmarks.LandmarksMetric(("sella",))
    batch = {
        name: value[:, :1] if "landmark" in name else value
        for name, value in _batch().items()
    }
    outputs = {"landmark": FOUND["landmark"][:, :1]}

    found = metric.compute(metric.summarise(metric.records(outputs, batch)))

    assert sorted(found) == ["radial_error", "within_2_percent"]
    with pytest.raises(ValueError, match="at least one name"):
        landmarks.LandmarksMetric(())
