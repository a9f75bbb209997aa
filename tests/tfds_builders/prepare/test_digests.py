"""What the digest of a source notices, and what it does not depend on."""

import contextlib
import os
import pathlib
import types
from collections.abc import Iterator

import pytest
from etils import epath

from tfds_builders import mura, xray_folder
from tfds_builders.mura import dummy_data
from tfds_builders.prepare import digests
from tfds_builders.sources import files

SIZES = (0, 1, 8191, 8192, 8193, 50_000)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "made"
    (made / "below").mkdir(parents=True)
    for size in SIZES:
        (made / "below" / f"{size}.dcm").write_bytes(bytes(size))
    for i in range(600):
        (made / f"{i}.png").write_bytes(b"%d" % i)
    return made


def _digest(folder: pathlib.Path) -> str:
    return digests.of_files(files.list_files(epath.Path(folder)))


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("end", [0, -1])
def test_a_change_at_either_end_is_noticed(folder: pathlib.Path, size: int, end: int):
    before, path = _digest(folder), folder / "below" / f"{size}.dcm"
    content = bytearray(path.read_bytes())
    content[end] = 1
    path.write_bytes(content)

    assert _digest(folder) != before


def test_contents_of_small_files_are_noticed(folder: pathlib.Path):
    before, one, other = _digest(folder), folder / "10.png", folder / "599.png"
    one.write_bytes(b"11")
    other.write_bytes(b"998")

    assert _digest(folder) != before


def test_place_and_time_play_no_part(folder: pathlib.Path):
    before, moved = _digest(folder), folder.parent / "elsewhere"
    folder.rename(moved)
    os.utime(moved / "0.png", (1, 1))

    assert _digest(moved) == before


def test_the_middle_of_a_large_file_is_not_read(folder: pathlib.Path):
    before, path = _digest(folder), folder / "below" / "50000.dcm"
    content = bytearray(path.read_bytes())
    content[25_000] = 1
    path.write_bytes(content)

    assert _digest(folder) == before
    listing = files.list_files(epath.Path(folder))
    whole = digests.of_files(listing, is_whole=lambda name, size: True)
    content[25_000] = 2
    path.write_bytes(content)
    assert digests.of_files(listing, is_whole=lambda name, size: True) != whole


def test_a_listed_file_that_has_vanished_is_an_error_but_no_dangling_link(
    folder: pathlib.Path,
):
    (folder / "link.png").symlink_to("nowhere")
    (folder / "loop.png").symlink_to("loop.png")
    listing = files.list_files(epath.Path(folder))
    assert listing.sizes["link.png"] == listing.sizes["loop.png"] == -1
    digests.of_files(listing)
    (folder / "7.png").unlink()

    with pytest.raises(files.SourceLost, match=r"7\.png.*was listed but cannot be"):
        digests.of_files(listing)


def test_a_size_that_cannot_be_told_is_an_error_not_a_dangling_link(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    kind = type(epath.Path("a"))
    known, scan = kind.stat, os.scandir

    def refuse(self: epath.Path, **options: bool) -> object:
        if self.name == "7.png":
            raise OSError(116, "Stale file handle", str(self))
        return known(self, **options)

    def stale(found: os.DirEntry[str]) -> types.SimpleNamespace:
        is_lost = found.name == "7.png"
        return types.SimpleNamespace(
            name=found.name,
            path=found.path,
            is_dir=found.is_dir,
            stat=lambda: refuse(epath.Path(found.path)) if is_lost else found.stat(),
        )

    @contextlib.contextmanager
    def scan_stale(place: epath.Path) -> Iterator[list[types.SimpleNamespace]]:
        with scan(place) as found:
            yield [stale(one) for one in found]

    monkeypatch.setattr(kind, "stat", refuse)
    monkeypatch.setattr(os, "scandir", scan_stale)

    with pytest.raises(files.SourceLost, match=r"7\.png.*Stale file handle"):
        files.list_files(epath.Path(folder))


def test_builders_notice_another_picture_of_equal_size(tmp_path: pathlib.Path):
    dummy_data.write(epath.Path(tmp_path / "mura"))
    release = mura.Config(name="t", folder=str(tmp_path / "mura"))
    (tmp_path / "own" / "images").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "own" / "images" / f"{i}.bmp").write_bytes(bytes(5000))
    own = xray_folder.Config(name="t", folder=str(tmp_path / "own"))

    for builder, config in ((mura.Builder, release), (xray_folder.Builder, own)):
        folder = pathlib.Path(config.folder)
        path, *_ = sorted([*folder.rglob("*image1.png"), *folder.rglob("1.bmp")])
        before = builder(data_dir=tmp_path, config=config).fingerprint()
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert builder(data_dir=tmp_path, config=config).fingerprint() != before
