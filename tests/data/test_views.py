"""Tests of what stage 1 sees: no shortcut by padding, intensities that differ."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import elements
from mtpret_jax.ops import views


class Pictures:
    """Three pictures of two patients, as a source gives them."""

    name, split = "set", "train"
    index = ({"group": "7"}, {"group": "7"}, {"group": "8"})

    def __init__(self, picture: np.ndarray) -> None:
        self.picture = picture

    def image(self, record: int) -> np.ndarray:
        return self.picture


def make_view(picture: np.ndarray, fit: str, **options: Any) -> elements.View:
    settings = config.ContrastiveConfig(**options)
    source: Any = Pictures(picture)
    return elements.View(source, settings, config.InputConfig(fit=fit), first_record=0)


def draw(
    shape: tuple[int, int], fit: str, augment: config.AugmentConfig, count: int = 20
) -> list[dict[str, np.ndarray]]:
    """Views of one picture of noise around a middle grey."""
    picture = np.random.default_rng(0).integers(60, 180, shape).astype(np.uint8)
    view = make_view(picture, fit, image_size=32, augment=augment)
    return [view(0, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(64, 64), (90, 40), (40, 90)])
def test_no_view_has_padding(fit, shape):
    """By whose shape alone two views of an oblong image could be told."""
    for view in draw(shape, fit, config.AUGMENT_PRESETS["contrastive"]):
        assert view["view"].min() > 0


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_crops_lie_anywhere_in_the_picture_and_nowhere_else(fit):
    ramp = np.tile(np.arange(1, 181, dtype=np.uint8), (60, 1))
    still = config.AugmentConfig(crop_min_area=0.5)
    view = make_view(ramp, fit, image_size=60, augment=still)

    found = [view(0, np.random.default_rng(n))["view"] for n in range(100)]

    first, last = ([int(one[30, x, 0]) for one in found] for x in (0, -1))
    # A crop of 42 to 60 of 180 columns, which are as bright as their number.
    widths = np.subtract(last, first)
    assert 38 <= widths.min() <= widths.max() <= 61
    assert min(first) < 15
    assert max(last) > 165


def test_changes_of_intensity_survive_the_normalisation():
    """Brightness and contrast, which a z-score after them would undo."""
    none = config.AugmentConfig()
    for option, value in (("brightness", 0.2), ("contrast", 0.4)):
        changed = dataclasses.replace(none, **{option: value})
        seen = [
            views.normalise(
                {"view": one["view"][None], "view_statistics": one["statistics"][None]}
            )["view"]
            for one in draw((64, 64), "pad", changed)
        ]
        if option == "brightness":
            assert np.std([one.mean() for one in seen]) > 0.5
        else:
            deviations = [one.std() for one in seen]
            assert min(deviations) < 0.8
            assert max(deviations) > 1.2


def test_images_of_one_patient_have_one_owner():
    still = config.AugmentConfig()
    view = make_view(np.full((8, 8), 9, np.uint8), "pad", image_size=8, augment=still)

    owner = [view(n, np.random.default_rng(0))["owner"] for n in range(3)]

    assert owner[0] == owner[1] != owner[2]
    assert owner[0].dtype == np.int32


def test_small_views_are_small_crops_and_change_nothing_else():
    ramp = np.tile(np.arange(1, 181, dtype=np.uint8), (180, 1))
    options = dict(image_size=180, augment=config.AugmentConfig())
    source: Any = Pictures(ramp)

    def made(count: int) -> dict[str, np.ndarray]:
        settings = config.ContrastiveConfig(local_size=48, **options)
        view = elements.View(
            source, settings, config.InputConfig(), first_record=0, small_views=count
        )
        return view(0, np.random.default_rng(0))

    plain, found = made(0), made(5)

    assert found["local"].shape == (5, 48, 48, 1)
    assert found["local_statistics"].shape == (5, 2)
    for name, value in plain.items():
        np.testing.assert_array_equal(value, found[name])
    # Areas of 0.05 to 0.4: at most 0.63 of a side, somewhat stretched.
    widths = [int(one[24, -1, 0]) - int(one[24, 0, 0]) for one in found["local"]]
    assert 30 < min(widths) <= max(widths) < 180 * 0.8
    assert len(set(widths)) > 1
