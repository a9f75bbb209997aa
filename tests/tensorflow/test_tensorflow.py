"""Our sets where TensorFlow is installed: `make tensorflow-test`.

Not part of `make test`: nothing else of the house needs TensorFlow.
"""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

import tfds_builders
from tfds_builders.mura import dummy_data as mura_dummy_data
from tfds_builders.tbx11k import dummy_data as tbx11k_dummy_data

IDS = [f"train-{index:06d}" for index in range(7)]


class _OnDummyData:
    """Writes the dummy data that TFDS's own test of a builder wants to find."""

    WRITE: Callable[[epath.Path], None]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = cls._folder.name
        cls.WRITE(epath.Path(cls._folder.name))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls._folder.cleanup()


class TestMura(_OnDummyData, tfds.testing.DatasetBuilderTestCase):
    """Stored splits of the dummy data."""

    WRITE = staticmethod(mura_dummy_data.write)
    DATASET_CLASS = tfds_builders.mura.Builder
    SPLITS = {"train": 47, "validation": 13}  # noqa: RUF012


class TestTbx11k(_OnDummyData, tfds.testing.DatasetBuilderTestCase):
    """Stored splits of the dummy data."""

    WRITE = staticmethod(tbx11k_dummy_data.write)
    DATASET_CLASS = tfds_builders.tbx11k.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["full", "px512"]  # noqa: RUF012
    SPLITS = {"train": 17, "validation": 5, "test": 2}  # noqa: RUF012


def _load(data_dir: pathlib.Path, split: str, **options: Any) -> Any:
    config = tfds_builders.phantom_xray.Config(
        name="t", body="chest", image_size=48, train=7, validation=2, test=0
    )
    return tfds.load(
        "phantom_xray",
        data_dir=data_dir,
        split=split,
        builder_kwargs={"config": config, **options},
    )


def _ids(dataset: Any) -> list[str]:
    return [example["image_id"].decode() for example in tfds.as_numpy(dataset)]


@pytest.mark.parametrize("options", [{}, {"file_format": "tfrecord"}])
def test_load_finds_a_set_by_name_and_keeps_its_order(
    tmp_path: pathlib.Path, options: dict[str, str]
):
    read = _load(tmp_path, "train", **options)

    assert _ids(read) == IDS
    assert len(read) == 7
    (image, mask) = (read.element_spec[name] for name in ("image", "mask"))
    assert (image.dtype, mask.dtype) == (tf.uint8, tf.uint8)
    assert image.shape.as_list() == [None, None, 1]


def test_both_formats_give_the_same_examples(tmp_path: pathlib.Path):
    first = _load(tmp_path / "a", "validation")
    second = _load(tmp_path / "b", "validation", file_format="tfrecord")

    for one, other in zip(first, second, strict=True):
        tf.nest.map_structure(tf.debugging.assert_equal, one, other)


def test_slices_shuffling_and_sharing_out_work_on_array_record(
    tmp_path: pathlib.Path,
):
    _load(tmp_path, "train")
    builder = tfds.builder_from_directory(
        str(tmp_path / "phantom_xray" / "t" / "1.0.0")
    )
    ours = tfds_builders.phantom_xray.Builder(
        data_dir=tmp_path, config=tfds_builders.phantom_xray.Config(name="t")
    )
    assert builder.info.splits["train"].num_examples == 7

    context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=1)
    shared = tfds.ReadConfig(input_context=context)
    shuffled = ours.as_dataset(split="train", shuffle_files=True)

    assert _ids(ours.as_dataset(split="train[2:4]+validation")) == [
        *IDS[2:4],
        "validation-000000",
        "validation-000001",
    ]
    assert sorted(_ids(shuffled)) == IDS
    assert _ids(ours.as_dataset(split="train", read_config=shared)) == IDS[1::2]
