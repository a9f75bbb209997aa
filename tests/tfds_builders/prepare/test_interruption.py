"""What stops a preparation half-way, and that the next one makes all of the set."""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath

from tfds_builders import (
    panoramic_mandible,
    phantom_xray,
    prepared,
    shenzhen_cxr,
    xray_folder,
)
from tfds_builders.panoramic_mandible import dummy_data as panoramic_data
from tfds_builders.prepare import reports, shards, xray_builder
from tfds_builders.releases import dummy_images
from tfds_builders.shenzhen_cxr import dummy_data as shenzhen_data
from tfds_builders.sources import files

IMAGES = 12
SHARD = 2
Make = Callable[[], xray_builder.XrayBuilder]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xray_builder, "RECORDS_PER_SHARD", SHARD)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder for `xray_folder` with pictures, masks and all three splits."""
    folder, rng = tmp_path / "source", np.random.default_rng(0)
    rows = ["file,split"]
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(IMAGES):
        picture = dummy_images.draw(rng, 32, 40)
        (folder / "images" / f"{i:02d}.png").write_bytes(dummy_images.png(picture))
        mask = (picture > 100).astype(np.uint8)
        (folder / "masks" / f"{i:02d}.png").write_bytes(dummy_images.png(mask))
        rows.append(f"{i:02d}.png,{('train', 'train', 'val', 'test')[i % 4]}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def _folder(source: pathlib.Path, **options: str) -> xray_builder.XrayBuilder:
    config = xray_folder.Config(
        name="t",
        folder=str(source),
        masks="labels",
        mask_classes={"bone": [1]},
        **options,
    )
    return xray_folder.Builder(data_dir=source.parent / "data", config=config)


def _report(builder: xray_builder.XrayBuilder) -> dict[str, object]:
    path = pathlib.Path(builder.data_dir) / prepared.PREPARATION
    return json.loads(path.read_text())


def _lose(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    *,
    lose: Callable[[], object],
    give_back: Callable[[], object],
) -> xray_builder.XrayBuilder:
    """Takes files away half-way; then prepares with them back, and returns that."""
    builder = make()
    load, loaded = type(builder).load, []

    def count(self: xray_builder.XrayBuilder, record: xray_builder.Record):
        loaded.append(record.image_id)
        if len(loaded) == 6:
            lose()
        return load(self, record)

    monkeypatch.setattr(type(builder), "load", count)
    with pytest.raises(files.SourceLost, match="finished parts are kept"):
        builder.download_and_prepare()
    assert list(pathlib.Path(builder.data_dir).parent.glob("*.partial/*/*.json"))
    give_back()
    first, loaded[:] = loaded[0], [""] * 6

    again = make()
    again.download_and_prepare()

    assert first not in loaded, "a good shard was thrown away"
    return again


@pytest.mark.parametrize("part", ["", "images", "masks"])
def test_a_folder_that_vanishes_half_way_stops_the_preparation(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, part: str
):
    there, gone = source / part, source.parent / "gone"

    made = _lose(
        lambda: _folder(source),
        monkeypatch,
        lose=lambda: there.rename(gone),
        give_back=lambda: gone.rename(there),
    )

    assert _report(made)["splits"] == {"train": 6, "validation": 3, "test": 3}
    assert _report(made)["quarantined"] == 0


@pytest.mark.parametrize(
    ("package", "data", "part"),
    [
        (shenzhen_cxr, shenzhen_data, ""),
        (shenzhen_cxr, shenzhen_data, "mask"),
        (panoramic_mandible, panoramic_data, "DentalPanoramicXrays/Segmentation1"),
    ],
)
def test_a_release_that_vanishes_half_way_stops_the_preparation(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, package, data, part
):
    there, gone = tmp_path / "there", tmp_path / "gone"
    data.write(epath.Path(there), images=24)

    def make() -> xray_builder.XrayBuilder:
        config = package.Config(name="t", folder=str(there))
        return package.Builder(data_dir=tmp_path / "data", config=config)

    # The stand-ins hold files that cannot be read; those of the whole are the measure.
    whole = package.Builder(
        data_dir=tmp_path / "whole", config=package.Config(name="t", folder=str(there))
    )
    whole.download_and_prepare()

    made = _lose(
        make,
        monkeypatch,
        lose=lambda: (there / part).rename(gone),
        give_back=lambda: gone.rename(there / part),
    )
    for name in (prepared.PREPARATION, reports.QUARANTINE, prepared.INDEX):
        content = (pathlib.Path(made.data_dir) / name).read_text()
        assert content == (pathlib.Path(whole.data_dir) / name).read_text()


def test_a_file_that_may_not_be_read_any_more_stops_the_preparation(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    kind = type(epath.Path("a"))
    reading = kind.read_bytes

    def refuse(self: pathlib.Path) -> bytes:
        if self.suffix == ".png":
            raise PermissionError(13, "Permission denied", str(self))
        return reading(self)

    made = _lose(
        lambda: _folder(source),
        monkeypatch,
        lose=lambda: monkeypatch.setattr(kind, "read_bytes", refuse),
        give_back=lambda: monkeypatch.setattr(kind, "read_bytes", reading),
    )

    assert _report(made)["quarantined"] == 0


def test_a_link_that_led_nowhere_from_the_start_is_set_aside(source: pathlib.Path):
    for path in (source / "images" / "00.png", source / "masks" / "01.png"):
        path.unlink()
        path.symlink_to("nowhere.png")
    builder = _folder(source)

    builder.download_and_prepare()

    lines = (pathlib.Path(builder.data_dir) / reports.QUARANTINE).read_text()
    assert lines.splitlines()[1:] == [
        "00.png,a link that leads nowhere",
        "01.png,mask 01.png: a link that leads nowhere",
    ]


def test_all_emptied_splits_are_read_again(source: pathlib.Path):
    kind = type(epath.Path("a"))
    reading = kind.read_bytes

    def broken(self: pathlib.Path) -> bytes:
        """Of the splits validation and test, nothing can be read."""
        is_train = self.suffix != ".png" or int(self.stem) % 4 < 2
        return reading(self) if is_train else b"broken"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "read_bytes", broken)
        with pytest.raises(ValueError, match="of split 'validation' can be read"):
            _folder(source).download_and_prepare()
    builder = _folder(source)

    builder.download_and_prepare()

    assert _report(builder)["splits"] == {"train": 6, "validation": 3, "test": 3}


@pytest.mark.parametrize("links", [True, False])
def test_a_failure_after_all_shards_keeps_them(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, links: bool
):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if not links:
        monkeypatch.setattr(os, "link", full)
    builder = _folder(source)
    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.DatasetInfo, "write_to_directory", full)
        with pytest.raises(OSError, match="finished parts are kept"):
            builder.download_and_prepare()
    loaded = []
    again = _folder(source)
    monkeypatch.setattr(type(again), "load", lambda _, record: loaded.append(record))

    again.download_and_prepare()

    assert not loaded
    parent = pathlib.Path(again.data_dir).parent
    assert [path.name for path in parent.iterdir()] == ["2.0.0"]
    read = tfds.builder_from_directory(str(again.data_dir))
    source_of = read.as_data_source("train")
    assert len(source_of) == 6
    assert source_of[5]["image"].shape == (32, 40, 1)


@pytest.mark.parametrize("left", [0, 1, 20, "[]", "{}"])
def test_a_report_that_was_cut_is_written_again(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch, left: int | str
):
    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.DatasetInfo, "write_to_directory", _stop)
        with pytest.raises(KeyboardInterrupt):
            _folder(source).download_and_prepare()
    report, *_ = sorted((source.parent / "data").glob("*/*/*.partial/*/*.json"))
    report.write_text(report.read_text()[:left] if isinstance(left, int) else left)
    builder = _folder(source)

    builder.download_and_prepare()

    assert _report(builder)["splits"] == {"train": 6, "validation": 3, "test": 3}


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_files_are_on_the_disk_before_they_get_their_names(
    source: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    synced: list[int] = []
    monkeypatch.setattr(
        shards.os, "fsync", lambda n: synced.append(os.fstat(n).st_size)
    )

    _folder(source).download_and_prepare()

    # Records and report of each shard; then, with the set, all that lies in it.
    assert len(synced) >= 2 * 7 + 7 + len(["index", "preparation", "info", "folder"])
    assert all(synced)


def test_the_reports_hold_digests_of_the_index_and_of_the_records(
    source: pathlib.Path,
):
    builder = _folder(source)
    builder.download_and_prepare()
    said = _report(builder)
    index = (pathlib.Path(builder.data_dir) / prepared.INDEX).read_bytes()
    assert said["index_sha256"] == hashlib.sha256(index).hexdigest()
    assert said["has_patient_namespace"] is False

    assert _folder(source, patients="nih").has_patient_namespace
    assert shenzhen_cxr.Builder(data_dir=source.parent).has_patient_namespace
    assert not phantom_xray.Builder(data_dir=source.parent).has_patient_namespace

    first, second = source / "masks" / "00.png", source / "masks" / "01.png"
    first.write_bytes(second.read_bytes())
    config = builder.builder_config
    changed = xray_folder.Builder(data_dir=source.parent / "changed", config=config)
    changed.download_and_prepare()
    anew = _report(changed)
    assert anew["index_sha256"] == said["index_sha256"]
    assert anew["records_sha256"] != said["records_sha256"]


def test_a_prepared_set_is_not_taken_for_one_of_another_source(source: pathlib.Path):
    _folder(source).download_and_prepare()
    _folder(source).download_and_prepare()  # The same again is no difference.
    os.remove(next((source / "images").iterdir()))

    with pytest.raises(ValueError, match=r"prepared otherwise in .*: its source has"):
        _folder(source).download_and_prepare()


def test_a_prepared_set_is_not_taken_for_one_of_other_options(source: pathlib.Path):
    _folder(source).download_and_prepare()

    with pytest.raises(ValueError, match='patients was "", now "nih"'):
        _folder(source, patients="nih").download_and_prepare()


def test_a_prepared_set_outlives_its_source(source: pathlib.Path):
    _folder(source).download_and_prepare()
    shutil.rmtree(source)

    _folder(source).download_and_prepare()
