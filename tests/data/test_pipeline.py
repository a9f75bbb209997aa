"""Tests of streams: positions, shards, padding, proportions, imports."""

import ast
import collections
import dataclasses
import itertools
import pathlib
import shutil

import cv2
import numpy as np
import pytest

from mtpret_jax import config
from mtpret_jax.data import elements, kinds, pipeline, sources, transforms
from mtpret_jax.ops import views

INPUT = config.InputConfig(threads=2, buffer=2)
KINDS = ("classification", "segmentation", "detection")


def make_task(kind: str, **changes: object) -> config.TaskConfig:
    task = config.TaskConfig(
        kind=kind,
        dataset="tiny",
        image_size=32,
        batch_size=4,
        augment=config.AUGMENT_PRESETS["contrastive"],
        detection=config.DetectionConfig(max_boxes=3),
    )
    return dataclasses.replace(task, **changes)


def make_balanced(**changes: object) -> config.TaskConfig:
    return make_task("classification", balanced_sampling=True, **changes)


def make_contrastive(**changes: object) -> config.ContrastiveConfig:
    settings = config.ContrastiveConfig(
        datasets={"tiny": 1.0}, image_size=32, batch_size=8, batch_norm_rows=2
    )
    return dataclasses.replace(settings, **changes)


def take(stream: pipeline.Stream, count: int | None = None) -> list[dict]:
    with stream:
        return [batch.arrays for batch in itertools.islice(stream, count)]


def seen(batches: list[dict]) -> list[dict]:
    """The batches as networks see them."""
    return [views.normalise(batch) for batch in batches]


def assert_same(one: list[dict], other: list[dict]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name, array in left.items():
            np.testing.assert_array_equal(array, right[name], err_msg=name)


SHAPES = {
    "classification": {"label": (np.float32, (2,)), "label_known": (np.bool_, (2,))},
    "segmentation": {
        "segmentation": (np.uint8, (32, 32)),
        "pixel_known": (np.bool_, (32, 32)),
    },
    "detection": {
        "box": (np.float32, (3, 4)),
        "box_class": (np.int32, (3,)),
        "box_valid": (np.bool_, (3,)),
    },
}


@pytest.mark.smoke
@pytest.mark.parametrize("kind", KINDS)
def test_batches_hold_the_arrays_of_their_kind(tiny, kind):
    expected = {
        "image": (np.uint8, (32, 32, 1)),
        "image_statistics": (np.float32, (2,)),
        "record": (np.int32, ()),
        "example_valid": (np.bool_, ()),
        **SHAPES[kind],
    }
    task = make_task(kind)
    evaluated = {"pixel_size": (np.float32, (2,)), "outside": (np.int32, (255,))}
    evaluated = evaluated if kind == "segmentation" else {}
    train = pipeline.train_stream("one", task, INPUT, tiny.open("train"), seed=0)
    test = pipeline.eval_batches("one", task, INPUT, tiny.open("validation"))
    for stream, more in ((train, {}), (test, evaluated)):
        with stream:
            batch = next(stream)
        assert batch.task == "one"
        found = {k: (v.dtype.type, v.shape[1:]) for k, v in batch.arrays.items()}
        assert found == expected | more
        assert {len(array) for array in batch.arrays.values()} == {4}


@pytest.mark.smoke
@pytest.mark.parametrize("kind", [*KINDS, "balanced"])
def test_stream_resumes_at_any_batch(tiny, kind):
    task = make_task(kind) if kind in KINDS else make_balanced()

    def stream(first_batch):
        return pipeline.train_stream(
            "one", task, INPUT, tiny.open("train"), seed=3, first_batch=first_batch
        )

    whole = take(stream(0), 9)
    for first in (1, 5):
        assert_same(take(stream(first), 9 - first), whole[first:])


@pytest.mark.smoke
def test_global_batch_is_the_same_for_any_number_of_shards(tiny):
    task = make_task("segmentation", batch_size=8)
    settings = make_contrastive()

    def read(shard):
        where = dict(seed=3, first_batch=2, shard=shard)
        source = tiny.open("train")
        supervised, balanced = (
            pipeline.train_stream("one", one, INPUT, source, **where)
            for one in (task, make_balanced(batch_size=8))
        )
        contrastive = pipeline.contrastive_stream(
            "pairs", settings, INPUT, {"tiny": source}, **where
        )
        evaluated = pipeline.eval_batches(
            "one", task, INPUT, tiny.open("validation"), shard=shard
        )
        streams = (supervised, balanced, contrastive)
        return *(take(stream, 3) for stream in streams), take(evaluated)

    whole = read(pipeline.Shard())
    for count in (2, 4):
        parts = [read(pipeline.Shard(index, count)) for index in range(count)]
        for stream, expected in enumerate(whole):
            joined = [
                {name: np.concatenate([b[name] for b in batch]) for name in batch[0]}
                for batch in zip(*(part[stream] for part in parts), strict=True)
            ]
            assert_same(joined, expected)


def test_each_epoch_has_every_record_once_in_a_new_order(tiny):
    task = make_task("classification", target="finding")
    stream = pipeline.train_stream("one", task, INPUT, tiny.open("train"), seed=0)
    records = np.concatenate([b["record"] for b in take(stream, 9)]).reshape(3, 12)
    assert (np.sort(records, axis=1) == np.arange(12)).all()
    assert len(np.unique(records, axis=0)) == 3


def test_augmentation_differs_between_epochs_and_seeds(tiny):
    task = make_task("classification", target="finding", batch_size=12)

    def images(seed):
        stream = pipeline.train_stream(
            "one", task, INPUT, tiny.open("train"), seed=seed
        )
        return [b["image"][np.argsort(b["record"])] for b in seen(take(stream, 2))]

    first, second = images(0)
    other, _ = images(1)
    assert (np.abs(first - second).max((1, 2, 3)) > 0.01).all()
    assert (np.abs(first - other).max((1, 2, 3)) > 0.01).all()


def test_set_smaller_than_a_batch_is_repeated(tiny):
    task = make_task("detection", batch_size=32)
    stream = pipeline.train_stream("one", task, INPUT, tiny.open("train"), seed=0)
    (batch,) = take(stream, 1)
    assert len(batch["record"]) == 32
    assert batch["example_valid"].all()
    usable = kinds.usable_records(tiny.open("train"), task)
    assert set(batch["record"].tolist()) == set(usable.tolist())


def test_padding_is_zero_and_unknown_in_training(tiny):
    augmentation = config.AugmentConfig(rotation_degrees=20.0, noise=0.1)
    task = make_task("segmentation", batch_size=12, augment=augmentation)
    stream = pipeline.train_stream("one", task, INPUT, tiny.open("train"), seed=0)
    (batch,) = seen(take(stream, 1))
    # A corner that the rotation laid bare is padding; so is the side of a narrow one.
    narrow = batch["record"] % 2 == 1
    image, pixel_known = batch["image"][narrow], batch["pixel_known"][narrow]
    assert (image[:, :, 0] == 0).mean() > 0.8
    assert not pixel_known[image[..., 0] == 0].any()
    for one in batch["image"]:
        real = one[one != 0]
        # Normalised by what it was before the noise.
        np.testing.assert_allclose([real.mean(), real.std()], [0, 1], atol=0.3)


def test_evaluation_covers_every_example_once(tiny):
    task = make_task("classification")
    batches = take(pipeline.eval_batches("one", task, INPUT, tiny.open("validation")))
    record = np.concatenate([b["record"] for b in batches])
    assert record.tolist() == [0, 1, 2, 3, 4, 5, 6, -1]
    valid = np.concatenate([b["example_valid"] for b in batches])
    np.testing.assert_array_equal(valid, record >= 0)
    assert not batches[-1]["image"][-1].any()
    assert not batches[-1]["label_known"][-1].any()
    again = take(
        pipeline.eval_batches("one", task, INPUT, tiny.open("validation"), batch_size=7)
    )
    assert len(again) == 1
    np.testing.assert_array_equal(
        again[0]["image"], np.concatenate([b["image"] for b in batches])[:7]
    )


def test_evaluation_shows_the_stored_picture(tiny):
    task = make_task("segmentation", image_size=64, batch_size=1)
    stream = pipeline.eval_batches("one", task, INPUT, tiny.open("train"))
    (first,) = seen(take(stream, 1))
    picture, mask = tiny.draw("train", 0)
    expected = (picture - picture.mean()) / picture.std()
    np.testing.assert_allclose(first["image"][0, ..., 0], expected, atol=1e-3)
    np.testing.assert_array_equal(first["segmentation"][0], np.where(mask == 1, 1, 0))
    np.testing.assert_array_equal(first["pixel_known"][0], mask != 255)


@pytest.mark.parametrize(
    ("mode", "size"), [("pad", (2, 2)), ("crop", (1.5, 1.5)), ("stretch", (1.5, 2))]
)
def test_evaluation_of_masks_tells_the_size_of_a_pixel(mode, size):
    """Of 48 x 64 stored pixels in a square of 32."""
    picture = np.zeros((48, 64), np.uint8)
    example = {"image": picture, "mask": cv2.imencode(".png", picture)[1]}
    example["record"] = np.asarray(0, np.int32)
    element = elements.TaskElement(
        [example], make_task("segmentation"), dataclasses.replace(INPUT, fit=mode)
    )

    np.testing.assert_allclose(element(0)["pixel_size"], size, rtol=0.01)  # Rounded.


def test_16_bits_give_the_same_batches(tiny, tiny_16_bit):
    task = make_task("classification")
    shallow, deep = (
        seen(take(pipeline.train_stream("one", task, INPUT, source, seed=0), 3))
        for source in (tiny.open("train"), tiny_16_bit.open("train"))
    )
    for left, right in zip(shallow, deep, strict=True):
        np.testing.assert_array_equal(left["record"], right["record"])
        # Two grey levels of 255, of a picture whose deviation is about 50.
        np.testing.assert_allclose(left["image"], right["image"], atol=0.04)


def test_normalisation_by_the_dataset_and_by_fixed_numbers(tiny):
    task = make_task("classification", batch_size=1, image_size=64)
    settings = dataclasses.replace(INPUT, normalisation="dataset")
    stream = pipeline.eval_batches("one", task, settings, tiny.open("validation"))
    (batch,) = seen(take(stream, 1))
    picture, _ = tiny.draw("validation", 0)
    np.testing.assert_allclose(
        batch["image"][0, ..., 0], (picture / 255 - 0.25) / 0.3, atol=1e-3
    )
    fixed = config.FixedConfig(mean=(0.4, 0.5), deviation=(0.1, 0.2), greys=(0, 2))
    settings = dataclasses.replace(INPUT, normalisation="fixed", fixed=fixed)
    with pipeline.eval_batches(
        "one", task, settings, tiny.open("validation"), batch_size=2
    ) as stream:
        batch, *_, padded = seen(batch.arrays for batch in stream)
    expected = (picture[..., None] / 127.5 - [0.4, 0.5]) / [0.1, 0.2]
    np.testing.assert_allclose(batch["image"][0], expected, atol=1e-3)
    assert not padded["image"][~padded["example_valid"]].any()
    wrong = dataclasses.replace(INPUT, normalisation="batch")
    with pytest.raises(ValueError, match=r"config.input.normalisation is 'batch'"):
        pipeline.eval_batches("one", task, wrong, tiny.open("validation"))


@pytest.mark.smoke
def test_contrastive_views_are_two_of_one_picture(tiny):
    settings = make_contrastive(datasets={"tiny": 1.0, "again": 1.0})
    opened = dict.fromkeys(("tiny", "again"), tiny.open("train"))
    stream = pipeline.contrastive_stream("pairs", settings, INPUT, opened, seed=0)
    batches = seen(take(stream, 6))
    arrays = {"query", "positive", "partner", "record", "example_valid"}
    assert batches[0].keys() == arrays | {"query_owner", "positive_owner"}
    for batch in batches:
        assert batch["query"].shape == (8, 32, 32, 1)
        assert sorted(batch["partner"]) == list(range(8))
        other = batch["positive"][batch["partner"]]
        owner = batch["positive_owner"][batch["partner"]]
        np.testing.assert_array_equal(batch["query_owner"], owner)
        differ = np.abs(batch["query"] - other).max((1, 2, 3))
        assert (differ > 0.05).all()
    records = np.concatenate([b["record"] for b in batches])
    # Twice twelve pictures in two sets: 48 elements are two epochs of each.
    assert collections.Counter(records.tolist()) == dict.fromkeys(range(24), 2)
    whole = take(
        pipeline.contrastive_stream("pairs", settings, INPUT, opened, seed=0), 6
    )
    late = pipeline.contrastive_stream(
        "pairs", settings, INPUT, opened, seed=0, first_batch=4
    )
    assert_same(take(late, 2), whole[4:])


@pytest.mark.parametrize(
    ("weights", "exponent", "share"),
    [((3.0, 1.0), 1.0, 0.75), ((1.0, 1.0), 0.0, 0.5), ((1.0, 4.0), 0.5, 0.2)],
)
def test_sets_are_mixed_in_proportion(tiny, weights, exponent, share):
    settings = make_contrastive(
        datasets=dict(zip(("a", "b"), weights, strict=True)),
        size_exponent=exponent,
        batch_size=20,
    )
    opened = dict.fromkeys("ab", tiny.open("train"))
    stream = pipeline.contrastive_stream("pairs", settings, INPUT, opened, seed=0)
    record = np.concatenate([b["record"] for b in take(stream, 5)])
    np.testing.assert_allclose((record < 12).mean(), share, atol=0.011)


def test_shards_must_divide_the_batch(tiny):
    task = make_task("classification", batch_size=6)
    for shard, message in [
        (pipeline.Shard(0, 4), "config.tasks.one.batch_size is 6"),
        (pipeline.Shard(2, 2), "Shard 2 of 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            pipeline.train_stream(
                "one", task, INPUT, tiny.open("train"), seed=0, shard=shard
            )


def test_empty_split_is_an_error(tiny):
    task = make_task("segmentation")
    with pytest.raises(ValueError, match="has no example with a mask"):
        pipeline.eval_batches("one", task, INPUT, tiny.open("test"))


def test_unreadable_record_is_named(tiny_png, monkeypatch):
    def fail(encoded):
        raise ValueError(f"Cannot decode a picture of {len(encoded)} bytes.")

    monkeypatch.setattr(transforms, "decode", fail)
    stream = pipeline.eval_batches(
        "one", make_task("detection"), INPUT, tiny_png.open("validation")
    )
    with stream, pytest.raises(ValueError, match="Cannot decode") as caught:
        next(stream)
    assert any("of dataset 'tiny_xray_png'" in note for note in caught.value.__notes__)


def test_streams_leave_the_cores_to_grain(tiny):
    cv2.setNumThreads(2)
    task = make_task("classification")
    pipeline.eval_batches("one", task, INPUT, tiny.open("test")).close()
    assert cv2.getNumThreads() <= 1


LIGHT = ("prepared", "prepared_types", "storage")  # what reads prepared folders


def test_room_imports_no_jax_tensorflow_or_builders():
    room = pathlib.Path(pipeline.__file__).parent
    for module in room.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                continue
            names -= {f"tfds_builders.{name}" for name in LIGHT}
            roots = {name.split(".")[0] for name in names}
            banned = {"jax", "flax", "tensorflow", "tfds_builders"}
            assert not roots & banned, module.name


def test_prepared_folder_may_move(tiny, tmp_path):
    folder = tmp_path / "elsewhere" / "1.0.0"
    shutil.copytree(tiny.folder, folder)
    task = make_task("detection")
    one, other = (
        take(pipeline.train_stream("one", task, INPUT, source, seed=0), 1)
        for source in (tiny.open("train"), sources.open_prepared(folder, "train"))
    )
    assert_same(one, other)


def test_threads_are_as_many_as_cores_unless_told(monkeypatch):
    name = "os.sched_getaffinity"
    for cores, expected in [(16, 16), (2, 4)]:
        usable = set(range(cores))
        monkeypatch.setattr(name, lambda _, usable=usable: usable, raising=False)
        assert pipeline.count_threads(config.InputConfig()) == expected
    monkeypatch.delattr(name)  # Not every system has it.
    for cores, expected in [(16, 16), (None, 4)]:
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert pipeline.count_threads(config.InputConfig()) == expected
    assert pipeline.count_threads(config.InputConfig(threads=3)) == 3
