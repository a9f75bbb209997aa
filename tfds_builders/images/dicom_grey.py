"""From the stored values of a DICOM file to grey, as PS3.3 has it.

Stored values (C.7.6.3), Modality LUT or rescale (C.11.1), VOI LUT or window (C.11.2),
then the inversion of MONOCHROME1; padding (C.7.5.1.1.2) is not a part of the range.
What was assumed or left out is said in notes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfds_builders.images import dicom_decoders, jpeg_headers, levels, limits

_LEFT_OUT = -(1 << 62)  # stands for padding that lies outside of BitsStored
_COLOURS = ("Red", "Green", "Blue")


def shown(
    data: Any, dtype: type[np.unsignedinteger[Any]]
) -> tuple[np.ndarray, list[str]]:
    """The image, dtype [H, W], over the full range; and notes.

    Args:
      data: A pydicom data set of one frame, whose elements of the pixels are all there.
      dtype: `np.uint8` or `np.uint16`.

    Raises:
      UnreadableImage: If the pixels can't be decoded or are not finite.
    """
    try:
        decoded = dicom_decoders.decode(data)
    except dicom_decoders.DecoderError as error:
        raise limits.UnreadableImage(f"DICOM: {error}") from error
    if decoded.ndim == 3 and decoded.shape[2] == 3:
        return levels.spread(levels.grey(decoded), dtype), []
    if decoded.ndim != 2:
        raise limits.UnreadableImage(
            f"expected one frame, the DICOM file holds {decoded.shape}"
        )
    notes: list[str] = []
    stored = _stored(decoded, data, notes)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        return levels.spread(stored, dtype, _palette(data)), notes
    padding = _padding(data)
    rescaled = _modality(data, notes)
    windowed = _voi(data, rescaled, notes)
    values = levels.distinct(stored)
    values = values[~padding(values)]
    if not values.size:
        notes.append("holds nothing but padding")
        return np.zeros(stored.shape, dtype), notes
    low, high = levels.extent(values, windowed)
    if low == high and windowed is not rescaled:
        notes.append("the window leaves one grey: the whole range is shown")
        windowed = rescaled
    sign = -1 if data.PhotometricInterpretation == "MONOCHROME1" else 1
    image = levels.spread(
        stored, dtype, lambda part: sign * windowed(part), left_out=padding
    )
    return image, notes


def _stored(decoded: np.ndarray, data: Any, notes: list[str]) -> np.ndarray:
    """The values within BitsStored, with their sign; without overlays beside them."""
    if decoded.dtype.kind == "f":
        return decoded
    bits, high = int(data.BitsStored), int(data.HighBit)
    precision = _precision(data)
    # The sample of a JPEG is the stored value itself, or all bits of the file's word.
    shift = max(high + 1 - bits, 0) if precision is None or precision > high else 0
    is_signed = int(data.PixelRepresentation) == 1
    wide = np.int64 if bits > 16 else np.int32
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)

    def change(part: np.ndarray) -> np.ndarray:
        inside = (part.astype(wide) >> shift) & wide(mask)
        return (inside ^ wide(sign)) - wide(sign) if is_signed else inside

    is_inside = shift == 0 and not is_signed and decoded.dtype.kind == "u"
    if is_inside and int(decoded.max()) <= mask:  # As most are.
        return decoded
    if decoded.dtype.kind == "u" and not is_signed:
        there = levels.distinct(decoded)
        if (there.astype(np.int64) & ~(mask << shift)).any():
            notes.append("bits outside of BitsStored (overlays) are left out")
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    kind = np.dtype(f"{'i' if is_signed else 'u'}{size}")
    stored = levels.replace(decoded, change, kind.type)
    beyond = _beyond(data)
    if beyond is not None:
        is_padding = decoded == np.asarray(beyond).astype(decoded.dtype)
        if is_padding.any():
            stored = stored.astype(np.int64)
            stored[is_padding] = _LEFT_OUT
    return stored


def _precision(data: Any) -> int | None:
    """Bits of a sample of the JPEG inside; None where there is none."""
    pixels = data.get("PixelData") or b""
    if pixels[: len(jpeg_headers.ITEM)] != jpeg_headers.ITEM:
        return None
    from pydicom import encaps

    return jpeg_headers.precision(encaps.get_frame(pixels, 0, number_of_frames=1))


def _range(data: Any) -> tuple[int, int]:
    """The lowest and the highest value that can be stored."""
    bits = int(data.BitsStored)
    if int(data.PixelRepresentation) == 1:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def _signed(value: int, *, is_signed: bool) -> int:
    """A number of 16 bits, which a header may hold as either kind."""
    value &= 0xFFFF
    return value - 0x10000 if is_signed and value > 0x7FFF else value


def _limits_of_padding(data: Any) -> tuple[int, int] | None:
    ends = [data.get("PixelPaddingValue"), data.get("PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    is_signed = int(data.PixelRepresentation) == 1
    values = [int(end) for end in ends if end is not None]
    if int(data.BitsAllocated) <= 16:
        values = [_signed(value, is_signed=is_signed) for value in values]
    return min(values), max(values)


def _beyond(data: Any) -> int | None:
    """A padding value that lies outside of BitsStored."""
    found = _limits_of_padding(data)
    if found is None or found[0] != found[1]:
        return None
    low, high = _range(data)
    return None if low <= found[0] <= high else found[0]


def _padding(data: Any) -> Callable[[np.ndarray], np.ndarray]:
    found = _limits_of_padding(data)

    def is_padding(part: np.ndarray) -> np.ndarray:
        beyond = part == _LEFT_OUT
        if found is None:
            return beyond
        return beyond | ((part >= found[0]) & (part <= found[1]))

    return is_padding


def _modality(data: Any, notes: list[str]) -> levels.Change:
    """C.11.1: a table, or slope and intercept, or nothing."""
    low, _ = _range(data)
    table = _first_table(data, "ModalityLUTSequence", low < 0, notes)
    if table is not None:
        return table
    slope, intercept = _number(data, "RescaleSlope"), _number(data, "RescaleIntercept")
    if slope == 0:
        notes.append("RescaleSlope is 0: taken as absent")
    if not slope:
        slope = 1.0
    offset = intercept or 0.0
    return lambda part: part.astype(np.float64) * slope + offset


def _voi(data: Any, rescaled: levels.Change, notes: list[str]) -> levels.Change:
    """C.11.2: a table, else the first window, else `rescaled` itself."""
    ends = rescaled(np.asarray(_range(data)))
    table = _first_table(data, "VOILUTSequence", bool(ends.min() < 0), notes)
    if table is not None:
        return lambda part: table(np.rint(rescaled(part)))
    centre, width = _number(data, "WindowCenter"), _number(data, "WindowWidth")
    if centre is None or width is None:
        notes.append("no window (VOI LUT): its whole range is shown")
        return rescaled
    function = str(data.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        notes.append(f"VOILUTFunction is {limits.printable(function, 40)}: LINEAR used")
        function = "LINEAR"
    if width < 1 if function == "LINEAR" else width <= 0:
        notes.append(
            f"a window of width {width:g} is invalid for {function}: the whole range "
            "is shown"
        )
        return rescaled
    window = _Window(function, centre, width)
    return lambda part: window(rescaled(part))


@dataclasses.dataclass(frozen=True)
class _Window:
    """C.11.2.1.2 and C.11.2.1.3, from 0 to 1."""

    function: str
    centre: float
    width: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if self.function == "SIGMOID":
            return 1 / (1 + np.exp(-4 * (values - self.centre) / self.width))
        centre, width = self.centre, self.width
        if self.function == "LINEAR":
            centre, width = centre - 0.5, width - 1
        if not width:
            return (values > centre).astype(np.float64)
        return np.clip((values - centre) / width + 0.5, 0, 1)


def _number(data: Any, name: str) -> float | None:
    """The first value of an element; None where there is none."""
    value = data.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else None
    if value is None or not str(value).strip():
        return None
    number = float(value)
    if not math.isfinite(number):
        raise limits.UnreadableImage(f"DICOM: {name} is {number}, not finite")
    return number


def _first_table(
    data: Any, name: str, is_signed: bool, notes: list[str]
) -> levels.Change | None:
    """The first table of a sequence; None where it has none, or an empty one."""
    sequence = data.get(name)
    if not sequence:
        return None
    item = sequence[0]
    descriptor, content = item.get("LUTDescriptor"), item.get("LUTData")
    if _is_empty(descriptor) or _is_empty(content):
        notes.append(f"{name} is empty: taken as absent")
        return None
    is_little = data.file_meta.TransferSyntaxUID.is_little_endian
    return _table(descriptor, content, is_signed=is_signed, is_little=is_little)


def _is_empty(value: Any) -> bool:
    return value is None or (not isinstance(value, int) and not len(value))


def _table(
    descriptor: Any, content: Any, *, is_signed: bool, is_little: bool
) -> levels.Change:
    """A table of C.11.1.1 as a change: what lies outside takes the nearest entry.

    Args:
      descriptor: Number of entries, first value mapped, bits of an entry.
      content: Words, or bytes; entries of 8 bits may lie two in a word.
      is_signed: Whether the values mapped may be negative.
      is_little: Byte order of `content`.
    """
    order = "<" if is_little else ">"
    if isinstance(descriptor, bytes):
        descriptor = np.frombuffer(descriptor, f"{order}u2").tolist()
    count, first, bits = (int(number) for number in descriptor)
    count = (count & 0xFFFF) or 1 << 16
    first = _signed(first, is_signed=is_signed)
    if isinstance(content, bytes):
        whole = content[: len(content) // 2 * 2]
        words = np.frombuffer(whole, f"{order}u2").astype(np.int64)
    else:
        words = np.atleast_1d(np.asarray(content, np.int64)) & 0xFFFF
    if bits <= 8 and len(words) < count:  # Two entries in a word, the first one low.
        words = np.stack([words & 0xFF, words >> 8], axis=1).reshape(-1)
    entries = words[:count].astype(np.float64)
    last = len(entries) - 1

    def look_up(part: np.ndarray) -> np.ndarray:
        place = np.clip(part.astype(np.float64) - first, 0, last)
        return entries[place.astype(np.int64)]

    return look_up


def _palette(data: Any) -> levels.Change:
    """C.7.6.3.1.5 and 6: the grey of the colour that a value stands for."""
    if "RedPaletteColorLookupTableData" not in data:
        return _segmented_palette(data)
    is_little = data.file_meta.TransferSyntaxUID.is_little_endian
    tables, bits = [], 8
    for colour in _COLOURS:
        name = f"{colour}PaletteColorLookupTable"
        descriptor, content = data.get(f"{name}Descriptor"), data.get(f"{name}Data")
        if _is_empty(descriptor) or _is_empty(content):
            raise limits.UnreadableImage(f"DICOM: PALETTE COLOR without {name}")
        count = (int(descriptor[0]) & 0xFFFF) or 1 << 16
        is_narrow = isinstance(content, bytes) and len(content) < 2 * count
        bits = 8 if is_narrow else 16
        changed = [descriptor[0], descriptor[1], bits]
        is_signed = int(data.PixelRepresentation) == 1
        tables.append(
            _table(changed, content, is_signed=is_signed, is_little=is_little)
        )

    def grey(part: np.ndarray) -> np.ndarray:
        colours = np.stack([table(part) for table in tables], axis=-1)
        return levels.grey(colours.astype(np.uint16)).astype(np.float64)

    return grey


def _segmented_palette(data: Any) -> levels.Change:
    from pydicom import pixels

    def grey(part: np.ndarray) -> np.ndarray:
        colours = pixels.apply_color_lut(part, data)[..., :3]
        return levels.grey(colours).astype(np.float64)

    return grey
