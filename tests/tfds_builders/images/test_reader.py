"""Reading pictures of every mode and depth; damaged files; shrinking; PNG."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from tfds_builders.images import reader, sizes

RAMP = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16)


def _file(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.smoke
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_every_png_mode_gives_one_grey_channel(mode: str):
    picture = Image.fromarray(RAMP)
    if mode == "I;16":
        picture = Image.fromarray(RAMP.astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)

    image = reader.read_image(_file(picture), dtype=np.uint8)

    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RAMP)


def test_one_bit_png_becomes_black_and_white():
    picture = Image.fromarray(RAMP > 100)

    image = reader.read_image(_file(picture), dtype=np.uint8)

    np.testing.assert_array_equal(image, np.where(RAMP > 100, 255, 0))


def test_colours_of_a_palette_are_read_not_its_indices():
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    picture.putpalette([200, 200, 200, 10, 10, 10])

    image = reader.read_image(_file(picture), dtype=np.uint8)
    mask = reader.read_mask(_file(picture))

    np.testing.assert_array_equal(image, [[200, 10]])
    np.testing.assert_array_equal(mask, [[0, 1]])


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
def test_other_lossless_formats_are_read_exactly(kind: str):
    image = reader.read_image(_file(Image.fromarray(RAMP), kind), dtype=np.uint8)

    np.testing.assert_array_equal(image, RAMP)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_read_nearly(mode: str):
    flat = Image.new("L", (16, 12), 90).convert(mode)

    image = reader.read_image(_file(flat, "JPEG"), dtype=np.uint8)

    np.testing.assert_allclose(image, np.full((12, 16), 90), atol=2)


def test_twelve_bits_in_a_sixteen_bit_file_keep_their_detail():
    values = np.array([[0, 2048, 4095]], np.uint16)
    content = _file(Image.fromarray(values))

    eight = reader.read_image(content, dtype=np.uint8)
    sixteen = reader.read_image(content, dtype=np.uint16)

    np.testing.assert_array_equal(eight, [[0, 128, 255]])
    np.testing.assert_array_equal(sixteen, [[0, 32776, 65535]])


def test_eight_bits_fill_the_range_of_sixteen():
    image = reader.read_image(_file(Image.fromarray(RAMP)), dtype=np.uint16)

    np.testing.assert_array_equal(image, RAMP.astype(np.uint16) * 257)


def test_float_tiff_is_stretched():
    picture = Image.fromarray(np.array([[-1.0, 0.0, 1.0]], np.float32))

    image = reader.read_image(_file(picture, "TIFF"), dtype=np.uint8)

    np.testing.assert_array_equal(image, [[0, 128, 255]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"patient notes", "not a PNG, JPEG, TIFF, BMP or DICOM file"),
        (_file(Image.fromarray(RAMP))[:50], "damaged"),
        (_file(Image.fromarray(RAMP), "JPEG")[:-40], "damaged"),
    ],
)
def test_unreadable_content_gives_a_reason(content: bytes, reason: str):
    with pytest.raises(reader.UnreadableImage, match=reason):
        reader.read_image(content, dtype=np.uint8)


def test_damaged_dicom_gives_a_reason(tmp_path: pathlib.Path):
    path = tmp_path / "a.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM" + b"nonsense")

    with pytest.raises(reader.UnreadableImage, match="DICOM"):
        reader.read_image(path, dtype=np.uint8)


def test_missing_file_is_not_called_unreadable(tmp_path: pathlib.Path):
    with pytest.raises(FileNotFoundError):
        reader.read_image(tmp_path / "none.png", dtype=np.uint8)


def test_mask_in_colour_is_refused():
    colours = Image.fromarray(np.array([[[1, 2, 3]]], np.uint8))

    with pytest.raises(reader.UnreadableImage, match="not colours"):
        reader.read_mask(_file(colours))


def test_mask_values_survive_grey_colour_files():
    picture = Image.fromarray(RAMP).convert("RGB")

    np.testing.assert_array_equal(reader.read_mask(_file(picture)), RAMP)


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_round_trip(dtype: type):
    array = RAMP.astype(dtype) * (1 if dtype is np.uint8 else 257)

    again = np.asarray(Image.open(io.BytesIO(reader.encode_png(array))))

    np.testing.assert_array_equal(again, array)


def test_png_of_colour_or_floats_is_refused():
    with pytest.raises(TypeError, match=r"float64 \[2, 2\]"):
        reader.encode_png(np.zeros((2, 2)))


def test_shrink_takes_means_of_areas_for_images_and_one_pixel_for_masks():
    image = np.array([[0, 100, 10, 10], [100, 200, 10, 10]], np.uint8)

    np.testing.assert_array_equal(
        sizes.shrink(image, 2, is_mask=False), np.array([[100, 10]])
    )
    assert set(sizes.shrink(image, 2, is_mask=True).ravel()) <= {0, 100, 200, 10}


def test_shrink_keeps_the_aspect_and_never_enlarges():
    assert sizes.shrink(np.zeros((50, 100), np.uint8), 20, is_mask=False).shape == (
        10,
        20,
    )
    assert sizes.shrink(RAMP, 100, is_mask=False).shape == RAMP.shape
    assert sizes.shrink(RAMP, 0, is_mask=False).shape == RAMP.shape
    assert sizes.shrink(np.zeros((1, 99), np.uint8), 9, is_mask=False).shape == (1, 9)


@pytest.mark.parametrize(
    ("first", "second", "tolerance"),
    [
        (
            "RG1_small_mono1_12bit_DERIVED",
            "RG1_small_mono2_12bit_DERIVED",
            1,
        ),
        (
            "RG3_leg_mono1_10bit_uncompressed",
            "RG3_leg_mono1_10bit_j2k_lossless",
            0,
        ),
    ],
)
def test_dicom_twins_give_the_same_picture(
    xray: pathlib.Path, first: str, second: str, tolerance: int
):
    one, two = (
        reader.read_image(xray / "dicom" / "files" / f"{name}.dcm", dtype=np.uint8)
        for name in (first, second)
    )

    assert np.ptp(one) == 255
    np.testing.assert_allclose(one.astype(int), two.astype(int), atol=tolerance)


def test_every_real_dicom_looks_like_its_preview(xray: pathlib.Path):
    previews = sorted((xray / "dicom" / "images").iterdir())
    assert previews

    for preview in previews:
        file = xray / "dicom" / "files" / f"{preview.stem}.dcm"
        image = reader.read_image(file, dtype=np.uint8)
        shown = reader.read_image(preview, dtype=np.uint8)
        small = sizes.shrink(image, max(shown.shape), is_mask=False)
        similarity = np.corrcoef(small.ravel(), shown.ravel())[0, 1]
        assert similarity > 0.9, preview.name
