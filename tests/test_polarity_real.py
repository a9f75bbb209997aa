"""Which real X-rays look inverted or blank: the bars, and the README's rates."""

import pathlib

import numpy as np
import pytest

from tfds_builders.images import content, polarity, reader, sizes

FOLDERS = (
    "chest_cls",
    "chest_det",
    "lung_seg",
    "bone_cls",
    "bone_det",
    "dental_teeth",
    "tbx11k_sample",
)
LYING = "siim_chest_FAKE_mono1_header_8bit_jpeg"
# Looked at: bones and plates are dark on a bright ground.
INVERTED_INDEED = {
    "frac_0003_0.jpg",
    "frac_0013_1.jpg",
    "norm_0314_0.jpg",
    "norm_0320_1.jpg",
    "norm_0333_20.jpg",
    "norm_0338_23.jpg",
    "norm_0341_3.jpg",
}


def _pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files of a folder of radiographs, masks left aside."""
    there = [p for p in (folder / "images", folder / "imgs") if p.is_dir()]
    return sorted(p for p in there[0].rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def scores(xray: pathlib.Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Score of each picture, and of its inverse, by folder and name."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for folder in FOLDERS:
        found[folder] = {}
        for path in _pictures(xray / folder):
            image = reader.read_image(path, dtype=np.uint8)
            small = sizes.shrink(image, 128, is_mask=False)
            pair = polarity.score(small), polarity.score(polarity.invert(small))
            found[folder][path.name] = pair
    return found


def _rates(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Share of pictures that are flagged, and of their inverses."""
    flags = np.array(pairs) < -polarity.MARGIN
    return float(flags[:, 0].mean()), float(flags[:, 1].mean())


def test_at_most_one_picture_in_twenty_looks_inverted(scores):
    rates = {name: _rates(list(found.values())) for name, found in scores.items()}

    flagged, caught = _rates([p for found in scores.values() for p in found.values()])

    rates["all"] = flagged, caught
    for name, (of_truthful, of_inverted) in rates.items():
        # Shown with -rP; the README's figures.
        print(f"{name}: {of_truthful:.1%} flagged, {of_inverted:.1%} of inverses")  # noqa: T201
    assert sum(map(len, scores.values())) == 3166
    assert flagged <= 0.03
    assert caught >= 0.94
    assert all(of_truthful <= 0.06 for of_truthful, _ in rates.values())
    assert all(of_inverted >= 0.9 for _, of_inverted in rates.values())


def test_pictures_that_are_inverted_indeed_are_found(scores):
    bones = scores["bone_cls"]

    assert all(bones[name][0] < -polarity.MARGIN for name in INVERTED_INDEED)


def test_a_lying_header_is_flagged_and_truthful_ones_are_not(xray: pathlib.Path):
    files = sorted((xray / "dicom" / "files").glob("*.dcm"))

    flagged = {
        path.stem
        for path in files
        if polarity.looks_inverted(reader.read_image(path, dtype=np.uint8))
    }

    assert len(files) == 7
    assert flagged == {LYING}


def test_no_hand_on_black_and_no_faint_chest_is_taken_for_blank(xray: pathlib.Path):
    """Of all real X-rays, those of these two folders come nearest to one grey."""
    paths = [p for f in ("hand_age", "lung_seg") for p in _pictures(xray / f)]

    blank = [
        path.name
        for path in paths
        if content.is_blank(reader.read_image(path, dtype=np.uint8))
    ]

    assert len(paths) == 1706
    assert not blank


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_twins_of_both_photometric_interpretations_are_equal(
    xray: pathlib.Path, dtype: type
):
    dark, bright = (
        reader.read_image(
            xray / "dicom" / "files" / f"RG1_small_{kind}_12bit_DERIVED.dcm",
            dtype=dtype,
        )
        for kind in ("mono1", "mono2")
    )

    assert dark.shape == (512, 482)
    assert dark.std() > 0
    np.testing.assert_array_equal(dark, bright)


def test_turning_the_lying_file_around_gives_the_truthful_one(xray: pathlib.Path):
    folder = xray / "dicom" / "files"

    lying = reader.read_image(folder / f"{LYING}.dcm", dtype=np.uint8)
    truthful = reader.read_image(
        folder / "siim_chest_mono2_8bit_jpeg.dcm", dtype=np.uint8
    )

    np.testing.assert_allclose(
        polarity.invert(lying).astype(int), truthful.astype(int), atol=1
    )


def test_every_dicom_file_is_read_at_its_size(xray: pathlib.Path):
    shapes = {
        path.name: reader.read_image(path, dtype=np.uint16).shape
        for path in sorted((xray / "dicom" / "files").glob("*.dcm"))
    }

    assert shapes == {
        "RG1_chest_mono1_15bit_j2k_lossy.dcm": (1955, 1841),
        "RG1_small_mono1_12bit_DERIVED.dcm": (512, 482),
        "RG1_small_mono2_12bit_DERIVED.dcm": (512, 482),
        "RG3_leg_mono1_10bit_j2k_lossless.dcm": (1760, 1760),
        "RG3_leg_mono1_10bit_uncompressed.dcm": (1760, 1760),
        "siim_chest_FAKE_mono1_header_8bit_jpeg.dcm": (1024, 1024),
        "siim_chest_mono2_8bit_jpeg.dcm": (1024, 1024),
    }
