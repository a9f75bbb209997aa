"""Which pictures look inverted, and turning them around."""

import numpy as np
import pytest

from tfds_builders import polarity
from tfds_builders.phantom_xray import simulator


def _body(height: int = 80, width: int = 64) -> np.ndarray:
    """A bright body before dark air, uint8 [height, width]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.rint(20 + 200 * np.exp(-2 * (x**2 + (y - 0.3) ** 2))).astype(np.uint8)


@pytest.mark.parametrize("body", simulator.BODIES)
def test_few_phantoms_and_most_inverted_phantoms_look_inverted(body: str):
    images = [
        simulator.simulate(body, size=96, seed=0, split_index=0, index=i).image
        for i in range(20)
    ]

    flagged = [polarity.looks_inverted(image) for image in images]
    caught = [polarity.looks_inverted(polarity.invert(image)) for image in images]

    assert sum(flagged) <= 1
    assert sum(caught) >= 17


@pytest.mark.parametrize("factor", [1, 257])
def test_the_score_changes_sign_with_the_picture(factor: int):
    image = _body().astype(np.uint8 if factor == 1 else np.uint16) * factor

    upright, inverted = polarity.score(image), polarity.score(polarity.invert(image))

    assert upright > 5
    np.testing.assert_allclose(inverted, -upright, rtol=1e-3)


def test_eight_and_sixteen_bits_score_alike():
    image = _body()

    wide = polarity.score(image.astype(np.uint16) * 257)

    np.testing.assert_allclose(wide, polarity.score(image), rtol=0.02)


def test_bright_shutters_around_a_picture_do_not_count():
    image = np.pad(_body(), ((0, 0), (30, 30)), constant_values=255)

    assert not polarity.looks_inverted(image)
    assert polarity.looks_inverted(polarity.invert(image))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (3, 2), (9, 9)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_of_any_size_has_a_score(shape: tuple[int, int], dtype: type):
    rng = np.random.default_rng(0)
    high = np.iinfo(dtype).max

    for image in (
        np.zeros(shape, dtype),
        np.full(shape, high, dtype),
        rng.integers(0, high, shape, dtype, endpoint=True),
    ):
        assert np.isfinite(polarity.score(image))


def test_a_picture_of_one_value_is_not_flagged():
    assert polarity.score(np.full((40, 30), 255, np.uint8)) == 0
    assert not polarity.looks_inverted(np.full((40, 30), 255, np.uint8))


def test_inverting_twice_gives_the_picture_back():
    image = _body()

    once = polarity.invert(image)

    assert once.dtype == image.dtype
    np.testing.assert_array_equal(once, 255 - image)
    np.testing.assert_array_equal(polarity.invert(once), image)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [("a/1.png", True), ("a/*", True), ("a/?.png", True), ("A/*", False), ("1", False)],
)
def test_patterns_name_images(pattern: str, named: bool):
    assert polarity.is_named("a/1.png", ("other", pattern)) is named
