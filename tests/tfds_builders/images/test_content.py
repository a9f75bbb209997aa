"""Which pictures have no content, and what becomes of sets that hold some."""

import csv
import json
import pathlib

import numpy as np
import pytest

from tfds_builders import doctor, dummy, xray_folder
from tfds_builders.images import content, reader


def _noise(scale: float, dtype: type = np.uint8) -> np.ndarray:
    """Grey of the middle, give or take `scale` of the range."""
    top = np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    return (top * (0.5 + scale * rng.uniform(-1, 1, (60, 50)))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_one_grey_level_or_almost_is_no_content(dtype):
    black = np.zeros((60, 50), dtype)
    word = black.copy()
    word[:3, :9] = np.iinfo(dtype).max  # 27 of 3,000 pixels

    assert content.is_blank(black)
    assert content.is_blank(np.invert(black))
    assert content.is_blank(word)
    assert content.is_blank(_noise(0.005, dtype))
    assert content.is_blank(black[:1, :1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_faint_or_a_small_body_is_content(dtype):
    small = np.zeros((60, 50), dtype)
    small[:6, :10] = np.iinfo(dtype).max // 2  # 60 of 3,000 pixels

    assert not content.is_blank(_noise(0.02, dtype))
    assert not content.is_blank(small)


def _prepare(folder: pathlib.Path, *, blank: int) -> pathlib.Path:
    """Ten pictures, the first of them white."""
    images = folder / "in" / "images"
    images.mkdir(parents=True)
    for number in range(10):
        image = np.full((20, 20), 255, np.uint8) if number < blank else _noise(0.5)
        (images / f"{number}.png").write_bytes(reader.encode_png(image))
    config = xray_folder.Config(name="t", folder=str(folder / "in"))
    builder = xray_folder.Builder(data_dir=folder / "out", config=config)
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)


def test_pictures_without_content_are_counted_listed_and_kept(tmp_path, caplog):
    path = _prepare(tmp_path, blank=5)

    report = json.loads((path / "preparation.json").read_text())
    with (path / "index.csv").open(newline="") as file:
        rows = {row["image_id"]: row["is_blank"] for row in csv.DictReader(file)}
    assert report["blank"] == 5
    assert rows == {f"{n}.png": "1" if n < 5 else "0" for n in range(10)}
    assert "5 of 10 images have no content" in caplog.text


def test_a_set_that_mostly_has_no_content_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"6 of 10 images have no content.*Open some"):
        _prepare(tmp_path, blank=6)


@pytest.mark.parametrize(("blank", "code"), [(3, 0), (27, 1)])
def test_the_doctor_counts_pictures_without_content(tmp_path, capsys, blank, code):
    dummy.write("kermany_pneumonia", tmp_path, images=48)
    white = reader.encode_png(np.full((20, 20), 255, np.uint8))
    for path in sorted(tmp_path.glob("chest_xray/train/*/person*.jpeg"))[:blank]:
        path.write_bytes(white)

    found = doctor.main([str(tmp_path), "kermany_pneumonia", "--images", "all"])

    said = " ".join(capsys.readouterr().out.split())
    assert found == code
    assert f"no content, one grey level or almost: {blank} (" in said
    assert ("images have no content" in said) == bool(code)
