"""Tests of the regions cut out of a pyramid, in both ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import alignment, placement, regions
from mtpret_jax.training import sharding


@pytest.fixture(autouse=True)
def _strict_dtypes():
    with jax.numpy_dtype_promotion("strict"):
        yield


def _random_boxes(rng, shape, size):
    corner = rng.uniform(0, size, (*shape, 2, 2))
    ordered = np.concatenate([corner.min(-2), corner.max(-2)], axis=-1)
    return ordered.astype(np.float32)


@pytest.fixture(params=["by_gathers", "by_products"])
def _way(request, monkeypatch):
    """A test in both ways, whatever the platform."""
    monkeypatch.setattr(alignment, "by_gathers", getattr(alignment, request.param))


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
@pytest.mark.usefixtures("_way")
def test_align_equals_a_slow_reference():
    rng = np.random.default_rng(0)
    strides = (4, 8, 16, 32)
    levels = [rng.normal(size=(2, -(-60 // s), -(-52 // s), 3)) for s in strides]
    box = _random_boxes(rng, (2, 12), 60)
    box[0, 0] = [-9, -9, 70, 70]  # samples outside
    box[0, 1] = [3, 3, 3.5, 3.5]  # narrower than a position
    box[0, 2] = [51.8, 59.7, 52, 60]  # also, so that samples lie beyond the far border

    found = alignment.align(
        [jnp.asarray(level, jnp.float32) for level in levels],
        jnp.asarray(box),
        strides=strides,
        finest_anchor=4.0,
    )

    expected = _align_slowly(levels, box, strides, 4.0)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    chosen = regions.assign_levels(jnp.asarray(box), level_count=4, finest_anchor=4.0)
    assert set(np.unique(chosen)) == {0, 1, 2, 3}


@pytest.mark.usefixtures("_way")
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

    found = alignment.align([level], box, strides=(1,), finest_anchor=8.0, size=1)

    np.testing.assert_array_equal(found.ravel(), [share, share])


@pytest.mark.usefixtures("_way")
def test_align_reads_a_ramp_at_the_centres_of_its_bins():
    ramp = jnp.broadcast_to(jnp.arange(16.0)[None, None, :, None], (1, 16, 16, 1))

    found = alignment.align(
        [ramp], jnp.array([[[4.0, 4.0, 11.0, 11.0]]]), strides=(1,), finest_anchor=8.0
    )

    np.testing.assert_allclose(found[0, 0, 3, :, 0], np.arange(7) + 4.5, rtol=1e-6)


@pytest.mark.usefixtures("_way")
def test_gradient_of_align_adds_up_to_the_bins():
    """Weights of a bin inside the level add up to 1, so the gradient does to 49."""
    level = jnp.ones((1, 8, 8, 1))
    box = jnp.array([[[4.0, 4.0, 20.0, 24.0]]])

    slope = jax.grad(
        lambda level: alignment.align(
            [level], box, strides=(4,), finest_anchor=8.0
        ).sum()
    )(level)

    np.testing.assert_allclose(slope.sum(), 49.0, rtol=1e-5)


def _both(monkeypatch, levels, box, slope, **options):
    """Result and gradient of the levels, gathered and multiplied."""
    found = []
    for way in (alignment.by_gathers, alignment.by_products):
        monkeypatch.setattr(alignment, "by_gathers", way)
        pooled, pull = jax.vjp(
            lambda levels: alignment.align(levels, box, **options), levels
        )
        found.append((pooled, pull(slope)[0]))
    return found


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.float32, 2e-6), (jnp.bfloat16, 0.02)]
)
@pytest.mark.parametrize("sides", [(50, 25, 13, 7), (5, 3, 2, 1)])
def test_products_and_gathers_agree_with_their_gradients(
    sides, dtype, tolerance, key, monkeypatch
):
    rng = np.random.default_rng(1)
    size = 4 * sides[0]
    box = _random_boxes(rng, (2, 70), size)  # Not a multiple of what goes together.
    box[0, 0] = [-9, -9, size + 9, size + 9]
    box[0, 1] = [3, 3, 3.5, 3.5]
    keys = jax.random.split(key, 5)
    levels = tuple(
        jax.random.normal(one, (2, side, side + 1, 3), dtype)
        for one, side in zip(keys, sides, strict=False)
    )
    slope = jax.random.normal(keys[4], (2, 70, 3, 3, 3), dtype)

    (gathered, gathered_slope), (multiplied, multiplied_slope) = _both(
        monkeypatch,
        levels,
        jnp.asarray(box),
        slope,
        strides=(4, 8, 16, 32),
        finest_anchor=size / 14,
        size=3,
    )

    for one, other in zip(
        (gathered, *gathered_slope), (multiplied, *multiplied_slope), strict=True
    ):
        assert one.dtype == other.dtype == dtype
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(other, one, atol=tolerance * np.abs(one).max())


@pytest.mark.usefixtures("_way")
def test_align_of_a_divided_batch_moves_nothing_between_devices():
    """A table of all images, say, would be gathered whole on every device."""
    mesh = sharding.make_mesh(jax.devices()[:2])
    split = sharding.divided(mesh)
    levels = tuple(jnp.zeros((4, side, side, 8)) for side in (16, 8))
    box = jnp.tile(jnp.asarray([4.0, 4.0, 40.0, 50.0]), (4, 6, 1))

    def squares(levels: tuple[jax.Array, ...], box: jax.Array) -> jax.Array:
        def cut(_, levels: tuple[jax.Array, ...], box: jax.Array) -> jax.Array:
            return alignment.align(levels, box, strides=(4, 8), finest_anchor=16.0)

        return (placement.in_place(cut, {}, levels, box) ** 2).sum()

    def slope(levels: tuple[jax.Array, ...], box: jax.Array) -> tuple[jax.Array, ...]:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.grad(squares)(levels, box)

    step = jax.jit(slope, in_shardings=(split, split), out_shardings=split)
    program = step.lower(levels, box).compile().as_text() or ""
    assert "while(" in program
    for name in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert f" {name}(" not in program
