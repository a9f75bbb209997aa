"""Reads the picture of a DICOM file, and what its header leaves open."""

from __future__ import annotations

import io
import math
import struct
import zlib
from typing import Any

import numpy as np

from tfds_builders import limits

_JPEG_2000 = b"\xff\x4f\xff\x51"  # what its code stream begins with
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # transfer syntax: all but its header is packed
# Values of Modality for projections: computed, digital, plain, mammography, dental.
_RADIOGRAPHY = ("CR", "DX", "DR", "RG", "MG", "IO", "PX", "RF", "XA")


def read(content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """The picture and notes on its header.

    Args:
      content: Of the whole file.

    Returns:
      Float64 [H, W] in the file's units, rescale and first window applied, bright where
      rays were stopped; and what the header leaves open or contradicts, in words.

    Raises:
      ImportError: If pydicom is missing.
      UnreadableImage: If there is no usable picture.
    """
    try:
        import pydicom
        from pydicom import pixels
    except ImportError as error:
        raise ImportError(
            'DICOM files need pydicom. Install it with: pip install "mtpret_jax[dicom]"'
        ) from error
    try:
        with limits.QUIET:
            _check_inflated(content)
            data = pydicom.dcmread(io.BytesIO(content), force=True)
            _check_dicom_size(data)
            stored = np.asarray(data.pixel_array)
            if stored.ndim != 2:
                raise limits.UnreadableImage(
                    f"expected one grey frame, the DICOM file holds {stored.shape}"
                )
            values = np.asarray(pixels.apply_modality_lut(stored, data), np.float64)
            shown = np.asarray(pixels.apply_voi_lut(values, data), np.float64)
    except limits.UnreadableImage:
        raise
    # pydicom and its decoders raise almost anything on damaged files.
    except Exception as error:
        raise limits.UnreadableImage(
            f"DICOM: {type(error).__name__}: {error}"
        ) from error
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
        if size > 4 * limits.MOST_PIXELS:
            raise limits.UnreadableImage(
                f"DICOM: inflated, it holds more than {4 * limits.MOST_PIXELS:,} bytes"
            )


def _check_dicom_size(data: Any) -> None:
    """Refuses what the header, or that of JPEG 2000 inside, says before decoding."""
    if not data.get("Rows") or not data.get("Columns"):
        raise limits.UnreadableImage("DICOM: it is damaged, or holds no picture")
    counts = (data.get("SamplesPerPixel"), data.get("NumberOfFrames"))
    limits.check_size(
        int(data.Columns),
        int(data.Rows),
        math.prod(int(count or 1) for count in counts),
    )
    beginning = (data.get("PixelData") or b"")[:4096]
    start = beginning.find(_JPEG_2000)
    if start >= 0:
        width, height, left, top = struct.unpack_from(">4I", beginning, start + 8)
        limits.check_size(width - left, height - top)
