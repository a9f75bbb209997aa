"""The writer that all builders share, on a set of invented pictures."""

import csv
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import file_adapters

from tfds_builders import prepared, xray_features
from tfds_builders.images import reader
from tfds_builders.prepare import shards, staging, xray_builder

REPOSITORY = pathlib.Path(__file__).parents[3]
SHARD = 4
COUNTS = {"train": 14, "test": 6}


@dataclasses.dataclass
class ToyConfig(tfds.core.BuilderConfig):
    """Which of the pictures are broken, and a word for the fingerprint."""

    image_size: int = 0
    broken: tuple[int, ...] = ()
    word: str = ""


class Toy(xray_builder.XrayBuilder, skip_registration=True):
    """Twenty pictures, half n (0 to 19) and half n + 100; 0 to 13 are for training."""

    VERSION = tfds.core.Version("1.0.0")

    def layout(self) -> xray_features.Layout:
        return xray_features.Layout(label_names={"label": ("even", "odd")})

    def fingerprint(self) -> str:
        return self.builder_config.word

    def records(self) -> Mapping[str, Sequence[xray_builder.Record]]:
        numbers = iter(range(sum(COUNTS.values())))
        return {
            split: [_record(next(numbers)) for _ in range(count)]
            for split, count in COUNTS.items()
        }

    def load(self, record: xray_builder.Record) -> xray_features.Xray:
        self.before(record.source)
        if record.source in self.builder_config.broken:
            raise reader.UnreadableImage("broken")
        label = np.eye(2, dtype=np.int8)[record.source % 2]
        image = np.full((64, 64), record.source, np.uint8)
        image[32:] += 100
        return xray_features.Xray(image, {"label": label})

    before: Callable[[int], Any] = staticmethod(lambda number: None)


def _record(number: int) -> xray_builder.Record:
    return xray_builder.Record(f"x{number}", f"p{number // 2}", number)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xray_builder, "RECORDS_PER_SHARD", SHARD)


def _prepare(
    data_dir: pathlib.Path,
    before: Callable[[int], Any] = lambda number: None,
    **options: Any,
) -> pathlib.Path:
    builder = Toy(data_dir=data_dir, config=ToyConfig(name="t", **options))
    builder.before = before
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


def _elsewhere(data_dir: pathlib.Path, before: str) -> subprocess.CompletedProcess[str]:
    """Prepares the set in a process of its own, where `before` is done."""
    program = (
        "import os, pathlib, resource, signal, time\n"
        "from tests.tfds_builders.prepare import test_xray_builder as test\n"
        "from tfds_builders.prepare import xray_builder\n"
        f"xray_builder.RECORDS_PER_SHARD = {SHARD}\n"
        f"def before(number):\n    {before}\n"
        f"test._prepare(pathlib.Path({str(data_dir)!r}), before)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def _content(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _table(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _ids(folder: pathlib.Path, split: str) -> list[str]:
    source: Any = tfds.builder_from_directory(str(folder)).as_data_source(split)
    return [example["image_id"].decode() for example in source]


# In the third shard; nothing of it is loaded before the second is written.
KILL = "number == 10 and os.kill(os.getpid(), signal.SIGKILL)"


def test_a_killed_preparation_goes_on_to_the_same_bytes(tmp_path: pathlib.Path):
    killed = _elsewhere(tmp_path / "killed", KILL)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    loaded: list[int] = []

    folder = _prepare(tmp_path / "killed", loaded.append)

    assert sorted(loaded) == list(range(8, 20)), "two shards of four were finished"
    assert _content(folder) == _content(_prepare(tmp_path / "whole"))
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


def test_what_was_left_of_another_source_is_thrown_away(tmp_path: pathlib.Path):
    _elsewhere(tmp_path / "killed", KILL)
    loaded: list[int] = []

    folder = _prepare(tmp_path / "killed", loaded.append, word="changed")

    assert sorted(loaded) == list(range(20))
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


def test_an_error_keeps_what_is_finished(tmp_path: pathlib.Path):
    def fail(number: int) -> None:
        if number == 12:
            raise KeyError("a mistake in a builder")

    with pytest.raises(KeyError, match="a mistake"):
        _prepare(tmp_path, fail)
    loaded: list[int] = []
    _prepare(tmp_path, loaded.append)

    assert sorted(loaded) == list(range(12, 20))


def test_a_shard_cut_short_is_written_again(tmp_path: pathlib.Path):
    _elsewhere(tmp_path / "killed", KILL)
    (file,) = tmp_path.glob("killed/toy/t/1.0.0.partial/*/00001.array_record")
    os.truncate(file, 100)
    loaded: list[int] = []

    folder = _prepare(tmp_path / "killed", loaded.append)

    assert sorted(loaded) == list(range(4, 20))
    assert _content(folder) == _content(_prepare(tmp_path / "whole"))


def test_records_keep_their_order_whichever_thread_is_first(tmp_path: pathlib.Path):
    folder = _prepare(tmp_path, lambda number: time.sleep(0.02 * (number % 3 == 0)))

    assert _ids(folder, "train") == [f"x{i}" for i in range(14)]
    assert _ids(folder, "test") == [f"x{i}" for i in range(14, 20)]
    rows = _table(folder / "index.csv")
    assert [row["image_id"] for row in rows] == [f"x{i}" for i in range(20)]
    assert [int(row["record"]) for row in rows] == [*range(14), *range(6)]


def test_unreadable_files_leave_no_gap_even_where_a_shard_has_no_other(
    tmp_path: pathlib.Path,
):
    broken = (1, 4, 5, 6, 7, 13, 15)

    folder = _prepare(tmp_path, broken=broken)

    assert _table(folder / "quarantine.csv") == [
        {"file": f"x{i}", "reason": "broken"} for i in broken
    ]
    kept = [f"x{i}" for i in range(14) if i not in broken]
    assert _ids(folder, "train") == kept
    rows = [row for row in _table(folder / "index.csv") if row["split"] == "train"]
    assert [row["image_id"] for row in rows] == kept
    assert [int(row["record"]) for row in rows] == list(range(len(kept)))
    info = tfds.builder_from_directory(str(folder)).info
    assert info.splits["train"].shard_lengths == [3, 4, 1]
    report = json.loads((folder / "preparation.json").read_text())
    assert report["quarantined"] == len(broken)
    assert report["label_counts"] == {"label": {"even": 5, "odd": 3}}


def test_a_split_without_a_readable_image_stops_and_is_read_again(
    tmp_path: pathlib.Path,
):
    with pytest.raises(ValueError, match=r"none of the 6 images of split 'test'"):
        _prepare(tmp_path, broken=tuple(range(14, 20)))
    loaded: list[int] = []

    with pytest.raises(ValueError, match=r"x19: broken"):
        _prepare(tmp_path, loaded.append, broken=tuple(range(14, 20)))

    assert sorted(loaded) == list(range(14, 20)), "a decoder may be there by now"


def test_manifests_lie_beside_the_records_with_their_hashes(tmp_path: pathlib.Path):
    folder = _prepare(tmp_path)

    report = json.loads((folder / "preparation.json").read_text())
    rows = _table(folder / "splits" / "official.csv")
    manifest = prepared.Manifest(
        "official", 1, {row["image_id"]: row["split"] for row in rows}
    )
    assert report["default_manifest"] == "official"
    assert report["manifests"] == {
        "official": {
            "version": 1,
            "sha256": manifest.sha256,
            "images": {"train": 14, "validation": 0, "test": 6},
        }
    }


def test_statistics_are_those_of_all_pixels_of_train(tmp_path: pathlib.Path):
    report = json.loads((_prepare(tmp_path) / "preparation.json").read_text())

    grey = np.add.outer([0, 100], np.arange(14)) / 255
    np.testing.assert_allclose(report["pixel_mean"], grey.mean(), rtol=1e-12)
    np.testing.assert_allclose(report["pixel_std"], grey.std(), rtol=1e-12)


def test_few_images_are_in_memory_at_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    """However many a shard has; the writer is slowed down so that all could pile up."""
    monkeypatch.setattr(xray_builder, "RECORDS_PER_SHARD", 100)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    ahead, most, lock = 0, 0, threading.Lock()
    write = shards.write_records

    def before(number: int) -> None:
        nonlocal ahead, most
        with lock:
            ahead += 1
            most = max(most, ahead)

    def slowly(path: Any, examples: Any, file_format: Any) -> None:
        def written() -> Any:
            nonlocal ahead
            for example in examples:
                time.sleep(0.01)
                yield example
                with lock:
                    ahead -= 1

        write(path, written(), file_format)

    monkeypatch.setattr(shards, "write_records", slowly)
    _prepare(tmp_path, before)

    assert most <= 2 * 2 + 1


def test_a_full_disk_is_told_and_the_next_run_goes_on(tmp_path: pathlib.Path):
    """A limit on the size of files stands for the disk: a shard is larger than it."""
    limit = "number == 9 and resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))"
    failed = _elsewhere(tmp_path, limit)

    assert "File too large" in failed.stderr
    assert "finished parts are kept" in failed.stderr.splitlines()[-1]
    assert str(tmp_path) in failed.stderr.splitlines()[-1]
    loaded: list[int] = []
    _prepare(tmp_path, loaded.append)
    assert 0 not in loaded


def test_a_folder_that_cannot_be_made_is_named(tmp_path: pathlib.Path):
    (tmp_path / "toy").write_text("in the way")

    with pytest.raises(OSError, match=r"toy/t: preparing it in .*toy.* stopped"):
        _prepare(tmp_path)


def test_two_processes_cannot_prepare_the_same_set(tmp_path: pathlib.Path):
    other = staging.Staging(
        epath.Path(tmp_path) / "toy" / "t" / "1.0.0",
        key="0" * 64,
        file_format=file_adapters.FileFormat.ARRAY_RECORD,
    )

    with pytest.raises(BlockingIOError, match="another process is preparing this set"):
        _prepare(tmp_path)
    other.release()
    _prepare(tmp_path)


def test_what_is_not_supported_is_refused(tmp_path: pathlib.Path):
    builder = Toy(data_dir=tmp_path, config=ToyConfig(name="t"))
    few = tfds.download.DownloadConfig(max_examples_per_split=2)
    on_beam = tfds.download.DownloadConfig(beam_runner="DirectRunner")

    with pytest.raises(ValueError, match="max_examples_per_split is not supported"):
        builder.download_and_prepare(download_config=few)
    with pytest.raises(ImportError, match="Apache Beam"):
        builder.download_and_prepare(download_config=on_beam)


def test_image_ids_must_be_unique(tmp_path: pathlib.Path):
    class Twice(Toy, skip_registration=True):
        def records(self) -> Mapping[str, Sequence[xray_builder.Record]]:
            return {"train": [_record(1)], "test": [_record(1)]}

    with pytest.raises(ValueError, match="2 images have the image_id 'x1'"):
        Twice(data_dir=tmp_path, config=ToyConfig(name="t")).download_and_prepare()
