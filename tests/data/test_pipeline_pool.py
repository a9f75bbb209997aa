"""Stage 1 never reads an excluded image, and everything else stays where it was."""

import collections
import dataclasses
import itertools
import shutil

import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import mixing, pipeline, sources

INPUT = config.InputConfig(threads=2, buffer=2)
SETTINGS = config.ContrastiveConfig(
    datasets={"tiny": 1.0, "again": 1.0}, image_size=16, batch_size=8
)
EXCLUDED = {"tiny": {"train-0", "train-11"}, "again": {"train-3", "train-7"}}


def take(count, tiny, *, settings=SETTINGS, **options):
    folders = {"tiny": tiny.folder, "again": tiny.folder}
    stream = pipeline.contrastive_stream(
        "pairs",
        settings,
        INPUT,
        {
            name: sources.open_prepared(folder, "train")
            for name, folder in folders.items()
        },
        seed=0,
        **options,
    )
    with stream:
        return [batch.arrays for batch in itertools.islice(stream, count)]


def identify(tiny, batches):
    """Set and image of every element, by the index of the folder."""
    index = tiny.open("train").index
    found = []
    for record in np.concatenate([batch["record"] for batch in batches]).tolist():
        name = "tiny" if record < len(index) else "again"
        found.append((name, index[record % len(index)]["image_id"]))
    return found


@pytest.mark.smoke
def test_whole_epochs_hold_every_image_but_the_excluded(tiny):
    # 10 + 10 images are kept: 20 elements are an epoch, five batches are two.
    seen = identify(tiny, take(5, tiny, excluded=EXCLUDED))

    expected = {
        (name, f"train-{i}")
        for name, excluded in EXCLUDED.items()
        for i in range(12)
        if f"train-{i}" not in excluded
    }
    assert collections.Counter(seen) == dict.fromkeys(expected, 2)


def test_without_a_list_they_are_read(tiny):
    seen = set(identify(tiny, take(6, tiny)))

    assert {("tiny", name) for name in EXCLUDED["tiny"]} <= seen


def test_no_excluded_record_is_even_opened(tiny, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny.folder, tmp_path / "tiny" / "1.0.0")
    opened = set()
    read = sources.Source.image

    def note(source, record):
        if source.folder == folder:  # Threads of an earlier test may still read.
            opened.add(source.index[record]["image_id"])
        return read(source, record)

    monkeypatch.setattr(sources.Source, "image", note)
    settings = dataclasses.replace(SETTINGS, datasets={"tiny": 1.0})
    stream = pipeline.contrastive_stream(
        "pairs",
        settings,
        INPUT,
        {"tiny": sources.open_prepared(folder, "train")},
        seed=0,
        excluded=EXCLUDED,
    )
    with stream:
        for _ in range(20):
            next(stream)

    assert opened == {f"train-{i}" for i in range(12)} - EXCLUDED["tiny"]


def test_a_stream_with_exclusions_resumes_at_any_batch(tiny):
    whole = take(6, tiny, excluded=EXCLUDED)
    late = take(2, tiny, excluded=EXCLUDED, first_batch=4)

    for left, right in zip(late, whole[4:], strict=True):
        for name, array in left.items():
            np.testing.assert_array_equal(array, right[name], err_msg=name)


def test_where_nothing_is_excluded_the_order_is_that_of_the_whole_split(tiny):
    """What is trained without an audit is trained with one alike."""
    settings = dataclasses.replace(SETTINGS, datasets={"tiny": 1.0})
    given = {"tiny": {"train-12", "test-0"}, "elsewhere": {"train-0"}}

    batches = take(3, tiny, settings=settings, excluded=given)

    seed = pipeline._derive(0, "shuffle", "tiny")
    expected = mixing.Epochs(np.arange(12), seed)
    found = np.concatenate([batch["record"] for batch in batches])
    assert found.tolist() == [expected[i] for i in range(24)]


def test_mixing_goes_by_what_is_left(tiny):
    excluded = {"again": {f"train-{i}" for i in range(9)}}

    seen = identify(tiny, take(15, tiny, excluded=excluded))

    share = collections.Counter(name for name, _ in seen)["again"] / len(seen)
    np.testing.assert_allclose(share, 3 / 15, atol=0.01)


def test_a_set_of_which_nothing_is_left_is_named(tiny):
    everything = {"again": {f"train-{i}" for i in range(12)}}

    with pytest.raises(ValueError, match=r"All 12 training images of dataset 'tiny_x"):
        take(1, tiny, excluded=everything)
