"""The views that the device makes are those of the host."""

import numpy as np
import pytest

from benchmarks import augmentation, device_views
from mtpret_jax.ops import views


@pytest.mark.parametrize("part", augmentation.PARTS)
def test_the_device_makes_the_views_of_the_host(part):
    settings = augmentation.PARTS[part]
    (picture,) = augmentation.pictures(1, 64)
    for seed in range(3):
        view = augmentation.on_host(picture, np.random.default_rng(seed), settings)
        image, statistics = (part[np.newaxis] for part in view)
        batch = {"image": image, "image_statistics": statistics}
        host = views.normalise(batch)["image"][0]
        drawn = device_views.draw(np.random.default_rng(seed), settings, 96)

        device = device_views.view(picture, **drawn, settings=settings)

        # In deviations. OpenCV interpolates at thirty-seconds of a pixel, the device
        # exactly; at the border of the picture a pixel may fall on either side.
        difference = np.abs(np.asarray(device) - host)
        assert np.quantile(difference, 0.98) < 0.05
        assert np.abs(host).mean() > 0.5
