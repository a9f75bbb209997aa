"""The seven real DICOMs: twins agree, the lying header is told, JPEG 2000 is read."""

import pytest

LYING = "siim_chest_FAKE_mono1_header_8bit_jpeg"
TWINS = [
    ("RG1_small_mono1_12bit_DERIVED", "RG1_small_mono2_12bit_DERIVED"),
    ("RG3_leg_mono1_10bit_uncompressed", "RG3_leg_mono1_10bit_j2k_lossless"),
]


@pytest.fixture(scope="module")
def found(xray, load):
    model = load("classification")
    files = sorted((xray / "dicom" / "files").glob("*.dcm"))
    assert len(files) == 7
    return {file.stem: model.predict(file) for file in files}


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_twins_have_the_same_probabilities(one, other, found):
    assert found[one]["probability"] == pytest.approx(
        found[other]["probability"], abs=1e-3
    )


def test_the_lying_header_is_told_and_no_truthful_one(found):
    told = {
        name
        for name, answer in found.items()
        if any("looks inverted" in warning for warning in answer["warnings"])
    }

    assert told == {LYING}


def test_missing_windows_are_told(found):
    told = {
        name
        for name, answer in found.items()
        if any("no window" in warning for warning in answer["warnings"])
    }

    assert told == {name for name in found if "siim" in name or "small" in name}
