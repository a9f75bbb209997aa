"""Where releases are found, and what of a folder belongs to them."""

import os
import pathlib

import numpy as np
import pytest
from etils import epath

from tfds_builders.images import reader
from tfds_builders.sources import files, folders


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> epath.Path:
    return epath.Path(tmp_path)


def _fill(folder: epath.Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_many_pictures_hide_no_release(folder: epath.Path):
    for number in range(1001):
        (folder / f"{number}.png").touch()
    _fill(folder, "release/table.csv")

    assert folders.find_root(folder, ["table.csv"]) == folder / "release"


def test_many_folders_are_not_searched(folder: epath.Path):
    for number in range(1001):
        (folder / f"patient{number}").mkdir()
    _fill(folder, "patient7/table.csv")

    assert folders.find_root(folder, ["table.csv"]) is None


def test_a_marker_may_forbid(folder: epath.Path):
    _fill(folder, "a/Images/one.png", "a/Images/Other.png", "b/Images/one.png")
    markers = ["images/one*", "!images/other*|never"]

    assert folders.find_root(folder, markers) == folder / "b"
    assert folders.lacking(folder / "a", markers) == [markers[1]]
    assert folders.told(markers) == "images/one*, no images/other*|never"


def test_only_what_is_own_is_listed(folder: epath.Path):
    _fill(folder, "Images/deep/1.png", "Table.csv", "other/table.csv", "image/1.png")

    own = files.list_files(folder, ["images", "*.csv"])

    assert list(own.sizes) == ["Images/deep/1.png", "Table.csv"]
    assert len(files.list_files(folder).sizes) == 4


@pytest.mark.parametrize(
    "written", ["café.png", "cafe\u0301.png", " café ", "CAFÉ.PNG", "images/Café.png"]
)
def test_a_name_is_found_whatever_its_case_blanks_and_accents(
    folder: epath.Path, written: str
):
    _fill(folder, "images/cafe\u0301.png", "images/other.png")

    found = files.list_files(folder / "images").find(written)

    assert found == "cafe\u0301.png"


def test_names_that_differ_in_case_alone_are_told_apart(folder: epath.Path):
    _fill(folder, "a.png", "A.png")
    listing = files.list_files(folder)

    assert (listing.find("a.png"), listing.find("A.png")) == ("a.png", "A.png")
    assert listing.find("A.PNG") is None  # It may be either.


def test_a_name_that_is_not_utf_8_is_named_and_left_out(
    folder: epath.Path, caplog: pytest.LogCaptureFixture
):
    _fill(folder, "one.png", os.fsdecode(b"p\xe9003.png"))

    listing = files.list_files(folder)

    assert list(listing.sizes) == ["one.png"]
    assert listing.misnamed == (r"p\xe9003.png",)
    assert r"p\xe9003.png" in caplog.text


def test_pipes_and_devices_are_listed_but_not_held(folder: epath.Path):
    os.mkfifo(folder / "pipe.png")
    os.symlink("/dev/zero", folder / "zero.png")
    _fill(folder, "one.png")

    listing = files.list_files(folder)

    assert {name: listing.holds(name) for name in listing.sizes} == {
        "one.png": True,
        "pipe.png": False,
        "zero.png": False,
    }
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(reader.UnreadableImage, match="neither a file nor a folder"):
            reader.read_image(folder / name, dtype=np.uint8)
