"""Positive views lie among those of other groups, and are those of their queries."""

import itertools

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import mixing, pipeline

STILL = config.AugmentConfig()  # Both views are then the picture itself.


@pytest.mark.parametrize(
    ("batch_size", "rows"),
    [(256, 32), (8192, 32), (64, 8), (32, 8), (24, 12), (16, 16), (8, 2)],
)
def test_a_group_of_keys_comes_from_as_many_groups_of_queries_as_it_can(
    batch_size, rows
):
    groups = batch_size // rows
    for batch in range(3):
        order = mixing.draw_order(5, batch, batch_size=batch_size, rows=rows)

        assert sorted(order) == list(range(batch_size))
        for keys in order.reshape(groups, rows) // rows:
            counts = np.bincount(keys, minlength=groups)
            assert (counts > 0).sum() == min(rows, groups)
            assert counts.max() - counts[counts > 0].min() <= 1


def test_every_batch_and_every_seed_has_an_order_of_its_own():
    orders = {
        tuple(mixing.draw_order(seed, batch, batch_size=64, rows=8))
        for seed in range(3)
        for batch in range(20)
    }

    assert len(orders) == 60


def test_a_row_may_come_from_anywhere():
    found = np.zeros((16, 16), int)
    for batch in range(800):
        order = mixing.draw_order(0, batch, batch_size=16, rows=4)
        found[np.arange(16), order] += 1

    assert found.min() > 20  # 50 expected, give or take 7.
    assert found.max() < 90


def _batches(tiny, index=0, count=1, augment=STILL):
    settings = config.ContrastiveConfig(
        datasets={"tiny": 1.0},
        image_size=32,
        batch_size=12,
        batch_norm_rows=4,
        augment=augment,
    )
    stream = pipeline.contrastive_stream(
        "pairs",
        settings,
        config.InputConfig(fit="stretch", threads=2, buffer=2),
        {"tiny": tiny.open("train")},
        seed=1,
        shard=pipeline.Shard(index, count),
    )
    with stream:
        return [batch.arrays for batch in itertools.islice(stream, 4)]


def test_partner_is_the_row_that_shows_the_same_image(tiny):
    for batch in _batches(tiny):
        np.testing.assert_array_equal(
            batch["query"], batch["positive"][batch["partner"]]
        )


def test_keys_of_a_stream_are_mixed_over_its_groups(tiny):
    for batch in _batches(tiny):
        for query_group in batch["partner"].reshape(3, 4) // 4:
            assert set(query_group) == {0, 1, 2}


def test_a_process_reads_its_own_rows_of_both_views(tiny):
    augment = config.AUGMENT_PRESETS["contrastive"]
    whole = _batches(tiny, augment=augment)
    parts = [_batches(tiny, index, 3, augment) for index in range(3)]
    for number, expected in enumerate(whole):
        for name, array in expected.items():
            joined = np.concatenate([part[number][name] for part in parts])
            np.testing.assert_array_equal(joined, array, err_msg=name)
