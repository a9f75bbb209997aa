"""The sheet of phantoms that the pages show."""

import pathlib

import cv2


def test_the_contact_sheet_is_written(script, tmp_path: pathlib.Path):
    path = tmp_path / "sheet.png"

    script("phantom_sheet").main([str(path), "--size", "64", "--columns", "2"])

    sheet = cv2.imread(str(path))
    assert sheet is not None
    assert sheet.shape[1] == 128
