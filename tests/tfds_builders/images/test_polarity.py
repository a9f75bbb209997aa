"""Which pictures look inverted, and turning them around."""

import csv
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest

from tfds_builders import xray_folder
from tfds_builders.images import polarity, reader
from tfds_builders.phantom_xray import simulator


def _body(height: int = 80, width: int = 64) -> np.ndarray:
    """A bright body before dark air, uint8 [height, width]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.rint(20 + 200 * np.exp(-2 * (x**2 + (y - 0.3) ** 2))).astype(np.uint8)


@pytest.mark.parametrize("body", simulator.BODIES)
def test_few_phantoms_and_most_inverted_phantoms_look_inverted(body: str):
    images = [
        simulator.simulate(body, size=96, seed=0, split_index=0, index=i).image
        for i in range(20)
    ]

    flagged = [polarity.looks_inverted(image) for image in images]
    caught = [polarity.looks_inverted(polarity.invert(image)) for image in images]

    assert sum(flagged) <= 1
    assert sum(caught) >= 17


@pytest.mark.parametrize("factor", [1, 257])
def test_the_score_changes_sign_with_the_picture(factor: int):
    image = _body().astype(np.uint8 if factor == 1 else np.uint16) * factor

    upright, inverted = polarity.score(image), polarity.score(polarity.invert(image))

    assert upright > 5
    np.testing.assert_allclose(inverted, -upright, rtol=1e-3)


def test_eight_and_sixteen_bits_score_alike():
    image = _body()

    wide = polarity.score(image.astype(np.uint16) * 257)

    np.testing.assert_allclose(wide, polarity.score(image), rtol=0.02)


def test_bright_shutters_around_a_picture_do_not_count():
    image = np.pad(_body(), ((0, 0), (30, 30)), constant_values=255)

    assert not polarity.looks_inverted(image)
    assert polarity.looks_inverted(polarity.invert(image))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (3, 2), (9, 9)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_picture_of_any_size_has_a_score(shape: tuple[int, int], dtype: type):
    rng = np.random.default_rng(0)
    high = np.iinfo(dtype).max

    for image in (
        np.zeros(shape, dtype),
        np.full(shape, high, dtype),
        rng.integers(0, high, shape, dtype, endpoint=True),
    ):
        assert np.isfinite(polarity.score(image))


def test_a_picture_of_one_value_is_not_flagged():
    assert polarity.score(np.full((40, 30), 255, np.uint8)) == 0
    assert not polarity.looks_inverted(np.full((40, 30), 255, np.uint8))


def test_inverting_twice_gives_the_picture_back():
    image = _body()

    once = polarity.invert(image)

    assert once.dtype == image.dtype
    np.testing.assert_array_equal(once, 255 - image)
    np.testing.assert_array_equal(polarity.invert(once), image)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [("a/1.png", True), ("a/*", True), ("a/?.png", True), ("A/*", False), ("1", False)],
)
def test_patterns_name_images(pattern: str, named: bool):
    assert polarity.is_named("a/1.png", ("other", pattern)) is named


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Ten pictures, of which the last two are inverted."""
    (tmp_path / "in" / "images").mkdir(parents=True)
    for number in range(10):
        image = _body(60 + number, 50)
        content = reader.encode_png(polarity.invert(image) if number > 7 else image)
        (tmp_path / "in" / "images" / f"{number}.png").write_bytes(content)
    return tmp_path


def _prepare(folder: pathlib.Path, **options: Any) -> Any:
    config = xray_folder.Config(name="t", folder=str(folder / "in"), **options)
    builder = xray_folder.Builder(data_dir=folder / "out", config=config)
    builder.download_and_prepare()
    path = pathlib.Path(builder.data_dir)
    report = json.loads((path / "preparation.json").read_text())
    with (path / "index.csv").open(newline="") as file:
        flagged = {
            row["image_id"]
            for row in csv.DictReader(file)
            if row["looks_inverted"] == "1"
        }
    images = {
        example["image_id"].decode(): example["image"][..., 0]
        for split in builder.info.splits
        for example in builder.as_data_source(split)
    }
    return report, flagged, images


def test_pictures_that_look_inverted_are_listed_and_kept(folder, caplog):
    report, flagged, images = _prepare(folder)

    assert report["polarity_warnings"] == 2
    assert flagged == {"8.png", "9.png"}
    assert "2 of 10 images look inverted" in caplog.text
    np.testing.assert_array_equal(images["9.png"], polarity.invert(_body(69, 50)))


def test_more_than_a_tenth_are_of_another_view_or_all_inverted(folder, caplog):
    _prepare(folder)

    assert "bone dark, air bright" in caplog.text
    assert "mostly wrong of skulls and spines" in caplog.text
    caplog.clear()
    for number in range(10, 40):
        image = reader.encode_png(_body(60 + number, 50))
        (folder / "in" / "images" / f"{number}.png").write_bytes(image)
    shutil.rmtree(folder / "out")
    _prepare(folder)
    assert "2 of 40 images look inverted" in caplog.text
    assert "name those that are in the option" in caplog.text
    assert "skulls" not in caplog.text


def test_views_that_the_check_is_not_made_for_are_not_flagged(folder, caplog):
    rows = [f"{n}.png,{'L-Spine' if n == 8 else 'chest'}\n" for n in range(10)]
    (folder / "in" / "labels.csv").write_text("file,part\n" + "".join(rows))

    report, flagged, _ = _prepare(folder, about={"body_part": "part"})

    assert report["polarity_warnings"] == 1
    assert flagged == {"9.png"}
    assert "1 of 10 images look inverted" in caplog.text


def test_named_pictures_are_turned_around_and_not_flagged(folder, caplog):
    report, flagged, images = _prepare(folder, invert=["8.png", "9*"])

    np.testing.assert_array_equal(images["0.png"], _body(60, 50))
    np.testing.assert_array_equal(images["9.png"], _body(69, 50))
    assert report["polarity_warnings"] == 0
    assert not flagged
    assert "look inverted" not in caplog.text


def test_an_option_that_names_no_picture_is_refused(folder):
    with pytest.raises(ValueError, match=r"no image is called '10\.png'.*Did you mean"):
        _prepare(folder, invert=["10.png"])
    with pytest.raises(ValueError, match="option invert must be a list"):
        _prepare(folder, invert="1.png")
