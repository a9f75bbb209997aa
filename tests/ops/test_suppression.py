"""Tests of non-maximum suppression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import boxes, suppression


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def _random_boxes(rng, shape, size):
    corner = rng.uniform(0, size, (*shape, 2, 2))
    ordered = np.concatenate([corner.min(-2), corner.max(-2)], axis=-1)
    return ordered.astype(np.float32)


def _sorted(box, valid, threshold):
    """`suppress_sorted` of one group."""
    (kept,) = suppression.suppress_sorted(
        jnp.asarray(box)[None], jnp.asarray(valid)[None], threshold=threshold
    )
    return kept


def _greedy(box, score, threshold):
    order, kept = list(np.argsort(-score, kind="stable")), []
    overlap = np.asarray(boxes.iou(jnp.asarray(box), jnp.asarray(box)))
    while order:
        best = order.pop(0)
        kept.append(int(best))
        order = [i for i in order if overlap[best, i] <= threshold]
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_both_suppressions_equal_a_greedy_reference(threshold):
    rng = np.random.default_rng(3)
    box = _random_boxes(rng, (150,), 100)
    score = rng.uniform(size=150).astype(np.float32)
    expected = _greedy(box, score, threshold)

    order = np.argsort(-score)
    kept = _sorted(box[order], np.ones(150, bool), threshold)
    index, filled = suppression.suppress_best(
        jnp.asarray(box),
        jnp.asarray(score),
        jnp.ones(150, bool),
        count=150,
        threshold=threshold,
    )

    assert len(expected) < 150
    np.testing.assert_array_equal(order[np.asarray(kept)], expected)
    np.testing.assert_array_equal(np.asarray(index)[np.asarray(filled)], expected)


def _chain(count):
    """Boxes that each overlap the next by 5 / 13, the one behind it by 1 / 17."""
    x = 4.0 * np.arange(count)
    return np.stack([x, 0 * x, x + 9.0, 0 * x + 10.0], -1).astype(np.float32)


def _with_ties(rng, count):
    """Few places, so that many boxes are the same and overlaps are at the threshold."""
    corner, side = rng.integers(0, 6, (count, 2)), rng.integers(0, 4, (count, 2))
    return np.concatenate([corner, corner + side], axis=-1).astype(np.float32)


def _kept_by_greedy(box, valid, threshold):
    kept = np.zeros(len(box), bool)
    some = np.flatnonzero(valid)
    kept[some[_greedy(box[some], -np.arange(len(some)), threshold)]] = True
    return kept


@pytest.mark.parametrize("count", [1, 128, 300])
@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_groups_of_any_size_are_thinned_out_as_a_loop_would(count, threshold):
    rng = np.random.default_rng(count)
    groups = np.stack(
        [
            _random_boxes(rng, (count,), 100),
            _with_ties(rng, count),
            _chain(count),
            np.zeros((count, 4), np.float32),
        ]
    )
    valid = rng.uniform(size=groups.shape[:2]) < 0.8
    valid[2] = True

    kept = suppression.suppress_sorted(
        jnp.asarray(groups), jnp.asarray(valid), threshold=threshold
    )

    expected = [
        _kept_by_greedy(*one, threshold) for one in zip(groups, valid, strict=True)
    ]
    np.testing.assert_array_equal(kept, expected)
    every = 2 if threshold else 3
    np.testing.assert_array_equal(kept[2], np.arange(count) % every == 0)


def test_an_overlap_of_the_threshold_suppresses_nothing():
    box = jnp.array([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 4.0]])
    valid = jnp.ones(2, bool)

    kept = _sorted(box, valid, 0.5)
    _, filled = suppression.suppress_best(
        box, jnp.array([2.0, 1.0]), valid, count=2, threshold=0.5
    )

    assert kept.all()
    assert filled.all()


def test_suppressions_leave_empty_slots_out():
    box = jnp.tile(jnp.array([[0.0, 0.0, 9.0, 9.0]]), (3, 1))
    valid = jnp.array([False, True, True])

    kept = _sorted(box, valid, 0.5)
    index, filled = suppression.suppress_best(
        box, jnp.array([9.0, 1.0, 2.0]), valid, count=2, threshold=0.5
    )

    np.testing.assert_array_equal(kept, [False, True, False])
    assert index[0] == 2
    np.testing.assert_array_equal(filled, [True, False])


def test_separated_groups_do_not_suppress_each_other():
    box = jnp.tile(jnp.array([[0.0, 0.0, 50.0, 50.0]]), (3, 1))
    apart = suppression.separate(box, jnp.array([0, 1, 1]), image_size=50)

    kept = _sorted(apart, np.ones(3, bool), 0.5)

    np.testing.assert_array_equal(kept, [True, True, False])
