"""Pixel values of any range to 8 or 16 bits: the same as at once, in little memory."""

import tracemalloc

import numpy as np
import pytest

from tfds_builders.images import levels, limits

TYPES = ("uint8", "int8", "<u2", ">u2", "<i2", ">i2", "int32", "uint32", "float32")


def _noise(kind: str, size: int = 3 << 19) -> np.ndarray:
    """More values than a block has, in two rows."""
    rng = np.random.default_rng(0)
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return rng.normal(size=(2, size)).astype(dtype)
    limit = np.iinfo(dtype)
    return rng.integers(limit.min, limit.max, (2, size)).astype(dtype)


def _bent(part: np.ndarray) -> np.ndarray:
    return np.sqrt(np.abs(part.astype(np.float64) - 7))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_spreading_gives_what_the_formula_gives_for_the_whole_picture(kind, dtype):
    values = _noise(kind)
    bent = _bent(values)
    low, high = bent.min(), bent.max()

    found = levels.spread(values, dtype, _bent)

    most = np.iinfo(dtype).max
    wanted = np.rint((bent - low) / (high - low) * most).astype(dtype)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", TYPES)
def test_replacing_changes_each_value_alone(kind):
    values = _noise(kind)

    found = levels.replace(values, lambda part: part % 7, np.uint8)

    np.testing.assert_array_equal(found, (values % 7).astype(np.uint8))


def test_distinct_values_are_those_that_are_there():
    values = np.array([[5, -3], [5, 300]], ">i2")

    np.testing.assert_array_equal(levels.distinct(values), [-3, 5, 300])


def test_a_value_that_is_not_there_does_not_count_for_the_range():
    found = levels.spread(np.array([[10, 20, 15]], np.uint16), np.uint8)

    np.testing.assert_array_equal(found, [[0, 255, 128]])


def test_a_constant_becomes_black():
    assert not levels.spread(np.full((3, 3), 9.5), np.uint16).any()


@pytest.mark.parametrize("values", [[0, np.nan], [0, np.inf], [-1.7e308, 1.7e308]])
def test_what_has_no_finite_range_is_refused(values):
    with pytest.raises(limits.UnreadableImage, match="not finite"):
        levels.spread(np.array([values]), np.uint8)


@pytest.mark.parametrize("kind", ["uint16", "int16", "float32"])
def test_spreading_needs_less_than_eight_bytes_a_pixel(kind):
    values = np.zeros((4096, 4096), kind)
    values[5, 5] = 1000
    tracemalloc.start()

    levels.spread(values, np.uint16)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (8 - values.itemsize) * values.size
