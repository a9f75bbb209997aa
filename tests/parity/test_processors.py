"""Pixels are prepared as the processors of published encoders prepare them."""

import pathlib
import sys

import numpy as np
import pytest

from mtpret_jax.data import transforms
from mtpret_jax.inference import preprocessing

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
SHAPES = ((300, 225), (171, 240), (200, 200), (40, 51))
SIZES = {"bicubic": 84, "gaussian": 56}


def picture(number):
    """As `make_processors_goldens.py` draws it."""
    import phantoms

    height, width = SHAPES[number]
    image = phantoms.images(1, max(height, width), f"processor {number}")[0, ..., 0]
    return np.rint(image[:height, :width] * 100 + 90).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("number", range(len(SHAPES)))
@pytest.mark.parametrize("resample", SIZES)
@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_are_those_of_the_processor(number, resample, bits):
    with np.load(GOLDEN / "processors.npz") as arrays:
        expected = arrays[f"{resample}_{number}"] / 100
    made = preprocessing.Preparation(
        SIZES[resample], "crop", ((0.0,), (1.0,)), 0, bits, resample=resample
    )

    found = preprocessing.read(picture(number), made).image[..., 0] * 255

    assert np.ptp(expected) > 140
    # A level of 255: black is 1 here, since 0 is padding, and each rounds its own way.
    assert np.abs(found - expected).max() <= (1.02 if resample == "bicubic" else 1.001)
    assert np.abs(found - expected).mean() < 0.35
    if resample == "gaussian" and bits == 16:  # Neither rounds.
        assert np.abs(found - expected).max() < 0.02


@pytest.mark.parametrize("resample", SIZES)
@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
def test_a_mirrored_view_is_the_mirror_image(resample, mode):
    size = SIZES[resample]
    image = picture(0)
    plain = transforms.plain_view(image, size=size, mode=mode, resample=resample)
    mirror = np.array([[-1.0, 0, size], [0, 1, 0], [0, 0, 1]])

    found, valid = transforms.warp_image(
        image, mirror @ plain.matrix, size=size, resample=resample
    )

    np.testing.assert_array_equal(valid, plain.valid[:, ::-1])
    difference = found.astype(int) - plain.image[:, ::-1]
    assert np.abs(difference[valid]).max() <= 1
