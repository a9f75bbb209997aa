"""Reads the image of a DICOM file, and what its header leaves open."""

from __future__ import annotations

import contextlib
import io
import math
import zlib
from typing import Any

import numpy as np

from tfds_builders.images import dicom_grey, jpeg_headers, limits

# Values of Modality for projections: computed, digital, plain, mammography, dental.
_RADIOGRAPHY = ("CR", "DX", "DR", "RG", "MG", "IO", "PX", "RF", "XA")
_LONGEST_CODE = 40  # characters of a code that a note repeats; the standard has 16
_DAMAGED = "damaged"  # no code: those are upper case
# Bytes of a data set that is packed as a whole: an image's, and as much again for the
# rest as no header needs.
_MOST_INFLATED = 2 * limits.MOST_PIXELS + (1 << 20)
_STEP = 1 << 16  # bytes given to the inflater at once
_MOST_READS = 200_000  # a radiograph has hundreds of elements, each takes two
_LONGEST_ELEMENT = 1 << 20  # bytes of an element; a table of 16 bits has 2**17
_PIXEL_GROUP = 0x7FE0
_BYTES = (None, "OB", "OD", "OF", "OV", "OW", "UN")  # kinds that stay bytes


def read(
    content: bytes, *, dtype: type[np.unsignedinteger[Any]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The image and notes on its header.

    Args:
      content: Content of the whole file.
      dtype: `np.uint8` or `np.uint16`, the type wanted.

    Returns:
      dtype [H, W] as `dicom_grey.shown` makes it, bright where rays were stopped; and
      what the header leaves open or contradicts, in words.

    Raises:
      ImportError: If pydicom is missing.
      UnreadableImage: If there is no usable image.
    """
    try:
        import pydicom  # noqa: F401 - before the guard, which would hide its absence
    except ImportError as error:
        raise ImportError(
            "DICOM files need pydicom, which the extra `dicom` installs: "
            "pip install '.[dicom]' in a clone."
        ) from error
    try:
        with limits.QUIET, np.errstate(all="ignore"), contextlib.ExitStack() as room:
            data = _parse(content, room)
            room.enter_context(limits.room_for(_check_size(data)))
            notes = [*_complete(data), *_name_syntax(data)]
            shown, more = dicom_grey.shown(data, dtype)
            return shown, (*_notes(data), *notes, *more)
    except limits.UnreadableImage:
        raise
    # pydicom decodes when asked, and raises almost anything on damaged files.
    except Exception as error:
        raise limits.UnreadableImage(
            f"DICOM: {type(error).__name__}: {limits.printable(str(error))}"
        ) from error


class _Counted(io.BytesIO):
    """Bytes that may be read so often: eight of them can make an element."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_READS:
            raise limits.UnreadableImage(
                f"DICOM: it has over {_MOST_READS // 2:,} elements; a radiograph has "
                "hundreds"
            )
        return super().read(size)


def _parse(content: bytes, room: contextlib.ExitStack) -> Any:
    """The data set, without elements so long that decoding them would take minutes."""
    from pydicom import dataset, filereader, uid

    file = _Counted(content)
    filereader.read_preamble(file, force=True)
    # pydicom's own reading, so that it can't see another syntax and inflate by itself.
    meta = filereader._read_file_meta_info(file)
    syntax = meta.get("TransferSyntaxUID")
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        room.enter_context(limits.room_for(limits.MOST_PIXELS))
        inflated = _inflate(memoryview(content)[file.tell() :])
        data: Any = filereader.read_dataset(
            inflated, is_implicit_VR=False, is_little_endian=True
        )
        data.file_meta = dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    else:
        # Without a syntax it would be taken from an empty element.
        if syntax or not meta:
            file.seek(0)
        data = filereader.dcmread(file, force=True)
    for tag in list(data.keys()):
        element = data.get_item(tag)
        is_long = isinstance(element.value, bytes) and (
            len(element.value) > _LONGEST_ELEMENT
        )
        if is_long and not (tag.group == _PIXEL_GROUP and element.VR in _BYTES):
            del data[tag]
    return data


def _name_syntax(data: Any) -> list[str]:
    """Names the transfer syntax that a data set without one was read in."""
    from pydicom import dataset, uid

    if getattr(data, "file_meta", None) is None:
        data.file_meta = dataset.FileMetaDataset()
    if data.file_meta.get("TransferSyntaxUID"):
        return []
    is_implicit, is_little = data.original_encoding
    syntax, words = uid.ImplicitVRLittleEndian, "implicit little endian"
    if is_implicit is False:
        syntax, words = uid.ExplicitVRLittleEndian, "explicit little endian"
        if not is_little:
            syntax, words = uid.ExplicitVRBigEndian, "explicit big endian"
    data.file_meta.TransferSyntaxUID = syntax
    return [f"no Transfer Syntax UID: read as {words}"]


def _inflate(packed: memoryview) -> _Counted:
    """Unpacks a data set, but for one that would fill the memory."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out = _Counted()
    for start in range(0, len(packed), _STEP):
        rest: Any = packed[start : start + _STEP]
        while rest and not inflater.eof:
            out.write(inflater.decompress(rest, 1 << 20))
            rest = inflater.unconsumed_tail
            if out.tell() > _MOST_INFLATED:
                raise limits.UnreadableImage(
                    f"DICOM: inflated, it holds more than {_MOST_INFLATED:,} bytes"
                )
    out.write(inflater.flush())
    if not inflater.eof:
        raise limits.UnreadableImage("DICOM: its deflated data set is cut short")
    out.seek(0)
    return out


def _check_size(data: Any) -> int:
    """The number of values that the header, and that of a JPEG inside, say."""
    if not data.get("Rows") or not data.get("Columns"):
        raise limits.UnreadableImage("DICOM: it is damaged, or holds no image")
    width, height = int(data.Columns), int(data.Rows)
    counts = (data.get("SamplesPerPixel"), data.get("NumberOfFrames"))
    count = math.prod(int(count or 1) for count in counts)
    limits.check_size(width, height, count)
    if int(data.get("NumberOfFrames") or 1) != 1:
        raise limits.UnreadableImage(
            f"expected one grey frame, the DICOM file holds {data.NumberOfFrames}"
        )
    pixels = data.get("PixelData") or b""
    if pixels[: len(jpeg_headers.ITEM)] != jpeg_headers.ITEM:
        return width * height * count
    from pydicom import encaps

    stream = encaps.get_frame(pixels, 0, number_of_frames=1)
    for inside in jpeg_headers.sizes(stream):
        limits.check_size(*inside)
        if inside[:2] != (width, height):
            raise limits.UnreadableImage(
                f"DICOM: its header says {width} x {height} pixels, the JPEG inside "
                f"{inside[0]} x {inside[1]}"
            )
    return width * height * count


# Without these nobody knows what the pixels mean.
_REQUIRED = (
    "BitsAllocated",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelRepresentation",
)
# What changes how the image is shown, if it is there.
_OPTIONAL = (
    "BitsStored",
    "HighBit",
    "NumberOfFrames",
    "PlanarConfiguration",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")


def _complete(data: Any) -> list[str]:
    """Drops elements without a value, fills in what can be known; says which."""
    notes, empty = [], []
    for name in (*_REQUIRED, *_OPTIONAL):
        if name in data and not _has_value(data[name].value):
            empty.append(name)
            del data[name]
    if empty:
        notes.append(f"there but empty, taken as absent: {', '.join(empty)}")
    if any(name in data for name in _FLOATS):  # These have no such thing.
        data.PixelRepresentation = data.get("PixelRepresentation", 0)
    lacking = [name for name in _REQUIRED if name not in data]
    if lacking:
        words = "empty" if set(lacking) <= set(empty) else "missing"
        raise limits.UnreadableImage(f"DICOM: {', '.join(lacking)}: {words}")
    bits = int(data.get("BitsStored", 0))
    if not 1 <= bits <= int(data.BitsAllocated):
        notes.append(f"BitsStored is {bits or 'absent'}: taken as BitsAllocated")
        data.BitsStored, data.HighBit = data.BitsAllocated, data.BitsAllocated - 1
    high = int(data.get("HighBit", -1))
    if not data.BitsStored - 1 <= high < data.BitsAllocated:
        notes.append(f"HighBit is {'absent' if high < 0 else high}: that of BitsStored")
        data.HighBit = data.BitsStored - 1
    if int(data.SamplesPerPixel) > 1 and "PlanarConfiguration" not in data:
        data.PlanarConfiguration = 0
    return notes


def _has_value(value: Any) -> bool:
    if isinstance(value, (str, bytes)):
        return bool(value.strip())
    try:
        return value is not None and bool(len(value))
    except TypeError:  # a number
        return True


def _notes(data: Any) -> tuple[str, ...]:
    """What a header leaves open or contradicts."""
    notes = []
    modality = _code(data, "Modality")
    if modality not in _RADIOGRAPHY:
        said = f"Modality is {modality}" if modality else "no Modality"
        notes.append(f"{said}: perhaps not a radiograph")
    kind = _code(data, "PhotometricInterpretation")
    shape = _code(data, "PresentationLUTShape")
    if shape == _DAMAGED:
        notes.append(f"PresentationLUTShape is {_DAMAGED}")
    if (kind, shape) in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        notes.append(f"{kind} with PresentationLUTShape {shape}: one of both is wrong")
    return tuple(notes)


def _code(data: Any, name: str) -> str:
    """An element's text; "" where there is none."""
    try:
        return limits.printable(str(data.get(name) or ""), _LONGEST_CODE)
    except Exception:  # As in `read`; the image itself needs no such element.
        return _DAMAGED
