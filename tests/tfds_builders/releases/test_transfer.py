"""Tests of unpacking archives."""

from __future__ import annotations

import pathlib

import pytest

from tests.tfds_builders import archives
from tfds_builders import transfer


def test_zips_inside_are_unpacked_where_they_lie(tmp_path: pathlib.Path):
    inner = archives.zipped({"part-1/1386.png": b"png"})
    (tmp_path / "x.zip").write_bytes(
        archives.zipped({"Set/part-1.zip": inner, "Set/a.csv": b"a"})
    )

    found = transfer.unpack(tmp_path / "x.zip", tmp_path / "out", inner=True)

    assert sorted(p.name for p in found) == ["1386.png", "a.csv"]
    assert (tmp_path / "out/Set/part-1/1386.png").read_bytes() == b"png"
    assert not (tmp_path / "out/Set/part-1.zip").exists()


def test_what_macos_adds_is_passed_over(tmp_path: pathlib.Path):
    junk = b"\0\5\x16\7" + bytes(40)
    files = {
        "Set/part-1.zip": archives.zipped({"a.png": b"a", "__MACOSX/._a.png": junk}),
        "__MACOSX/Set/._part-1.zip": junk,
        "Set/._b.zip": junk,
    }
    (tmp_path / "x.zip").write_bytes(archives.zipped(files))

    found = transfer.unpack(tmp_path / "x.zip", tmp_path / "out", inner=True)

    there = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert there == found == [tmp_path / "out/Set/a.png"]


@pytest.mark.parametrize("make", [archives.zipped, archives.tarred])
def test_a_path_that_leads_out_is_refused(tmp_path: pathlib.Path, make):
    (tmp_path / "x").write_bytes(make({"../evil.txt": b"x"}))

    with pytest.raises(transfer.FetchError, match="leads out of the folder"):
        transfer.unpack(tmp_path / "x", tmp_path / "out")

    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("make", [archives.zipped, archives.tarred])
def test_a_damaged_archive_is_said(tmp_path: pathlib.Path, make):
    content = bytearray(make({"a.bin": archives.noise()}))
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    (tmp_path / "x").write_bytes(content)

    with pytest.raises(transfer.FetchError, match=r"is damaged: .*Remove it"):
        transfer.unpack(tmp_path / "x", tmp_path / "out")

    assert not (tmp_path / "out" / "a.bin").exists()


@pytest.mark.parametrize("make", [archives.zipped, archives.tarred])
@pytest.mark.parametrize("mine", [b"mine", b"my own"])
def test_a_damaged_archive_leaves_what_was_there(
    tmp_path: pathlib.Path, make, mine: bytes
):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").write_bytes(mine)
    content = make({"a.png": b"a new", "b.png": b"b", "c.bin": archives.noise()})
    # The checksum at the end of the tar, the middle of the last file of the zip.
    place = (
        len(content) - 8 if make is archives.tarred else content.rfind(b"c.bin") - 1000
    )
    content = content[:place] + bytes(4) + content[place + 4 :]
    (tmp_path / "x").write_bytes(content)

    with pytest.raises(transfer.FetchError, match="is damaged"):
        transfer.unpack(tmp_path / "x", folder)

    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a.png": mine}


@pytest.mark.parametrize("make", [archives.zipped, archives.tarred])
def test_a_file_of_another_size_is_replaced(tmp_path: pathlib.Path, make):
    (tmp_path / "a.png").write_bytes(b"half")
    (tmp_path / "x").write_bytes(make({"a.png": b"all of it"}))

    transfer.unpack(tmp_path / "x", tmp_path)

    assert (tmp_path / "a.png").read_bytes() == b"all of it"
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "x"}
