"""Small invented images for the dummy data of releases; they show nobody."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable

import cv2
import numpy as np
from etils import epath
from PIL import Image

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".bmp": "BMP",
}


def write(path: epath.Path, content: bytes | str) -> None:
    """Writes a file, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def draw(
    rng: np.random.Generator,
    height: int,
    width: int,
    spots: Iterable[tuple[float, float]] = (),
    *,
    radius: float = 0.1,
) -> np.ndarray:
    """Draws clouds that differ from image to image, with bright spots.

    Args:
      rng: Source of the clouds.
      height: Pixels.
      width: Pixels.
      spots: Centres y, x as fractions; what is to be learnt.
      radius: Radius of a spot, a fraction of the longest side.

    Returns:
      uint8 [height, width], nowhere 0.
    """
    coarse = rng.uniform(30, 130, (5, 5)).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    field = field + rng.normal(0, 6, (height, width))
    rows, columns = np.mgrid[:height, :width]
    for y, x in spots:
        away = np.hypot(rows - y * height, columns - x * width)
        field[away <= radius * max(height, width)] += 90
    return field.clip(1, 255).astype(np.uint8)


def box(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """A box inside of an image, a quarter to a half as large: x0, y0, x1, y1."""
    w, h = (int(rng.integers(side // 4, side // 2)) for side in (width, height))
    x, y = int(rng.integers(1, width - w)), int(rng.integers(1, height - h))
    return (x, y, x + w, y + h)


def fill(picture: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The image, uint8 [H, W], with a bright ellipse in a box: x0, y0, x1, y1."""
    height, width = picture.shape
    x0, y0, x1, y1 = box
    centre = ((y0 + y1) / 2 / height, (x0 + x1) / 2 / width)
    axes = (max(1, y1 - y0) / 2 / height, max(1, x1 - x0) / 2 / width)
    inside = ellipse(height, width, centre, axes)
    return np.where(inside, np.minimum(picture, 145) + 110, picture).astype(np.uint8)


def png(pixels: np.ndarray, mode: str = "") -> bytes:
    """Encodes uint8 or uint16 [H, W] as a PNG of a Pillow mode: L, RGB, RGBA, 1."""
    return encode(pixels, ".png", mode)


def encode(pixels: np.ndarray, suffix: str, mode: str = "") -> bytes:
    """Encodes uint8 or uint16 [H, W] as the format of a suffix, as ".jpeg"."""
    picture = Image.fromarray(pixels)
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, _FORMATS[suffix])
    return file.getvalue()


def dicom(pixels: np.ndarray, *, is_inverted: bool = False) -> bytes:
    """Encodes uint8 [H, W] as DICOM of 12 bits.

    Args:
      pixels: Bright where rays were stopped.
      is_inverted: Stores MONOCHROME1, in which 0 is white, in place of MONOCHROME2.
    """
    stored = pixels.astype("<u2") * 16
    if is_inverted:
        stored = 4095 - stored
    kind = b"MONOCHROME1 " if is_inverted else b"MONOCHROME2 "
    height, width = pixels.shape
    numbers = {0x10: height, 0x11: width, 0x100: 16, 0x101: 12, 0x102: 11, 0x103: 0}
    header = [
        _element(0x28, 0x02, b"US", struct.pack("<H", 1)),
        _element(0x28, 0x04, b"CS", kind),
        *(_element(0x28, k, b"US", struct.pack("<H", n)) for k, n in numbers.items()),
    ]
    meta = _element(0x02, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
    start = _element(0x02, 0x00, b"UL", struct.pack("<I", len(meta)))
    content = stored.tobytes()
    data = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, len(content)) + content
    return bytes(128) + b"DICM" + start + meta + b"".join(header) + data


def apple_double() -> bytes:
    """The beginning of a file `._<name>`, which macOS leaves beside another."""
    return b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(54)


def ellipse(
    height: int, width: int, centre: tuple[float, float], axes: tuple[float, float]
) -> np.ndarray:
    """A filled ellipse: bool [height, width]; centre, half axes y, x as fractions."""
    rows, columns = np.mgrid[:height, :width]
    y = (rows - centre[0] * height) / (axes[0] * height)
    x = (columns - centre[1] * width) / (axes[1] * width)
    return y**2 + x**2 <= 1


def _element(group: int, key: int, kind: bytes, value: bytes) -> bytes:
    """An element of DICOM, explicit little endian; its value of even length."""
    return struct.pack("<HH2sH", group, key, kind, len(value)) + value
