"""Where a release is looked for; the rest is tested by each set."""

import pathlib
import pickle

import pytest
import tensorflow_datasets as tfds
from etils import epath

import tfds_builders
from tfds_builders import mura
from tfds_builders.mura import dummy_data


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    dummy_data.write(epath.Path(tmp_path / "elsewhere"))
    return tmp_path / "elsewhere"


def _prepare(builder: mura.Builder, manual_dir: pathlib.Path | None = None) -> None:
    settings = tfds.download.DownloadConfig(manual_dir=manual_dir)
    builder.download_and_prepare(download_config=settings)


def test_the_manual_folder_of_tfds_is_searched(folder: pathlib.Path):
    builder = mura.Builder(data_dir=folder.parent / "data")

    _prepare(builder, folder)

    assert builder.info.splits.total_num_examples == 60


def test_without_any_it_is_the_one_of_downloads(folder: pathlib.Path):
    data = folder.parent / "data"
    (data / "downloads").mkdir(parents=True)
    folder.rename(data / "downloads" / "manual")

    _prepare(mura.Builder(data_dir=data))

    assert (data / "mura" / "full" / "1.0.0" / "index.csv").exists()


def test_the_folder_of_the_config_goes_before_it(folder: pathlib.Path):
    config = mura.Config(name="mine", folder=str(folder))
    builder = mura.Builder(data_dir=folder.parent / "data", config=config)

    _prepare(builder, folder.parent / "nowhere")

    assert builder.info.splits.total_num_examples == 60


def test_an_absent_manual_folder_is_named_with_what_belongs_there(
    tmp_path: pathlib.Path,
):
    with pytest.raises(FileNotFoundError, match=r"(?s)mura: .*nowhere.*MURA"):
        _prepare(mura.Builder(data_dir=tmp_path), tmp_path / "nowhere")


def test_a_worker_elsewhere_knows_the_folder(folder: pathlib.Path):
    builder = mura.Builder(data_dir=folder.parent / "data")
    builder.folder = epath.Path(folder)
    (record, *_) = builder.records()["train"]

    other = pickle.loads(pickle.dumps(builder))

    assert other.encode("train", record) == builder.encode("train", record)


def test_importing_the_package_makes_every_set_known_by_name(tmp_path: pathlib.Path):
    assert len(tfds_builders.SETS) == 15
    for name in tfds_builders.SETS:
        assert getattr(tfds_builders, name).Builder.name == name
    assert set(tfds_builders.SETS) <= set(
        tfds.list_builders(with_community_datasets=False)
    )
    assert isinstance(tfds.builder("mura", data_dir=tmp_path), mura.Builder)
