"""Reads a radiograph or a mask from a file, and writes the PNG that is stored.

The only place that decodes the picture files of users: PNG of any mode and depth,
JPEG, TIFF, BMP and DICOM. Knows nothing about labels or data sets.
"""

from __future__ import annotations

import contextlib
import io
import math
import pathlib
import struct
import threading
import warnings
import zlib
from typing import Any

import cv2
import numpy as np
from etils import epath
from PIL import Image, TiffImagePlugin

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_JPEG_2000 = b"\xff\x4f\xff\x51"  # what its code stream begins with
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # transfer syntax: all but its header is packed
# Values of Modality for projections: computed, digital, plain, mammography, dental.
_RADIOGRAPHY = ("CR", "DX", "DR", "RG", "MG", "IO", "PX", "RF", "XA")
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
# Detectors deliver these depths, often inside a 16-bit file.
_DEPTHS = (8, 10, 12, 14, 16)
# The largest radiographs have a third of this; a damaged header may say anything.
_MOST_PIXELS = 100_000_000
# Red, green and blue in grey, in 65536ths; Pillow's, so that 8 and 16 bits agree.
_WEIGHTS = (19595, 38470, 7471)
# Tags of TIFF and their values.
_BITS, _PHOTOMETRIC, _PLANES = 258, 262, 284
_WHITE_IS_ZERO, _SEPARATE = 0, 2


class UnreadableImage(ValueError):
    """A file that holds no usable picture; the message is the reason."""


def read_image(
    source: epath.PathLike | bytes, *, dtype: type[np.unsignedinteger[Any]]
) -> np.ndarray:
    """Decodes a radiograph into one channel, bright where rays were stopped.

    Integer pixels deeper than 8 bits, grey or RGB, are stretched from the smallest of
    8, 10, 12, 14 and 16 bits that holds the brightest one, so that a 12-bit picture in
    a 16-bit file keeps its detail. Of DICOM, the rescale and the first window are
    applied. MONOCHROME1 of DICOM and WhiteIsZero of TIFF are inverted. An alpha channel
    is ignored, and so is an orientation tag, but for that of TIFF, which is applied.

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
    """As `read_image`, and what the header leaves open or contradicts, in words."""
    if np.dtype(dtype) not in (np.uint8, np.uint16):
        raise TypeError(f"dtype must be uint8 or uint16, got {np.dtype(dtype)}.")
    content, name = _content(source)
    if _is_dicom(content, name):
        values, notes = _read_dicom(content)
        return _spread(values, dtype), notes
    return _read_picture(content, dtype), ()


def _read_picture(content: bytes, dtype: type[np.unsignedinteger[Any]]) -> np.ndarray:
    """Any picture but DICOM; see `read_image`."""
    picture = _decode(content)
    values = _grey(picture, content)
    if values.dtype == np.uint8:
        return values if dtype is np.uint8 else values.astype(np.uint16) * 257
    # Pillow itself inverts 8 bits and fewer.
    is_inverted = _tiff_tag(picture, _PHOTOMETRIC) == _WHITE_IS_ZERO
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        return _spread(-values if is_inverted else values, dtype)
    bits = next(b for b in _DEPTHS if int(values.max()) < 1 << b)
    brightest = (1 << bits) - 1
    if is_inverted:
        values = brightest - values
    return np.rint(values * (np.iinfo(dtype).max / brightest)).astype(dtype)


def read_mask(source: epath.PathLike | bytes) -> np.ndarray:
    """Decodes a mask whose pixel values are codes, so nothing is scaled or mixed.

    Args:
      source: A file's path, or its content. Palette pictures give their indices.

    Returns:
      Integer [H, W].

    Raises:
      UnreadableImage: As `read_image`; also if the mask is in colour, or has fractions.
      OSError: If there is no such file, or it may not be read.
    """
    content, name = _content(source)
    if _is_dicom(content, name):
        raise UnreadableImage("a mask must be PNG, TIFF, BMP or JPEG, not DICOM")
    picture = _decode(content)
    deep = _is_deep_colour(picture, content)
    values = _deep_colours(picture, content) if deep else np.asarray(picture)
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


def shrink(array: np.ndarray, longest_side: int, *, is_mask: bool) -> np.ndarray:
    """Makes an array smaller, never larger, keeping its aspect.

    Args:
      array: uint8 or uint16 [H, W].
      longest_side: Longest side of the result, pixels; 0 keeps the array as it is.
      is_mask: Takes the pixel at the centre (masks) rather than the mean over the area.

    Returns:
      The same type, [h, w] with max(h, w) at most `longest_side` and at least 1.
    """
    height, width = array.shape
    longest = max(height, width)
    if longest_side <= 0 or longest <= longest_side:
        return array
    size = (
        max(1, round(width * longest_side / longest)),
        max(1, round(height * longest_side / longest)),
    )
    how = cv2.INTER_NEAREST_EXACT if is_mask else cv2.INTER_AREA
    return np.asarray(cv2.resize(array, size, interpolation=how))


class _Quiet:
    """Silences warnings while any thread is inside.

    `warnings.catch_warnings` alone would restore the filters of one thread while
    another is decoding, and leave them silent for good after that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._silence = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._silence.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._silence.close()


_QUIET = _Quiet()


def fit_region(inside: np.ndarray, height: int, width: int, *, name: str) -> np.ndarray:
    """Brings a region to the size of its image, pixel by nearest pixel.

    Args:
      inside: bool [h, w].
      height: Of the image, pixels.
      width: Likewise.
      name: Of the mask's file, for the error.

    Returns:
      bool [height, width].

    Raises:
      UnreadableImage: If the aspects differ by more than a fiftieth.
    """
    if inside.shape == (height, width):
        return inside
    aspect = inside.shape[0] * width / (inside.shape[1] * height)
    if not 0.98 < aspect < 1.02:
        raise UnreadableImage(
            f"the mask {name} has {inside.shape[0]} x {inside.shape[1]} pixels, "
            f"the image {height} x {width}"
        )
    how = cv2.INTER_NEAREST_EXACT
    resized = cv2.resize(inside.astype(np.uint8), (width, height), interpolation=how)
    return np.asarray(resized) > 0


def _content(source: epath.PathLike | bytes) -> tuple[bytes, str]:
    """Returns the bytes and the lower-case name of a file."""
    if isinstance(source, bytes):
        content, name = source, ""
    else:
        path = epath.Path(source)
        try:
            content, name = path.read_bytes(), path.name.lower()
        except IsADirectoryError as error:
            raise UnreadableImage(f"cannot be opened: {error.strerror}") from error
    if not content:
        raise UnreadableImage("the file is empty")
    return content, name


def _is_dicom(content: bytes, name: str) -> bool:
    suffix = pathlib.PurePath(name).suffix
    return content[128:132] == b"DICM" or suffix in _DICOM_SUFFIXES


def _decode(content: bytes) -> Image.Image:
    """Decodes the whole picture, so that a file cut short is found out here."""
    try:
        # Odd tags and great size are no reason to give up a picture.
        with _QUIET:
            picture = Image.open(io.BytesIO(content), formats=_FORMATS)
            _check_size(*picture.size, len(picture.getbands()))
            picture.load()
    except Image.UnidentifiedImageError as error:
        raise UnreadableImage(
            f"not a {', '.join(_FORMATS)} or DICOM file, or a damaged one"
        ) from error
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(
            f"its header says too large a picture: {error}"
        ) from error
    # What Pillow raises depends on the format and on where the damage is.
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        EOFError,
        ArithmeticError,
        LookupError,
        struct.error,
        zlib.error,
    ) as error:
        raise UnreadableImage(f"damaged: {error}") from error
    return picture


def _check_size(width: int, height: int, count: int = 1) -> None:
    """Refuses what a header says before memory is asked for.

    Args:
      width: Pixels.
      height: Pixels.
      count: Channels times frames.
    """
    if width * height * count > _MOST_PIXELS or min(width, height) < 1:
        raise UnreadableImage(
            f"its header says {width} x {height} pixels, times {count} channels or "
            f"frames; expected 1 to {_MOST_PIXELS:,} values"
        )


def _tiff_tag(picture: Image.Image, tag: int) -> Any:
    """The value of a tag; None where the picture lacks it, or is no TIFF."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return None
    return picture.tag_v2.get(tag)


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
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UnreadableImage(f"damaged: {error}") from error
    size = (picture.height, picture.width)
    shapes = (size + (3,), size + (4,))
    if values is None or values.dtype != np.uint16 or values.shape not in shapes:
        raise UnreadableImage("damaged: 16 bits of each colour that can't be decoded")
    return values[..., 2::-1]  # OpenCV keeps blue first and alpha last.


def _grey(picture: Image.Image, content: bytes) -> np.ndarray:
    """Returns one channel: uint8, or integer or float of the file's own range."""
    if _is_deep_colour(picture, content):
        colours = _deep_colours(picture, content)
        total = np.full(colours.shape[:2], 1 << 15, np.uint32)
        for channel, weight in enumerate(_WEIGHTS):
            total += colours[..., channel] * np.uint32(weight)
        return (total >> 16).astype(np.int32)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return np.asarray(picture).astype(
            np.float32 if picture.mode == "F" else np.int32
        )
    try:
        # Palettes first become colours: their indices mean nothing.
        if picture.mode in ("P", "PA"):
            picture = picture.convert("RGB")
        return np.asarray(picture.convert("L"))
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"no grey picture in mode {picture.mode}") from error


def _spread(values: np.ndarray, dtype: type[np.unsignedinteger[Any]]) -> np.ndarray:
    """Stretches numbers of any range over all of `dtype`; a constant becomes 0."""
    if not np.isfinite(values).all():
        raise UnreadableImage("some pixels are not finite numbers")
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    if high == low:
        return np.zeros(values.shape, dtype)
    return np.rint((values - low) / (high - low) * np.iinfo(dtype).max).astype(dtype)


def _read_dicom(content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """Float [H, W] in the file's units, bright where rays were stopped; notes."""
    try:
        import pydicom
        from pydicom import pixels
    except ImportError as error:
        raise ImportError(
            'DICOM files need pydicom. Install it with: pip install "mtpret_jax[dicom]"'
        ) from error
    try:
        with _QUIET:
            _check_inflated(content)
            data = pydicom.dcmread(io.BytesIO(content), force=True)
            _check_dicom_size(data)
            stored = np.asarray(data.pixel_array)
            if stored.ndim != 2:
                raise UnreadableImage(
                    f"expected one grey frame, the DICOM file holds {stored.shape}"
                )
            values = np.asarray(pixels.apply_modality_lut(stored, data), np.float64)
            shown = np.asarray(pixels.apply_voi_lut(values, data), np.float64)
    except UnreadableImage:
        raise
    # pydicom and its decoders raise almost anything on damaged files.
    except Exception as error:
        raise UnreadableImage(f"DICOM: {type(error).__name__}: {error}") from error
    # A window outside the data would leave one flat colour.
    if shown.min() < shown.max():
        values = shown
    if data.get("PhotometricInterpretation", "") == "MONOCHROME1":
        values = values.max() + values.min() - values
    return values, _notes(data)


def _notes(data: Any) -> tuple[str, ...]:
    """What a header leaves open or contradicts."""
    notes = []
    modality = str(data.get("Modality") or "")
    if modality not in _RADIOGRAPHY:
        said = f"Modality is {modality}" if modality else "no Modality"
        notes.append(f"{said}: perhaps not a radiograph")
    if "WindowCenter" not in data and "VOILUTSequence" not in data:
        notes.append("no window (VOI LUT): its whole range is shown")
    kind = str(data.get("PhotometricInterpretation") or "")
    shape = str(data.get("PresentationLUTShape") or "")
    if (kind, shape) in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        notes.append(f"{kind} with PresentationLUTShape {shape}: one of both is wrong")
    return tuple(notes)


def _check_inflated(content: bytes) -> None:
    """Refuses a deflated data set that would fill the memory."""
    at = content.find(_DEFLATED, 132, 132 + 4096)
    if at < 0:
        return
    # Group 2 says its own length, in the element that comes first.
    (length,) = struct.unpack_from("<I", content, 140)
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    rest = content[144 + length :]
    while rest and not inflating.eof:
        size += len(inflating.decompress(rest, 1 << 20))
        rest = inflating.unconsumed_tail
        if size > 4 * _MOST_PIXELS:
            raise UnreadableImage(
                f"DICOM: inflated, it holds more than {4 * _MOST_PIXELS:,} bytes"
            )


def _check_dicom_size(data: Any) -> None:
    """Refuses what the header, or that of JPEG 2000 inside, says before decoding."""
    if not data.get("Rows") or not data.get("Columns"):
        raise UnreadableImage("DICOM: it is damaged, or holds no picture")
    counts = (data.get("SamplesPerPixel"), data.get("NumberOfFrames"))
    _check_size(
        int(data.Columns),
        int(data.Rows),
        math.prod(int(count or 1) for count in counts),
    )
    beginning = (data.get("PixelData") or b"")[:4096]
    start = beginning.find(_JPEG_2000)
    if start >= 0:
        width, height, left, top = struct.unpack_from(">4I", beginning, start + 8)
        _check_size(width - left, height - top)
