"""Heat maps against the same written out with NumPy, one cell after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtpret_jax.ops import heat_maps

HEIGHT, WIDTH = 5, 7
OPTIONS = {"deviation": 1.3, "distance_weight": 0.4}


def _drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two images and three points, truths, and which of them are known."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, HEIGHT, WIDTH, 3)).astype(np.float32)
    point = rng.uniform(size=(2, 3, 2)).astype(np.float32)
    return logits, point, np.array([[True, True, False], [True, True, True]])


def _softmax(values: np.ndarray) -> np.ndarray:
    found = np.exp(values - values.max())
    return found / found.sum()


def _read(logits: np.ndarray) -> tuple[np.ndarray, float]:
    """Point and spread of one map, by loops."""
    share = _softmax(logits.astype(float))
    cells = [
        ((row + 0.5) / HEIGHT, (column + 0.5) / WIDTH, share[row, column])
        for row in range(HEIGHT)
        for column in range(WIDTH)
    ]
    y = sum(p * v for v, _, p in cells)
    x = sum(p * v for _, v, p in cells)
    spread = sum(p * ((v - y) ** 2 + (u - x) ** 2) for v, u, p in cells) ** 0.5
    return np.array([y, x]), spread


def _loss(logits: np.ndarray, point: np.ndarray) -> float:
    """Of one map and one point, by loops."""
    wanted = np.zeros((HEIGHT, WIDTH))
    for row in range(HEIGHT):
        for column in range(WIDTH):
            y, x = row + 0.5 - point[0] * HEIGHT, column + 0.5 - point[1] * WIDTH
            wanted[row, column] = np.exp(-(y**2 + x**2) / 2 / OPTIONS["deviation"] ** 2)
    wanted /= wanted.sum()
    found = _softmax(logits.astype(float))
    divergence = (wanted * np.log(wanted / found)).sum()
    away = (_read(logits)[0] - point) * (HEIGHT, WIDTH)
    return divergence + OPTIONS["distance_weight"] * np.hypot(*away)


def test_points_and_spreads_are_those_of_loops():
    logits, _, _ = _drawn()

    point, spread = heat_maps.read(jnp.asarray(logits))

    for image in range(2):
        for place in range(3):
            wanted = _read(logits[image, ..., place])
            np.testing.assert_allclose(point[image, place], wanted[0], rtol=1e-5)
            np.testing.assert_allclose(spread[image, place], wanted[1], rtol=1e-5)


def test_a_map_of_one_cell_is_read_as_its_centre():
    logits = np.full((1, 4, 8, 1), -100, np.float32)
    logits[0, 2, 5] = 100

    point, spread = heat_maps.read(jnp.asarray(logits))

    np.testing.assert_allclose(point[0, 0], [2.5 / 4, 5.5 / 8])
    np.testing.assert_allclose(spread, 0, atol=1e-6)


def test_the_loss_is_that_of_loops_over_known_points():
    logits, point, known = _drawn()

    found = heat_maps.loss(jnp.asarray(logits), jnp.asarray(point), known, **OPTIONS)

    for image in range(2):
        wanted = [
            _loss(logits[image, ..., place], point[image, place])
            for place in np.flatnonzero(known[image])
        ]
        np.testing.assert_allclose(found[image], np.mean(wanted), rtol=1e-5)


@pytest.mark.parametrize("unknown", [0.0, 7.0, np.nan])
def test_an_unknown_point_costs_and_teaches_nothing(unknown):
    logits, point, known = _drawn()
    known[1] = False
    point[~known] = unknown

    def total(logits):
        return heat_maps.loss(logits, jnp.asarray(point), known, **OPTIONS).sum()

    slope = jax.grad(total)(jnp.asarray(logits))

    assert np.isfinite(slope).all()
    of_points = np.abs(slope).sum((1, 2))
    np.testing.assert_array_equal(of_points > 0, known)
    loss = heat_maps.loss(jnp.asarray(logits), jnp.asarray(point), known, **OPTIONS)
    assert loss[1] == 0


def test_a_map_that_is_right_has_a_finite_slope():
    logits = jnp.zeros((1, 4, 4, 1))

    slope = jax.grad(
        lambda logits: heat_maps.loss(
            logits, jnp.full((1, 1, 2), 0.5), jnp.ones((1, 1), bool), **OPTIONS
        ).sum()
    )(logits)

    assert np.isfinite(slope).all()
