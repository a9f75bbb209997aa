"""Tests of anchors, region alignment and non-maximum suppression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import boxes, regions
from mtpret_jax.training import sharding


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def _random_boxes(rng, shape, size):
    corner = rng.uniform(0, size, (*shape, 2, 2))
    ordered = np.concatenate([corner.min(-2), corner.max(-2)], axis=-1)
    return ordered.astype(np.float32)


def test_cell_anchors_are_torchvisions():
    """Size 32, ratios 0.5, 1, 2: 45.25 x 22.63, 32 x 32, 22.63 x 45.25, rounded."""
    (anchor,) = regions.anchors([(1, 1)], strides=(4,), sizes=(32,), ratios=(0.5, 1, 2))

    np.testing.assert_array_equal(
        anchor, [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    )
    assert anchor.dtype == np.float32


def test_anchors_go_by_rows_then_columns_then_ratios():
    fine, coarse = regions.anchors(
        [(2, 3), (1, 2)], strides=(8, 16), sizes=(4, 8), ratios=(1, 4)
    )

    assert fine.shape == (12, 4)
    centre = (fine[:, :2] + fine[:, 2:]) / 2
    np.testing.assert_array_equal(
        centre[::2], [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
    )
    np.testing.assert_array_equal(coarse[2], [12, -4, 20, 4])


def test_anchors_refuse_a_missing_size():
    with pytest.raises(ValueError, match="2 levels, 2 strides and 1 sizes"):
        regions.anchors([(1, 1), (1, 1)], strides=(4, 8), sizes=(8,), ratios=(1,))


@pytest.mark.parametrize("finest", [32.0, 8.0])
def test_level_rule_scales_with_the_anchors(finest):
    """With anchors from 32: below 112 is P2, then P3, P4 from 224, P5 from 448."""
    side = jnp.array([20.0, 111.0, 112.0, 223.0, 224.0, 447.0, 448.0, 4000.0])
    side = side * (finest / 32)
    zero = jnp.zeros_like(side)

    level = regions.assign_levels(
        jnp.stack([zero, zero, side, side], axis=-1),
        level_count=4,
        finest_anchor=finest,
    )

    np.testing.assert_array_equal(level, [0, 0, 1, 1, 2, 2, 3, 3])


def _align_slowly(levels, box, strides, finest_anchor, size=7, sampling=2):
    def bilinear(plane, y, x):
        height, width = plane.shape[:2]
        if y < -1 or y > height or x < -1 or x > width:
            return np.zeros(plane.shape[2])
        y, x = max(y, 0.0), max(x, 0.0)
        y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
        y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
        dy = 0.0 if y0 == height - 1 else y - y0
        dx = 0.0 if x0 == width - 1 else x - x0
        top = plane[y0, x0] * (1 - dx) + plane[y0, x1] * dx
        bottom = plane[y1, x0] * (1 - dx) + plane[y1, x1] * dx
        return top * (1 - dy) + bottom * dy

    result = np.zeros((*box.shape[:2], size, size, levels[0].shape[-1]))
    for b, n in np.ndindex(*box.shape[:2]):
        x0, y0, x1, y1 = box[b, n].astype(float)
        side = np.sqrt((x1 - x0) * (y1 - y0))
        level = int(np.floor(4 + np.log2(side / (7 * finest_anchor)))) - 2
        level = min(max(level, 0), len(levels) - 1)
        x0, y0, x1, y1 = (v / strides[level] for v in (x0, y0, x1, y1))
        width, height = max(x1 - x0, 1.0) / size, max(y1 - y0, 1.0) / size
        for i, j in np.ndindex(size, size):
            for a, c in np.ndindex(sampling, sampling):
                result[b, n, i, j] += bilinear(
                    levels[level][b],
                    y0 + (i + (a + 0.5) / sampling) * height,
                    x0 + (j + (c + 0.5) / sampling) * width,
                ) / (sampling * sampling)
    return result


@pytest.mark.smoke
def test_align_equals_a_slow_reference():
    rng = np.random.default_rng(0)
    strides = (4, 8, 16, 32)
    levels = [rng.normal(size=(2, -(-60 // s), -(-52 // s), 3)) for s in strides]
    box = _random_boxes(rng, (2, 12), 60)
    box[0, 0] = [-9, -9, 70, 70]  # samples outside
    box[0, 1] = [3, 3, 3.5, 3.5]  # narrower than a position
    box[0, 2] = [51.8, 59.7, 52, 60]  # also, so that samples lie beyond the far border

    found = regions.align(
        [jnp.asarray(level, jnp.float32) for level in levels],
        jnp.asarray(box),
        strides=strides,
        finest_anchor=4.0,
    )

    expected = _align_slowly(levels, box, strides, 4.0)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    chosen = regions.assign_levels(jnp.asarray(box), level_count=4, finest_anchor=4.0)
    assert set(np.unique(chosen)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("low", "share"),
    [(-1.75, 0.5), (-1.25, 1.0), (-1.0, 1.0), (3.25, 1.0), (3.5, 0.5), (3.8, 0.0)],
)
def test_align_at_the_border_is_that_of_torchvisions_compiled_operator(low, share):
    """One bin a position wide, samples 0.25 and 0.75 from its corner, a level of ones.

    A sample counts from -1 to the level's 4 positions, both included, else it is 0.
    `tests/golden/roi_border.py` asks torchvision the same.
    """
    level = jnp.ones((1, 4, 4, 1))
    box = jnp.array([[[low, 0.0, low, 0.0], [0.0, low, 0.0, low]]])

    found = regions.align([level], box, strides=(1,), finest_anchor=8.0, size=1)

    np.testing.assert_array_equal(found.ravel(), [share, share])


def test_align_reads_a_ramp_at_the_centres_of_its_bins():
    ramp = jnp.broadcast_to(jnp.arange(16.0)[None, None, :, None], (1, 16, 16, 1))

    found = regions.align(
        [ramp], jnp.array([[[4.0, 4.0, 11.0, 11.0]]]), strides=(1,), finest_anchor=8.0
    )

    np.testing.assert_allclose(found[0, 0, 3, :, 0], np.arange(7) + 4.5, rtol=1e-6)


def test_gradient_of_align_adds_up_to_the_bins():
    """Weights of a bin inside the level add up to 1, so the gradient does to 49."""
    level = jnp.ones((1, 8, 8, 1))
    box = jnp.array([[[4.0, 4.0, 20.0, 24.0]]])

    slope = jax.grad(
        lambda level: regions.align([level], box, strides=(4,), finest_anchor=8.0).sum()
    )(level)

    np.testing.assert_allclose(slope.sum(), 49.0, rtol=1e-5)


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
    kept = regions.suppress_sorted(
        jnp.asarray(box[order]), jnp.ones(150, bool), threshold=threshold
    )
    index, filled = regions.suppress_best(
        jnp.asarray(box),
        jnp.asarray(score),
        jnp.ones(150, bool),
        count=150,
        threshold=threshold,
    )

    assert len(expected) < 150
    np.testing.assert_array_equal(order[np.asarray(kept)], expected)
    np.testing.assert_array_equal(np.asarray(index)[np.asarray(filled)], expected)


def test_an_overlap_of_the_threshold_suppresses_nothing():
    box = jnp.array([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 4.0]])
    valid = jnp.ones(2, bool)

    kept = regions.suppress_sorted(box, valid, threshold=0.5)
    _, filled = regions.suppress_best(
        box, jnp.array([2.0, 1.0]), valid, count=2, threshold=0.5
    )

    assert kept.all()
    assert filled.all()


def test_suppressions_leave_empty_slots_out():
    box = jnp.tile(jnp.array([[0.0, 0.0, 9.0, 9.0]]), (3, 1))
    valid = jnp.array([False, True, True])

    kept = regions.suppress_sorted(box, valid, threshold=0.5)
    index, filled = regions.suppress_best(
        box, jnp.array([9.0, 1.0, 2.0]), valid, count=2, threshold=0.5
    )

    np.testing.assert_array_equal(kept, [False, True, False])
    assert index[0] == 2
    np.testing.assert_array_equal(filled, [True, False])


def test_separated_groups_do_not_suppress_each_other():
    box = jnp.tile(jnp.array([[0.0, 0.0, 50.0, 50.0]]), (3, 1))
    apart = regions.separate(box, jnp.array([0, 1, 1]), image_size=50)

    kept = regions.suppress_sorted(apart, jnp.ones(3, bool), threshold=0.5)

    np.testing.assert_array_equal(kept, [True, True, False])


def test_align_of_a_divided_batch_moves_nothing_between_devices():
    """A table of all images, say, would be gathered whole on every device."""
    mesh = sharding.make_mesh(jax.devices()[:2])
    split = sharding.divided(mesh)
    levels = tuple(jnp.zeros((4, side, side, 8)) for side in (16, 8))
    box = jnp.tile(jnp.asarray([4.0, 4.0, 40.0, 50.0]), (4, 6, 1))

    def squares(levels: tuple[jax.Array, ...], box: jax.Array) -> jax.Array:
        pooled = regions.align(levels, box, strides=(4, 8), finest_anchor=16.0)
        return (pooled**2).sum()

    step = jax.jit(jax.grad(squares), in_shardings=(split, split), out_shardings=split)
    program = step.lower(levels, box).compile().as_text() or ""
    assert "while(" in program
    for name in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert f" {name}(" not in program
