"""Where releases are found, and what of a folder belongs to them."""

import pathlib

import pytest
from etils import epath

from tfds_builders import files


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

    assert files.find_root(folder, ["table.csv"]) == folder / "release"


def test_many_folders_are_not_searched(folder: epath.Path):
    for number in range(1001):
        (folder / f"patient{number}").mkdir()
    _fill(folder, "patient7/table.csv")

    assert files.find_root(folder, ["table.csv"]) is None


def test_a_marker_may_forbid(folder: epath.Path):
    _fill(folder, "a/Images/one.png", "a/Images/Other.png", "b/Images/one.png")
    markers = ["images/one*", "!images/other*|never"]

    assert files.find_root(folder, markers) == folder / "b"
    assert files.lacking(folder / "a", markers) == [markers[1]]
    assert files.told(markers) == "images/one*, no images/other*|never"


def test_only_what_is_own_is_listed(folder: epath.Path):
    _fill(folder, "Images/deep/1.png", "Table.csv", "other/table.csv", "image/1.png")

    own = files.list_files(folder, ["images", "*.csv"])

    assert list(own.sizes) == ["Images/deep/1.png", "Table.csv"]
    assert len(files.list_files(folder).sizes) == 4
