"""More than 8 bits a value: colour in PNG and TIFF, and TIFF whose white is zero."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.tfds_builders import damage
from tfds_builders.images import limits, reader

FORMATS = ("png", "png with alpha", "tiff", "tiff with alpha", "packed tiff")
# Two of these values differ in the low byte alone.
DEEP = np.array([[0, 1, 255], [256, 30_000, 65_535]], np.uint16)


def _tiff(values: np.ndarray, *, photometric: int, planes: int = 1) -> bytes:
    """An unpacked little-endian TIFF of [H, W] or [H, W, channels]."""
    values = values.reshape(*values.shape[:2], -1)
    height, width, channels = values.shape
    kind = 3 if values.dtype.kind == "f" else 1
    parts = [values] if planes == 1 else list(np.moveaxis(values, -1, 0))
    tags: list[tuple[int, str, list[int]]] = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [8 * values.itemsize] * channels),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", [0] * len(parts)),
        (277, "H", [channels]),
        (278, "I", [height]),
        (279, "I", [part.nbytes for part in parts]),
        (284, "H", [planes]),
        (339, "H", [kind] * channels),
    ]
    end = 8 + 2 + 12 * len(tags) + 4
    sizes = [len(numbers) * struct.calcsize(form) for _, form, numbers in tags]
    start = end + sum(size for size in sizes if size > 4)
    tags[5] = (273, "I", [start + i * parts[0].nbytes for i in range(len(parts))])
    entries, behind = b"", b""
    for tag, form, numbers in tags:
        packed = struct.pack(f"<{len(numbers)}{form}", *numbers)
        entries += struct.pack("<HHI", tag, {"H": 3, "I": 4}[form], len(numbers))
        if len(packed) > 4:
            entries += struct.pack("<I", end + len(behind))
            behind += packed
        else:
            entries += packed.ljust(4, b"\0")
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    data = b"".join(part.tobytes() for part in parts)
    return head + entries + bytes(4) + behind + data


def _encoded(colours: np.ndarray, form: str) -> bytes:
    """A file of red, green, blue in uint16 [H, W, 3], with noise for alpha."""
    if form.endswith("alpha"):
        alpha = np.random.default_rng(0).integers(0, 65_536, colours.shape[:2])
        colours = np.dstack([colours, alpha.astype(np.uint16)])
    if form.startswith("tiff"):
        return _tiff(colours, photometric=2)
    order = [2, 1, 0, 3][: colours.shape[2]]
    suffix = ".png" if form.startswith("png") else ".tiff"
    return cv2.imencode(suffix, colours[..., order])[1].tobytes()


def _noise(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 65_536, (height, width, 3), dtype=np.uint16)


@pytest.mark.parametrize("form", FORMATS)
def test_sixteen_bits_of_each_colour_keep_their_detail(form: str):
    content = _encoded(np.dstack([DEEP] * 3), form)

    sixteen = reader.read_image(content, dtype=np.uint16)
    eight = reader.read_image(content, dtype=np.uint8)

    np.testing.assert_array_equal(sixteen, DEEP)
    np.testing.assert_array_equal(eight, np.rint(DEEP / 257))


@pytest.mark.parametrize("form", FORMATS)
def test_colours_weigh_the_same_at_eight_and_sixteen_bits(form: str):
    shallow = (_noise(20, 30) >> 8).astype(np.uint8)
    shallow[0, 0] = 255  # or the depth would be taken for a smaller one
    expected = np.asarray(Image.fromarray(shallow).convert("L"))

    image = reader.read_image(
        _encoded(shallow.astype(np.uint16) * 257, form), dtype=np.uint8
    )

    difference = np.abs(image.astype(int) - expected)
    assert difference.max() <= 1  # Half a grey may be rounded either way.
    assert (difference > 0).mean() < 0.01


def test_twelve_bits_of_each_colour_keep_their_detail():
    values = np.array([[0, 2048, 4095]], np.uint16)
    content = _encoded(np.dstack([values] * 3), "png")

    image = reader.read_image(content, dtype=np.uint16)

    np.testing.assert_array_equal(image, [[0, 32776, 65535]])


@pytest.mark.parametrize("form", ["png", "tiff", "tiff with alpha"])
def test_codes_of_a_deep_mask_in_colour_are_kept(form: str):
    content = _encoded(np.dstack([DEEP] * 3), form)

    np.testing.assert_array_equal(reader.read_mask(content), DEEP)
    with pytest.raises(reader.UnreadableImage, match="not colours"):
        reader.read_mask(_encoded(_noise(2, 3), form))


def test_deep_colours_in_a_plane_each_are_refused():
    content = _tiff(_noise(4, 5), photometric=2, planes=2)

    with pytest.raises(reader.UnreadableImage, match="PlanarConfiguration 1"):
        reader.read_image(content, dtype=np.uint8)


@pytest.mark.parametrize("form", ["png", "tiff", "packed tiff"])
def test_a_damaged_file_of_deep_colours_is_read_or_called_unreadable(form: str):
    content = _encoded(_noise(12, 16), form)
    refused = 0

    for kind, damaging in (damage.ANY | damage.PICTURE).items():
        if kind.startswith("large"):
            continue  # The same for every file, and slow; see test_reader_limits.
        for seed in range(20):
            damaged = damaging(content, np.random.default_rng(seed))
            try:
                image = reader.read_image(damaged, dtype=np.uint8)
            except reader.UnreadableImage:
                refused += 1
            else:
                assert image.dtype == np.uint8

    assert refused > 100


@pytest.mark.parametrize("bad", [None, np.zeros((12, 16, 3), np.uint8)])
def test_what_the_second_decoder_refuses_is_unreadable(bad, monkeypatch):
    content = _encoded(_noise(12, 16), "png")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: bad)

    with pytest.raises(reader.UnreadableImage, match="damaged: 16 bits"):
        reader.read_image(content, dtype=np.uint8)


def test_deep_colours_of_too_large_a_size_are_not_decoded(monkeypatch):
    content = _encoded(_noise(12, 16), "png")
    monkeypatch.setattr(limits, "MOST_PIXELS", 12 * 16 * 3 - 1)
    monkeypatch.setattr(cv2, "imdecode", None)

    with pytest.raises(reader.UnreadableImage, match="times 3 channels"):
        reader.read_image(content, dtype=np.uint8)


@pytest.mark.parametrize("white", [255, 1023, 4095, 65_535])
def test_white_is_zero_is_inverted_within_the_depth_of_the_file(white: int):
    dark_is_zero = np.array([[0, white // 3, white - 1, white]], np.uint16)
    plain = _tiff(dark_is_zero, photometric=1)
    inverted = _tiff(white - dark_is_zero, photometric=0)

    for dtype in (np.uint8, np.uint16):
        np.testing.assert_array_equal(
            reader.read_image(inverted, dtype=dtype),
            reader.read_image(plain, dtype=dtype),
        )


def test_a_dark_picture_whose_white_is_zero_keeps_its_depth():
    content = _tiff(np.array([[3500, 4000]], np.uint16), photometric=0)

    image = reader.read_image(content, dtype=np.uint16)

    np.testing.assert_array_equal(
        image, np.rint([[595 * 65535 / 4095, 95 * 65535 / 4095]])
    )


def test_white_is_zero_in_eight_bits_and_in_fractions():
    levels = np.array([[0, 51, 255]], np.uint8)
    fractions = np.array([[0.0, 0.2, 1.0]], np.float32)

    for values in (levels, fractions):
        content = _tiff(values, photometric=0)
        image = reader.read_image(content, dtype=np.uint8)
        np.testing.assert_array_equal(image, [[255, 204, 0]])


def test_an_orientation_is_ignored_in_jpeg_and_applied_in_tiff():
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    picture = Image.fromarray(np.zeros((12, 16), np.uint8))
    shapes = {}
    for form in ("JPEG", "TIFF"):
        file = io.BytesIO()
        picture.save(file, form, exif=exif)
        shapes[form] = reader.read_image(file.getvalue(), dtype=np.uint8).shape

    assert shapes == {"JPEG": (12, 16), "TIFF": (16, 12)}
