"""Small files that ask for much, or garble a terminal; sizes of a JPEG inside DICOM."""

import io
import pathlib
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.tfds_builders import hostile
from tfds_builders.images import jpeg_headers, limits, reader

RAMP = np.arange(1024, dtype=np.uint16).reshape(32, 32)


@pytest.fixture(scope="module")
def refused():
    return hostile.refused()


# Written out, so that each is a test of its own and none is lost.
@pytest.mark.parametrize(
    "name",
    [
        "deflated_bomb.dcm",
        "no_group_length.dcm",
        "no_preamble.dcm",
        "wrong_group_length.dcm",
        "cut_deflated.dcm",
        "many_elements.dcm",
        "many_in_sequence.dcm",
        "zeros.dcm",
        "uid_escapes.dcm",
        "uid_long.dcm",
        "jpeg_2000_late.dcm",
        "jpeg_large_inside.dcm",
        "jpeg_other_inside.dcm",
        "two_frames.dcm",
        "overflow.dcm",
        "large_tile.tif",
        "wide_tile.tif",
        "run_lengths.bmp",
    ],
)
def test_a_file_that_asks_for_much_is_refused_soon(
    name: str, refused, tmp_path: pathlib.Path
):
    content, reason = refused[name]
    path = tmp_path / name
    path.write_bytes(content)
    start = time.process_time()

    with pytest.raises(reader.UnreadableImage) as error:
        reader.read_image(path, dtype=np.uint16)

    assert reason in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= limits.LONGEST_TEXT
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "name",
    [
        "modality_fd.dcm",
        "modality_zz.dcm",
        "modality_injected.dcm",
        "modality_long.dcm",
        "lut_shape_zz.dcm",
        "long_table.dcm",
        "pages.tif",
        "frames.png",
    ],
)
def test_what_the_picture_does_not_need_is_noted(name: str):
    content, piece = hostile.noted()[name]

    image, notes = reader.read_with_notes(content, dtype=np.uint16)

    assert any(piece in note for note in notes), notes
    assert all(
        note.isprintable() and len(note) <= limits.LONGEST_TEXT for note in notes
    )
    if name.endswith("dcm"):
        np.testing.assert_array_equal(image, np.rint(RAMP * (65_535 / 1023)))


def test_every_hostile_file_is_tested_here(refused):
    text = pathlib.Path(__file__).read_text(encoding="utf-8")

    assert not [
        name for name in [*refused, *hostile.noted()] if f'"{name}"' not in text
    ]


def test_one_picture_has_no_note_of_more():
    out = io.BytesIO()
    Image.new("L", (16, 16)).save(out, "TIFF")

    assert reader.read_with_notes(out.getvalue(), dtype=np.uint8)[1] == ()


@pytest.mark.parametrize("length", [0, None, 1 << 31])
def test_a_deflated_data_set_is_read_as_its_plain_twin(length):
    data = hostile.data_set()
    plain = hostile.meta(hostile.PLAIN) + data
    deflated = hostile.meta(hostile.DEFLATED, group_length=length) + hostile.pack(data)

    one, two = (reader.read_image(file, dtype=np.uint16) for file in (plain, deflated))

    assert np.ptp(one) == 65_535
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"comment": b"\xff\xc0"}]
)
def test_the_size_in_a_jpeg_is_found(options):
    out = io.BytesIO()
    Image.new("RGB", (40, 30)).save(out, "JPEG", **options)

    assert list(jpeg_headers.sizes(out.getvalue())) == [(40, 30, 3)]


@pytest.mark.parametrize("is_bare", [False, True])
def test_the_size_in_a_jpeg_2000_is_found(is_bare):
    out = io.BytesIO()
    Image.new("L", (40, 30)).save(out, "JPEG2000")
    stream = out.getvalue()
    if is_bare:
        stream = stream[stream.index(b"\xff\x4f\xff\x51") :]

    assert list(jpeg_headers.sizes(stream)) == [(40, 30, 1)]


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"\xff\xd8" + b"\xff\xd0" * 20_000, "markers"),
        (b"\xff\x4f\xff\x52" + bytes(60), "does not begin with a size"),
        (b"\0\0\0\x0cjP  " + bytes(60), "holds no image"),
    ],
)
def test_a_jpeg_that_hides_its_size_is_refused(stream, reason):
    with pytest.raises(limits.UnreadableImage, match=reason):
        list(jpeg_headers.sizes(stream))


def test_a_long_filling_in_a_jpeg_takes_no_time():
    start = time.process_time()

    assert list(jpeg_headers.sizes(b"\xff\xd8" + b"\xff" * 1_000_000)) == []

    assert time.process_time() - start < 2


def _deep_png(*between: tuple[bytes, bytes]) -> bytes:
    """A colour PNG of 16 bits, with chunks put behind its header."""
    content = cv2.imencode(".png", np.dstack([RAMP * 64] * 3))[1].tobytes()
    parts = b""
    for name, value in between:
        checksum = zlib.crc32(name + value)
        parts += struct.pack(">I", len(value)) + name + value
        parts += struct.pack(">I", checksum)
    return content[:33] + parts + content[33:]


def test_a_bad_profile_in_a_deep_png_says_nothing_on_the_terminal(capfd):
    profile = b"a\0\0" + zlib.compress(b"no profile" * 20)

    image = reader.read_image(_deep_png((b"iCCP", profile)), dtype=np.uint16)

    np.testing.assert_array_equal(image, RAMP * 64)
    assert capfd.readouterr().err == ""


def test_a_wrong_checksum_in_a_deep_png_is_a_reason(capfd):
    content = bytearray(_deep_png())
    content[content.index(b"IEND") - 5] ^= 1  # the last of the pixels' checksum

    with pytest.raises(reader.UnreadableImage, match="damaged"):
        reader.read_image(bytes(content), dtype=np.uint16)

    assert capfd.readouterr().err == ""
