"""The shards of a set written by Apache Beam: `make extras-test`.

Not part of `make test`: Beam wants other versions of some libraries.
"""

import pathlib
import pickle

import pytest
import tensorflow_datasets as tfds
from apache_beam.options import (  # pyright: ignore[reportMissingImports]
    pipeline_options,
)
from etils import epath

from tfds_builders import mura, phantom_xray
from tfds_builders.mura import dummy_data
from tfds_builders.prepare import xray_builder

CONFIG = phantom_xray.Config(
    name="t", body="hand", image_size=32, train=7, validation=0, test=3
)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xray_builder, "RECORDS_PER_SHARD", 2)


def _prepare(data_dir: pathlib.Path, **settings: object) -> pathlib.Path:
    builder = phantom_xray.Builder(data_dir=data_dir, config=CONFIG)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(**settings)
    )
    return pathlib.Path(builder.data_dir)


def _content(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_beam_writes_the_bytes_that_threads_write(tmp_path: pathlib.Path, mode: str):
    options = pipeline_options.PipelineOptions(
        runner="DirectRunner", direct_num_workers=2, direct_running_mode=mode
    )

    by_beam = _prepare(tmp_path / "beam", beam_options=options)

    assert _content(by_beam) == _content(_prepare(tmp_path / "threads"))
    assert [path.name for path in by_beam.parent.iterdir()] == ["1.0.0"]


def test_beam_goes_on_where_threads_were_stopped(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    load = phantom_xray.Builder.load

    def fail(self: phantom_xray.Builder, record: xray_builder.Record) -> object:
        if record.image_id == "train-000005":
            raise KeyError("stop")
        return load(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(phantom_xray.Builder, "load", fail)
        with pytest.raises(KeyError):
            _prepare(tmp_path)
    (first,) = tmp_path.glob("phantom_xray/t/*.partial/*/00000.array_record")
    made = first.stat().st_ino

    folder = _prepare(tmp_path, beam_runner="DirectRunner")

    shards = sorted(folder.glob("*-train.*"))
    assert shards[0].stat().st_ino == made
    assert _content(folder) == _content(_prepare(tmp_path / "whole"))


def test_workers_find_a_release_in_the_manual_folder(tmp_path: pathlib.Path):
    dummy_data.write(epath.Path(tmp_path / "manual"))
    options = pipeline_options.PipelineOptions(
        runner="DirectRunner",
        direct_num_workers=2,
        direct_running_mode="multi_processing",
    )
    found = []

    for name, beam in (("beam", {"beam_options": options}), ("threads", {})):
        builder = mura.Builder(data_dir=tmp_path / name)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                manual_dir=tmp_path / "manual", **beam
            )
        )
        found.append(_content(pathlib.Path(builder.data_dir)))

    assert found[0] == found[1]
    assert found[0]["quarantine.csv"].count(b"\n") > 1


def test_a_builder_is_made_anew_from_its_pickle(tmp_path: pathlib.Path):
    builder = phantom_xray.Builder(data_dir=tmp_path, config=CONFIG)
    (record, *_) = builder.records()["train"]

    other = pickle.loads(pickle.dumps(builder))

    assert other.encode("train", record).example == (
        builder.encode("train", record).example
    )
