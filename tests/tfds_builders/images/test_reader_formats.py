"""TIFF and PNG of every sample format that is read, against a formula in NumPy."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tfds_builders.images import reader

DEPTHS = (8, 10, 12, 14, 16)
# Byte order, white is zero, type of a sample: what Pillow reads.
KINDS = [
    (order, is_inverted, kind)
    for order in "<>"
    for is_inverted in (False, True)
    for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "f4")
    if (not is_inverted or kind in ("u1", "u2", "f4"))
    and (order, is_inverted, kind) not in ((">", True, "u2"), (">", False, "u4"))
]


def tiff(values: np.ndarray, order: str, *, is_inverted: bool) -> bytes:
    """An unpacked TIFF of one strip."""
    values = values.astype(values.dtype.newbyteorder(order))
    height, width = values.shape
    sample = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {256: width, 257: height, 258: 8 * values.itemsize, 259: 1}
    tags |= {262: int(not is_inverted), 273: 0, 277: 1, 278: height}
    tags |= {279: values.nbytes, 339: sample}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value)
        if tag in (256, 257, 273, 278, 279)
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags.items()
    )
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}2sHIH", mark, 42, 8, len(tags))
    return head + entries + bytes(4) + values.tobytes()


def draw(kind: str, seed: int) -> np.ndarray:
    """Values of a random part of the type's range."""
    rng, dtype = np.random.default_rng(seed), np.dtype(kind)
    if dtype.kind == "f":
        return (rng.normal(size=(9, 11)) * 10 ** rng.uniform(-3, 5)).astype(dtype)
    limit = np.iinfo(dtype)
    ends = np.sort(rng.uniform(float(limit.min), float(limit.max), 2))
    if rng.random() < 0.3:  # A detector of fewer bits.
        ends = np.array([0, (1 << int(rng.integers(5, limit.bits))) - 1])
    return rng.uniform(*ends, size=(9, 11)).astype(dtype)


def right(values: np.ndarray, *, is_inverted: bool) -> np.ndarray:
    """Grey of 8 bits: from the depth that holds the values, else from their range."""
    whole = values.astype(np.float64)
    if values.dtype == np.uint8:
        return 255 - whole if is_inverted else whole
    if values.dtype.kind == "f" or whole.min() < 0 or whole.max() > 65_535:
        whole = -whole if is_inverted else whole
        return (whole - whole.min()) / (whole.max() - whole.min()) * 255
    most = next(2.0**bits - 1 for bits in DEPTHS if whole.max() < 2**bits)
    return (most - whole if is_inverted else whole) / most * 255


@pytest.mark.parametrize(("order", "is_inverted", "kind"), KINDS)
def test_the_sample_format_decides(order: str, is_inverted: bool, kind: str):
    for seed in range(30):
        values = draw(kind, seed)
        content = tiff(values, order, is_inverted=is_inverted)

        found = reader.read_image(content, dtype=np.uint8)

        expected = right(values, is_inverted=is_inverted)
        np.testing.assert_allclose(found, expected, atol=1, err_msg=str(seed))


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_codes_of_a_mask_are_those_of_its_format(kind: str):
    values = draw(kind, 3)

    found = reader.read_mask(tiff(values, "<", is_inverted=False))

    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "f4"])
def test_packed_twins_are_equal(compression: str, kind: str):
    values = draw(kind, 5)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "TIFF", compression=compression)

    found = reader.read_image(file.getvalue(), dtype=np.uint16)

    plain = reader.read_image(tiff(values, "<", is_inverted=False), dtype=np.uint16)
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_of_every_mode(mode: str):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        grey = rng.integers(0, 256, (9, 11)).astype(np.uint8)
        if mode == "I;16":
            deep = rng.integers(0, 1 << int(rng.choice(DEPTHS)), (9, 11))
            picture, expected = Image.fromarray(deep.astype(np.uint16)), None
            expected = right(deep.astype(np.uint16), is_inverted=False)
        elif mode in ("RGB", "RGBA"):
            colours = rng.integers(0, 256, (9, 11, len(mode))).astype(np.uint8)
            picture = Image.fromarray(colours)
            expected = colours[..., :3] @ np.array([0.299, 0.587, 0.114])
        else:
            picture = Image.fromarray(grey).convert(mode)
            expected = np.asarray(picture.convert("L")).astype(float)
        file = io.BytesIO()
        picture.save(file, "PNG")

        found = reader.read_image(file.getvalue(), dtype=np.uint8)

        np.testing.assert_allclose(found, expected, atol=1)
