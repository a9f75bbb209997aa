"""The distance of outlines by hand, by all pairs, and what is counted apart."""

import numpy as np
import pytest

from mtpret_jax.metrics import distances, segmentation

LUNGS = segmentation.SegmentationMetric(("background", "left", "right"))


def _square(top, left, side=20, size=64):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize(
    ("moved", "size", "expected"),
    [((10, 13), (1, 1), 3), ((10, 13), (1, 2), 6), ((15, 10), (0.5, 2), 2.5)],
)
def test_a_square_that_is_moved_is_as_far_as_it_was_moved(moved, size, expected):
    found = distances.hausdorff_95(_square(10, 10), _square(*moved), size)

    assert found == pytest.approx(expected)


def test_a_speck_far_away_does_not_decide():
    """One pixel of 77 is less than 5 %."""
    drawn = _square(10, 10)
    drawn[60, 60] = True

    assert distances.hausdorff_95(_square(10, 10), drawn, (1, 1)) == 0


def _outline(mask):
    """Pixels with a neighbour outside, one by one."""
    padded = np.pad(mask, 1)
    return [
        (y, x)
        for y, x in np.argwhere(mask)
        if not (
            padded[y, x + 1]
            and padded[y + 2, x + 1]
            and padded[y + 1, x]
            and padded[y + 1, x + 2]
        )
    ]


def test_distances_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    for _ in range(5):
        one, other = rng.random((2, 12, 9)) < 0.3
        size = rng.uniform(0.5, 3, 2)
        points = [np.array(_outline(mask)) * size for mask in (one, other)]
        pair = np.linalg.norm(points[0][:, None] - points[1], axis=-1)
        directed = [np.percentile(pair.min(axis=axis), 95) for axis in (0, 1)]

        found = distances.hausdorff_95(one, other, size)

        assert found == pytest.approx(max(directed))


def test_empty_regions_are_counted_apart():
    """Left is missed once and drawn as it is once; right is made up once of two."""
    truth = np.zeros((2, 64, 64), np.int32)
    truth[0][_square(5, 5)] = truth[1][_square(5, 5)] = 1
    drawn = np.zeros_like(truth)
    drawn[0][_square(5, 9)] = 1
    drawn[0][_square(40, 40)] = 2
    batch = {
        "segmentation": truth,
        "pixel_known": np.ones(truth.shape, bool),
        "pixel_size": np.array([[2, 2], [1, 1]], np.float32),
        "record": np.arange(2),
    }

    values = LUNGS.compute(
        LUNGS.summarise(LUNGS.records({"segmentation": drawn}, batch))
    )

    assert values["hd95"] == pytest.approx(8)  # Four pixels of two each.
    assert values["masks_missed"] == 0.5
    assert values["masks_made_up"] == 0.5


def test_an_unknown_pixel_has_no_outline():
    truth, drawn = _square(10, 10)[None], _square(10, 10)[None] | _square(40, 40)[None]
    batch = {
        "segmentation": truth.astype(int),
        "pixel_known": ~_square(40, 40)[None],
        "record": np.arange(1),
    }

    records = LUNGS.records({"segmentation": drawn.astype(int)}, batch)

    assert records["hd95"][0, 0] == 0


def test_predictions_from_before_have_no_distance():
    records = {name: np.ones((3, 3), int) for name in ("tp", "fp", "fn")}

    values = LUNGS.compute(LUNGS.summarise(records | {"record": np.arange(3)}))

    assert np.isnan(values["hd95"])
    assert values["masks_missed"] == 0
