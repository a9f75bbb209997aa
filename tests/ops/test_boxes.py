"""Tests of box geometry, matching and sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import boxes

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def test_fractions_become_pixels_with_x_first_and_come_back():
    fraction = jnp.array([[0.1, 0.2, 0.5, 0.6]])

    pixel = boxes.from_fractions(fraction, image_size=100)

    np.testing.assert_allclose(pixel, [[20, 10, 60, 50]], rtol=1e-6)
    back = boxes.to_fractions(pixel, image_size=100)
    np.testing.assert_allclose(back, fraction, rtol=1e-6)


def test_encode_by_hand():
    """tx = wx (xg - xa) / wa; tw = ww ln(wg / wa); y and h likewise."""
    anchor = jnp.array([[0.0, 0.0, 10.0, 20.0]])  # centre 5, 10
    box = jnp.array([[2.0, 5.0, 22.0, 15.0]])  # centre 12, 10; 20 x 10

    offset = boxes.encode(anchor, box, weights=WEIGHTS)

    expected = [[10 * 0.7, 0.0, 5 * np.log(2), 5 * np.log(0.5)]]
    np.testing.assert_allclose(offset, expected, rtol=1e-6, atol=1e-6)


def test_decode_undoes_encode(key):
    corner = jax.random.uniform(key, (2, 50, 2, 2), maxval=90.0)
    box = jnp.concatenate([corner.min(2), corner.max(2) + 1.0], axis=-1)

    offset = boxes.encode(box[0], box[1], weights=WEIGHTS)
    back = boxes.decode(box[0], offset, weights=WEIGHTS)

    np.testing.assert_allclose(back, box[1], atol=1e-3)


def test_decode_cuts_the_growth_of_a_side():
    anchor = jnp.array([[0.0, 0.0, 16.0, 16.0]])

    box = boxes.decode(anchor, jnp.array([[0.0, 0.0, 99.0, 99.0]]), weights=(1,) * 4)

    np.testing.assert_allclose(box, [[-492, -492, 508, 508]], rtol=1e-5)


def test_encode_of_empty_boxes_is_finite_with_finite_gradients():
    empty = jnp.zeros((1, 4))

    value, slope = jax.value_and_grad(
        lambda box: boxes.encode(empty, box, weights=WEIGHTS).sum()
    )(empty)

    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_iou_by_hand():
    box = jnp.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    other = jnp.array(
        [
            [0.0, 0.0, 2.0, 2.0],
            [1.0, 1.0, 3.0, 3.0],
            [5.0, 5.0, 6.0, 6.0],
            [0.0, 0.0, 0.0, 0.0],
        ]
    )

    np.testing.assert_allclose(
        boxes.iou(box, other), [[1, 1 / 7, 0, 0], [0, 0, 0, 0]], rtol=1e-6
    )


def _match(candidate, truth, valid, *, low_quality):
    return boxes.match(
        jnp.array(candidate, jnp.float32),
        jnp.array(truth, jnp.float32),
        jnp.array(valid),
        positive_from=0.7,
        negative_below=0.3,
        low_quality=low_quality,
    )


@pytest.mark.smoke
def test_match_has_three_verdicts():
    candidate = [[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 2]]  # overlap 1, .5, .2

    index, verdict = _match(candidate, [[0, 0, 10, 10]], [True], low_quality=False)

    assert index[0] == 0
    np.testing.assert_array_equal(
        verdict, [boxes.POSITIVE, boxes.IGNORED, boxes.NEGATIVE]
    )


def test_low_quality_match_takes_the_best_and_its_ties():
    candidate = [[0, 0, 10, 2], [0, 8, 10, 10], [0, 0, 10, 1]]  # overlap .2, .2, .1
    truth = [[0, 0, 10, 10]]

    _, without = _match(candidate, truth, [True], low_quality=False)
    _, verdict = _match(candidate, truth, [True], low_quality=True)

    np.testing.assert_array_equal(without, [boxes.NEGATIVE] * 3)
    np.testing.assert_array_equal(verdict, [boxes.POSITIVE] * 2 + [boxes.NEGATIVE])


def test_a_low_quality_match_goes_to_the_box_it_overlaps_most():
    truth = [[0, 0, 10, 10], [10, 0, 30, 10]]
    candidate = [[0, 0, 14, 10]]  # 10/14 with the first, 4/30 with the second

    index, verdict = _match(candidate, truth, [True, True], low_quality=True)

    assert (int(index[0]), int(verdict[0])) == (0, boxes.POSITIVE)


@pytest.mark.parametrize("low_quality", [False, True])
def test_padded_boxes_are_never_positive(low_quality):
    candidate = [[0, 0, 10, 10], [0, 0, 0, 0], [5, 5, 9, 9]]
    padding = [[0, 0, 10, 10], [0, 0, 0, 0]]

    _, verdict = _match(candidate, padding, [False, False], low_quality=low_quality)

    np.testing.assert_array_equal(verdict, [boxes.NEGATIVE] * 3)


def test_a_box_that_nothing_touches_makes_no_positive():
    candidate = [[0, 0, 5, 5], [1, 1, 4, 4]]

    _, verdict = _match(candidate, [[50, 50, 60, 60]], [True], low_quality=True)

    np.testing.assert_array_equal(verdict, [boxes.NEGATIVE] * 2)


def test_sample_fills_up_with_negatives(key):
    verdict = jnp.array([1, 1, 0, 0, 0, 0, 0, -1, -1])

    index, drawn = boxes.sample(key, verdict, count=6, positive_fraction=0.5)

    assert drawn.all()
    chosen = verdict[index]
    np.testing.assert_array_equal(chosen, [1, 1, 0, 0, 0, 0])
    assert len(set(np.asarray(index).tolist())) == 6


def test_sample_caps_positives_and_flags_empty_slots(key):
    verdict = jnp.array([1, 1, 1, 1, 0, -1, -1, -1])

    index, drawn = boxes.sample(key, verdict, count=8, positive_fraction=0.25)

    np.testing.assert_array_equal(drawn, [True] * 3 + [False] * 5)
    np.testing.assert_array_equal(verdict[index][:3], [1, 1, 0])


def test_share_of_positives_is_of_the_number_asked_for(key):
    """As in torchvision, where few candidates do not mean fewer positives."""
    verdict = jnp.array([1, 1, 1, 1, 0, 0])

    index, drawn = boxes.sample(key, verdict, count=16, positive_fraction=0.25)

    np.testing.assert_array_equal(verdict[index][drawn], [1, 1, 1, 1, 0, 0])


def test_sample_is_uniform_and_follows_its_key():
    verdict = jnp.zeros(10, jnp.int32)

    def draw(key):
        return boxes.sample(key, verdict, count=2, positive_fraction=0.5)[0]

    index = jax.vmap(draw)(jax.random.split(jax.random.key(1), 2000))

    share = np.bincount(np.asarray(index).ravel(), minlength=10) / 4000
    np.testing.assert_allclose(share, 0.1, atol=0.03)
