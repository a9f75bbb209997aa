"""Landmarks stay on their pixels, change sides in a mirror, and may be unknown."""

import types as python_types

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import elements, kinds, sources

HEIGHT, WIDTH, SIZE = 120, 80, 96
NAMES = ("left_eye", "right_eye", "nose")
METADATA = sources.Metadata({}, (), (), landmark_names=NAMES)


def _element(
    points: list[tuple[float, float]],
    fit: str = "pad",
    spacing: float | None = None,
    **augment: float,
) -> elements.TaskElement:
    """Of one dark picture with a bright square of 7 pixels around each of some points.

    Points are y, x in pixels of the stored picture.
    """
    image = np.full((HEIGHT, WIDTH), 20, np.uint8)
    for number, (y, x) in enumerate(points):
        if np.isfinite(y):
            part = np.s_[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4]
            image[part] = 120 + 60 * number
    example = {
        "record": np.asarray(0, np.int32),
        "image": image,
        "landmarks": ((np.array(points) + 0.5) / (HEIGHT, WIDTH)).astype(np.float32),
        "landmark_mirrored": METADATA.mirrored,
    }
    if spacing is not None:
        example["spacing"] = np.asarray(spacing, np.float32)
    task = config.TaskConfig(
        kind="landmarks", image_size=SIZE, augment=config.AugmentConfig(**augment)
    )
    return elements.TaskElement([example], task, config.InputConfig(fit=fit))


POINTS = [(30, 20), (60, 50), (90, 30)]
CHANGES = {
    "crop": {"crop_min_area": 0.6},
    "turn": {"rotation_degrees": 30.0},
    "flip": {"flip_probability": 1.0},
    "all": {"crop_min_area": 0.6, "rotation_degrees": 30.0, "flip_probability": 0.5},
}


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("augment", CHANGES.values(), ids=CHANGES)
def test_points_stay_on_their_pixels(augment, fit):
    """Each square has a grey of its own, which is that of its point but for sides."""
    element = _element(POINTS, fit, **augment)
    seen = 0

    for seed in range(8):
        found = element.random(0, np.random.default_rng(seed))
        image = found["image"][..., 0]
        place = (found["landmark"] * SIZE).astype(int).clip(0, SIZE - 1)
        greys = image[place[:, 0], place[:, 1]].astype(int)
        mirrored = augment.get("flip_probability") == 1.0
        wanted = np.array([180, 120, 240] if mirrored else [120, 180, 240])
        known = found["landmark_known"]
        near = np.abs(greys - wanted) <= 8
        if augment.get("flip_probability") == 0.5:
            near |= np.abs(greys - wanted[[1, 0, 2]]) <= 8
        assert near[known].all(), (seed, greys)
        seen += known.sum()

    assert seen >= 8


def test_left_and_right_change_places_in_a_mirror():
    plain = _element(POINTS, "stretch").random(0, np.random.default_rng(0))
    other = _element(POINTS, "stretch", flip_probability=1.0).random(
        0, np.random.default_rng(0)
    )

    mirror = plain["landmark"][[1, 0, 2]] * (1, -1) + (0, 1)
    np.testing.assert_allclose(other["landmark"], mirror, atol=1e-6)


def test_pairs_are_known_by_their_names():
    def mirrored(*names):
        return sources.Metadata({}, (), (), landmark_names=names).mirrored

    assert mirrored("nose", "left_eye", "chin", "right_eye").tolist() == [0, 3, 2, 1]
    assert mirrored("sella", "nasion") is None
    assert mirrored("left_eye", "left_ear") is None
    assert mirrored("left_eye", "right_eye", "left_ear") is None


def test_a_set_without_pairs_is_not_mirrored():
    task = config.TaskConfig(
        kind="landmarks", augment=config.AugmentConfig(flip_probability=0.5)
    )
    names = sources.Metadata({}, (), (), landmark_names=("sella", "nasion"))
    source = python_types.SimpleNamespace(metadata=names)
    paired = python_types.SimpleNamespace(metadata=METADATA)

    assert "set augment.flip_probability" in kinds.KINDS["landmarks"].lack(source, task)
    assert not kinds.KINDS["landmarks"].lack(paired, task)


def test_unknown_points_are_unknown_everywhere():
    element = _element([(30, 20), (np.nan, np.nan), (90, 30)])

    for found in (element(0), element.random(0, np.random.default_rng(0))):
        assert found["landmark_known"].tolist() == [True, False, True]
        assert np.isfinite(found["landmark"]).all()


def test_a_point_out_of_the_crop_is_unknown_in_training_and_measured_after():
    element = _element([(5, 20), (60, 50), (90, 30)], "crop")

    trained = element.random(0, np.random.default_rng(0))
    measured = element(0)

    assert trained["landmark_known"].tolist() == [False, True, True]
    assert measured["landmark_known"].all()
    assert measured["landmark"][0, 0] < 0


@pytest.mark.parametrize(
    ("fit", "extent"),
    [("pad", (120, 120)), ("crop", (80, 80)), ("stretch", (120, 80))],
)
def test_measuring_knows_the_size_of_the_square(fit, extent):
    found = _element(POINTS, fit, spacing=0.2)(0)

    np.testing.assert_allclose(found["extent"], extent)
    assert found["longer_side"] == 120
    assert found["spacing"] == np.float32(0.2)
    assert np.isnan(_element(POINTS, fit)(0)["spacing"])


def test_images_with_a_known_landmark_are_used():
    kind, task = kinds.KINDS["landmarks"], config.TaskConfig(kind="landmarks")

    used = [kind.is_usable({"n_landmarks": n}, task) for n in ("", "0", "1", "19")]

    assert used == [False, False, True, True]
