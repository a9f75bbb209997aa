"""Reads a radiograph or a mask from a file, and writes the PNG that is stored.

The only place that decodes the image files of users: PNG of any mode and depth,
JPEG, TIFF, BMP and DICOM. Knows nothing about labels or data sets.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from etils import epath
from PIL import Image, ImageFile, TiffImagePlugin

from tfds_builders import whole
from tfds_builders.images import dicom, levels, limits

VERSION = "2"  # the next one whenever a file gives other pixels than before
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Detectors deliver these depths, often inside a 16-bit file.
_DEPTHS = (8, 10, 12, 14, 16)
# Tags of TIFF and their values.
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
_TILE = 322, 323  # width and height, pixels
_WHITE_IS_ZERO, _SEPARATE = 0, 2
_UNSIGNED, _SIGNED = 1, 2
_LARGEST_RUN_LENGTH = 10_000_000  # pixels; Pillow unpacks six million a second
# What Pillow raises depends on the format and on where the damage is.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    ArithmeticError,
    LookupError,
    struct.error,
    zlib.error,
)

UnreadableImage = limits.UnreadableImage


def read_image(
    source: epath.PathLike | bytes, *, dtype: type[np.unsignedinteger[Any]]
) -> np.ndarray:
    """Decodes a radiograph into one channel, bright where rays were stopped.

    Integer pixels deeper than 8 bits, grey or RGB, are stretched from the smallest of
    8, 10, 12, 14 and 16 bits that holds the brightest one, so that a 12-bit image in
    a 16-bit file keeps its detail. Of DICOM, rescale and first window are applied as
    `dicom_grey` says. MONOCHROME1 of DICOM and WhiteIsZero of TIFF are inverted. An
    alpha channel is ignored, and so is an orientation tag, but for that of TIFF, which
    is applied.

    Args:
      source: A file's path, or its content.
      dtype: `np.uint8` or `np.uint16`, the type wanted.

    Returns:
      dtype [H, W], using the range of `dtype`.

    Raises:
      UnreadableImage: If the file is empty, cut short, of another format, or needs a
        decoder that is missing.
      OSError: If there is no such file, or it may not be read.
    """
    return read_with_notes(source, dtype=dtype)[0]


def read_with_notes(
    source: epath.PathLike | bytes, *, dtype: type[np.unsignedinteger[Any]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """As `read_image`, and printable words on what the header leaves open."""
    if np.dtype(dtype) not in (np.uint8, np.uint16):
        raise TypeError(f"dtype must be uint8 or uint16, got {np.dtype(dtype)}.")
    content, name = _content(source)
    if is_dicom(content, name):
        return dicom.read(content, dtype=dtype)
    picture = _open(content)
    notes: tuple[str, ...] = ()
    if getattr(picture, "is_animated", False):
        notes = ("holds more than one image: the first is read",)
    with limits.room_for(_count(picture)):
        _load(picture)
        return _stretched(picture, content, dtype), notes


def _stretched(
    picture: Image.Image, content: bytes, dtype: type[np.unsignedinteger[Any]]
) -> np.ndarray:
    """The grey values of any image but DICOM; see `read_image`."""
    values = _grey(picture, content)
    if values.dtype == np.uint8:
        return values if dtype is np.uint8 else values.astype(np.uint16) * 257
    # Pillow itself inverts 8 bits and fewer.
    is_inverted = _tiff_tag(picture, _PHOTOMETRIC) == _WHITE_IS_ZERO
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        sign = -1.0 if is_inverted else 1.0
        return levels.spread(values, dtype, lambda part: sign * levels.as_float(part))
    bits = next(b for b in _DEPTHS if int(values.max()) < 1 << b)
    brightest = (1 << bits) - 1
    scale = np.iinfo(dtype).max / brightest

    def scaled(part: np.ndarray) -> np.ndarray:
        part = levels.as_float(part)
        return np.rint((brightest - part if is_inverted else part) * scale)

    return levels.replace(values, scaled, dtype)


def read_mask(source: epath.PathLike | bytes) -> np.ndarray:
    """Decodes a mask whose pixel values are codes, so nothing is scaled or mixed.

    Args:
      source: A file's path, or its content. Palette images give their indices.

    Returns:
      Integer [H, W].

    Raises:
      UnreadableImage: As `read_image`; also if the mask is in colour, or has fractions.
      OSError: If there is no such file, or it may not be read.
    """
    content, name = _content(source)
    if is_dicom(content, name):
        raise UnreadableImage("a mask must be PNG, TIFF, BMP or JPEG, not DICOM")
    picture = _open(content)
    with limits.room_for(_count(picture)):
        _load(picture)
        return _codes(picture, content)


def _codes(picture: Image.Image, content: bytes) -> np.ndarray:
    """The values of a mask's pixels; see `read_mask`."""
    deep = _is_deep_colour(picture, content)
    values = _deep_colours(picture, content) if deep else _as_stored(picture)
    if picture.mode == "1":
        return values.astype(np.uint8)
    if values.ndim == 3:
        colour = values[..., :1] if picture.mode == "LA" else values[..., :3]
        if (colour != colour[..., :1]).any():
            raise UnreadableImage("a mask must hold one value a pixel, not colours")
        values = colour[..., 0]
    if values.dtype.kind == "f":
        raise UnreadableImage("a mask must hold integers, not fractions")
    return values


def encode_png(array: np.ndarray) -> bytes:
    """Encodes uint8 or uint16 [H, W] as a PNG of one channel, without loss."""
    if array.ndim != 2 or array.dtype not in (np.uint8, np.uint16):
        raise TypeError(
            f"Expected uint8 or uint16 [H, W], got {array.dtype} {list(array.shape)}."
        )
    done, encoded = cv2.imencode(".png", array)
    if not done:
        raise ValueError(f"No PNG could be made of an array of shape {array.shape}.")
    return encoded.tobytes()


def _content(source: epath.PathLike | bytes) -> tuple[bytes, str]:
    """Returns the bytes and the lower-case name of a file."""
    if isinstance(source, bytes):
        content, name = source, ""
    else:
        path = epath.Path(source)
        is_local = "://" not in os.fspath(path)
        if is_local and not whole.is_regular(path) and not path.is_dir():
            raise UnreadableImage("neither a file nor a folder")  # may never end
        try:
            content, name = path.read_bytes(), path.name.lower()
        except IsADirectoryError as error:
            raise UnreadableImage(f"cannot be opened: {error.strerror}") from error
    if not content:
        raise UnreadableImage("the file is empty")
    return content, name


def is_dicom(content: bytes, name: str) -> bool:
    """Whether a file, of whose content the first 132 bytes suffice, is read as DICOM.

    `name` is its lower-case name.
    """
    suffix = pathlib.PurePath(name).suffix
    return content[128:132] == b"DICM" or suffix in _DICOM_SUFFIXES


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Makes what Pillow raises a reason; what it only warns of is none."""
    try:
        with limits.QUIET:
            yield
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(
            f"not a {', '.join(_FORMATS)} or DICOM file, or a damaged one"
        ) from error
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"its header says too much: {error}") from error
    except _DAMAGE as error:
        raise UnreadableImage(f"damaged: {error}") from error


def _open(content: bytes) -> ImageFile.ImageFile:
    """Reads an image's header, and refuses what would take much memory or time."""
    with _guarded():
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        limits.check_size(*picture.size, len(picture.getbands()))
        width, height = (_tiff_tag(picture, tag) or 1 for tag in _TILE)
        limits.check_size(int(width), int(height))
        is_run_length = any(part[0] == "bmp_rle" for part in picture.tile)
        if is_run_length and _count(picture) > _LARGEST_RUN_LENGTH:
            raise UnreadableImage(
                f"more than {_LARGEST_RUN_LENGTH:,} pixels in run lengths of BMP; "
                "expected another format"
            )
        return picture


def _count(picture: Image.Image) -> int:
    """The number of values."""
    return picture.width * picture.height * len(picture.getbands())


def _load(picture: Image.Image) -> None:
    """Decodes the whole image, so that a file cut short is found out here."""
    with _guarded():
        picture.load()


def _tiff_tag(picture: Image.Image, tag: int) -> Any:
    """The value of a tag; None where the image lacks it, or is not a TIFF."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return None
    return picture.tag_v2.get(tag)


def _as_stored(picture: Image.Image) -> np.ndarray:
    """The pixels, by the sample format of a TIFF where Pillow takes another."""
    values = np.asarray(picture)
    (kind, *_) = _tiff_tag(picture, _SAMPLE_FORMAT) or (_UNSIGNED,)
    if picture.mode == "I" and kind == _UNSIGNED and _tiff_tag(picture, _BITS) == (32,):
        return values.view(np.uint32)
    if picture.mode == "L" and kind == _SIGNED:
        return values.view(np.int8)
    return values


def _is_deep_colour(picture: Image.Image, content: bytes) -> bool:
    """Whether a file holds 16 bits of each colour, of which Pillow keeps 8."""
    if picture.mode not in ("RGB", "RGBA"):
        return False
    if picture.format == "PNG":
        return content[12:16] == b"IHDR" and content[24] == 16
    return 16 in (_tiff_tag(picture, _BITS) or ())


def _deep_colours(picture: Image.Image, content: bytes) -> np.ndarray:
    """Decodes a deep PNG or TIFF that Pillow has found whole to uint16 [H, W, 3]."""
    if _tiff_tag(picture, _PLANES) == _SEPARATE:
        raise UnreadableImage(
            "16 bits of each colour, in a plane each; expected the colours of a pixel "
            "side by side (PlanarConfiguration 1)"
        )
    if picture.format == "PNG":
        content = _bare_png(content)
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage(f"damaged: {error}") from error
    size = (picture.height, picture.width)
    shapes = (size + (3,), size + (4,))
    if values is None or values.dtype != np.uint16 or values.shape not in shapes:
        raise UnreadableImage("damaged: 16 bits of each colour that can't be decoded")
    return values[..., 2::-1]  # OpenCV keeps blue first and alpha last.


def _bare_png(content: bytes) -> bytes:
    """A PNG with its pixels alone: libpng tells the terminal what else it dislikes."""
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        part = memoryview(content)[at : at + 12 + length]
        if part[4:8] in (b"IHDR", b"IDAT", b"IEND"):
            if zlib.crc32(part[4:-4]) != int.from_bytes(part[-4:], "big"):
                raise UnreadableImage("damaged: the checksum of a chunk is wrong")
            parts.append(bytes(part))
        at += 12 + length
    return b"".join(parts)


def _grey(picture: Image.Image, content: bytes) -> np.ndarray:
    """Returns one channel: uint8, or integer or float of the file's own range."""
    if _is_deep_colour(picture, content):
        return levels.grey(_deep_colours(picture, content))
    values = _as_stored(picture)
    is_signed = values.dtype == np.int8
    if is_signed or picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return values
    try:
        # Palettes first become colours: their indices mean nothing.
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGB")
        return np.asarray(picture.convert("L"))
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"no grey image in mode {picture.mode}") from error
