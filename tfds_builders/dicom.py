"""Reads the picture of a DICOM file, and what its header leaves open."""

from __future__ import annotations

import contextlib
import io
import math
import zlib
from typing import Any

import numpy as np

from tfds_builders import jpeg_headers, levels, limits

# Values of Modality for projections: computed, digital, plain, mammography, dental.
_RADIOGRAPHY = ("CR", "DX", "DR", "RG", "MG", "IO", "PX", "RF", "XA")
_LONGEST_CODE = 40  # characters of a code that a note repeats; the standard has 16
_DAMAGED = "damaged"  # no code: those are upper case
# Bytes of a data set that is packed as a whole: a picture's, and as much again for the
# rest as no header needs.
_MOST_INFLATED = 2 * limits.MOST_PIXELS + (1 << 20)
_STEP = 1 << 16  # bytes given to the inflater at once
_MOST_READS = 200_000  # a radiograph has hundreds of elements, each takes two
_LONGEST_ELEMENT = 1 << 20  # bytes of what is no picture; a table of 16 bits has 2**17
_PIXEL_GROUP = 0x7FE0
_BYTES = (None, "OB", "OD", "OF", "OV", "OW", "UN")  # kinds that stay bytes
_ITEM = b"\xfe\xff\x00\xe0"  # what compressed pixels begin with


def read(
    content: bytes, *, dtype: type[np.unsignedinteger[Any]]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The picture and notes on its header.

    Args:
      content: Of the whole file.
      dtype: `np.uint8` or `np.uint16`, the type wanted.

    Returns:
      dtype [H, W], rescale and first window applied, bright where rays were stopped,
      stretched over all of `dtype`; and what the header leaves open or contradicts, in
      words.

    Raises:
      ImportError: If pydicom is missing.
      UnreadableImage: If there is no usable picture.
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
            return _shown(data, dtype), _notes(data)
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
        raise limits.UnreadableImage("DICOM: it is damaged, or holds no picture")
    width, height = int(data.Columns), int(data.Rows)
    counts = (data.get("SamplesPerPixel"), data.get("NumberOfFrames"))
    count = math.prod(int(count or 1) for count in counts)
    limits.check_size(width, height, count)
    if int(data.get("NumberOfFrames") or 1) != 1:
        raise limits.UnreadableImage(
            f"expected one grey frame, the DICOM file holds {data.NumberOfFrames}"
        )
    pixels = data.get("PixelData") or b""
    if pixels[: len(_ITEM)] != _ITEM:
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


def _shown(data: Any, dtype: type[np.unsignedinteger[Any]]) -> np.ndarray:
    """Decodes the pixels and does to them what the header asks."""
    from pydicom import pixels

    stored = np.asarray(data.pixel_array)
    if stored.ndim != 2:
        raise limits.UnreadableImage(
            f"expected one grey frame, the DICOM file holds {stored.shape}"
        )

    def rescaled(part: np.ndarray) -> np.ndarray:
        return np.asarray(pixels.apply_modality_lut(part, data), np.float64)

    def windowed(part: np.ndarray) -> np.ndarray:
        return np.asarray(pixels.apply_voi_lut(rescaled(part), data), np.float64)

    values = levels.distinct(stored)
    low, high = levels.extent(values, windowed)
    # A window outside the data would leave one flat colour.
    change = windowed if low < high else rescaled
    if data.get("PhotometricInterpretation", "") != "MONOCHROME1":
        return levels.spread(stored, dtype, change)
    low, high = levels.extent(values, change)
    return levels.spread(stored, dtype, lambda part: high + low - change(part))


def _notes(data: Any) -> tuple[str, ...]:
    """What a header leaves open or contradicts."""
    notes = []
    modality = _code(data, "Modality")
    if modality not in _RADIOGRAPHY:
        said = f"Modality is {modality}" if modality else "no Modality"
        notes.append(f"{said}: perhaps not a radiograph")
    if "WindowCenter" not in data and "VOILUTSequence" not in data:
        notes.append("no window (VOI LUT): its whole range is shown")
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
    except Exception:  # As in `read`; the picture itself needs no such element.
        return _DAMAGED
