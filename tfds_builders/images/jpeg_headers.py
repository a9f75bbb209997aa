"""What the JPEG or JPEG 2000 inside a DICOM file says of its size, before decoding."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from tfds_builders.images import limits

ITEM = b"\xfe\xff\x00\xe0"  # what compressed pixels begin with
_MARKER = re.compile(rb"\xff([^\xff])", re.DOTALL)  # filled up by more FF before
# Start of a frame: all of C0 to CF but for tables and arithmetic, and JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x00, 0x01, *range(0xD0, 0xD9)}  # no length follows
_ENDS = {0xD9, 0xDA}  # of the image, of its header
_MOST_PARTS = 10_000  # markers or boxes before the image; usual are ten


def sizes(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Width, height and channels, as often as they are said; nothing of other formats.

    Raises:
      UnreadableImage: If the header has too many parts, or JPEG 2000 no size.
      struct.error: If it is cut short.
    """
    if stream.startswith(b"\xff\xd8"):
        yield from _jpeg_sizes(stream)
    elif stream.startswith(b"\xff\x4f") or stream[4:8] == b"jP  ":
        yield _jpeg_2000_size(stream)


def precision(stream: bytes) -> int | None:
    """Bits of a sample; None of other formats, or where it is not said."""
    if stream.startswith(b"\xff\xd8"):
        return next((stream[at + 2] for at in _frames(stream)), None)
    if stream.startswith(b"\xff\x4f") or stream[4:8] == b"jP  ":
        return (stream[_code_stream(stream) + 42] & 0x7F) + 1
    return None


def _jpeg_sizes(stream: bytes) -> Iterator[tuple[int, int, int]]:
    for at in _frames(stream):
        height, width, channels = struct.unpack_from(">HHB", stream, at + 3)
        yield width, height, channels


def _frames(stream: bytes) -> Iterator[int]:
    """Where the frames' headers begin, at their length."""
    at = 2
    for _ in range(_MOST_PARTS):
        found = _MARKER.search(stream, at)
        if not found or found[1][0] in _ENDS:
            return
        at = found.end()
        if found[1][0] in _ALONE:
            continue
        if found[1][0] in _FRAMES:
            yield at
        at += struct.unpack_from(">H", stream, at)[0]
    raise limits.UnreadableImage(f"the JPEG inside has over {_MOST_PARTS:,} markers")


def _jpeg_2000_size(stream: bytes) -> tuple[int, int, int]:
    start = _code_stream(stream)
    # The standard has the size follow the start at once.
    if stream[start : start + 4] != b"\xff\x4f\xff\x51":
        raise limits.UnreadableImage("the JPEG 2000 inside does not begin with a size")
    width, height, left, top = struct.unpack_from(">4I", stream, start + 8)
    (channels,) = struct.unpack_from(">H", stream, start + 40)
    return width - left, height - top, channels


def _code_stream(stream: bytes) -> int:
    """Where the image itself begins, behind the boxes that there may be."""
    if stream.startswith(b"\xff\x4f"):
        return 0
    at = 0
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", stream, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", stream, start)
            start += 8
        if kind == b"jp2c":
            return start
        if length < 8:
            break
        at += length
    raise limits.UnreadableImage("the JPEG 2000 inside holds no image")
