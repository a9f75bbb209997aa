"""Small files that ask for much memory or time, or garble a terminal, for the tests.

Each is made of what a header says, so none needs a library that would refuse to.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

from PIL import Image

PLAIN, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
JPEG, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
INJECTED = b"CT\nSkipped '/etc/passwd': \x1b[31mfake"
_HUGE = 13_000  # pixels; above what is allowed, below where Pillow itself refuses
_LONG = (b"OB", b"OW", b"SQ", b"UN")
_MODALITY, _VOI_LUT, _LUT_SHAPE = (0x8, 0x60), (0x28, 0x3010), (0x2050, 0x20)
_ENDLESS = 0xFFFFFFFF

Element = tuple[bytes, bytes]  # its kind and value


def refused() -> Mapping[str, tuple[bytes, str]]:
    """By name, files that hold no usable picture, and a piece of the reason."""
    bomb = zeros(600 << 20, zlib.DEFLATED, -zlib.MAX_WBITS)
    bare = meta(DEFLATED, group_length=None)
    inflated = "inflated, it holds more than"
    small = zeros(4 << 20, zlib.DEFLATED, -zlib.MAX_WBITS)
    sequence = pack(
        bytes.fromhex("08004011") + b"SQ\0\0" + b"\xff" * 4 + bytes(4 << 20)
    )
    too_much, many = f"its header says {_HUGE} x {_HUGE} pixels", "elements"
    return {
        "deflated_bomb.dcm": (meta(DEFLATED) + bomb, inflated),
        "no_group_length.dcm": (bare + bomb, inflated),
        "no_preamble.dcm": (bare[132:] + bomb, inflated),
        "wrong_group_length.dcm": (
            meta(DEFLATED, group_length=1 << 31) + bomb,
            inflated,
        ),
        "cut_deflated.dcm": (meta(DEFLATED) + pack(data_set())[:-9], "cut short"),
        "many_elements.dcm": (meta(DEFLATED) + small, many),
        "many_in_sequence.dcm": (meta(DEFLATED) + sequence, many),
        "zeros.dcm": (bytes(4 << 20), many),
        "uid_escapes.dcm": (meta("1.2.\x1b[31mRED") + data_set(), r"\x1b[31mRED"),
        "uid_long.dcm": (meta("9" * 60_000) + data_set(), "..."),
        "jpeg_2000_late.dcm": (compressed(JPEG_2000, jpeg_2000(_HUGE)), too_much),
        "jpeg_large_inside.dcm": (compressed(JPEG, jpeg(_HUGE)), too_much),
        "jpeg_other_inside.dcm": (compressed(JPEG, jpeg(16)), "inside 16 x 16"),
        "two_frames.dcm": (
            meta(PLAIN) + data_set({(0x28, 0x8): (b"IS", b"2 ")}),
            "expected one grey frame",
        ),
        "overflow.dcm": (
            meta(PLAIN)
            + data_set(
                {
                    (0x28, 0x1052): (b"DS", b"0 "),
                    (0x28, 0x1053): (b"DS", b"1e306 "),
                }
            ),
            "not finite",
        ),
        "large_tile.tif": (tiled(40_000, 40_000), "its header says 40000 x 40000"),
        "wide_tile.tif": (tiled(2**31, 1), "its header says 2147483648 x 1"),
        "run_lengths.bmp": (run_length_bmp(100_000_000), "run lengths"),
    }


def noted() -> Mapping[str, tuple[bytes, str]]:
    """By name, files whose picture can be read, and a piece of a note on it."""

    def plain(name: tuple[int, int], kind: bytes, value: bytes) -> bytes:
        return meta(PLAIN) + data_set({name: (kind, value)})

    frames = [Image.new("L", (16, 16), shade) for shade in (5, 9)]
    pages, animation = io.BytesIO(), io.BytesIO()
    frames[0].save(pages, "TIFF", save_all=True, append_images=frames[1:])
    frames[0].save(animation, "PNG", save_all=True, append_images=frames[1:])
    table = b"\xfe\xff\x00\xe0" + bytes(4)
    return {
        "modality_fd.dcm": (plain(_MODALITY, b"FD", b"DXDXD "), "Modality is damaged"),
        "modality_zz.dcm": (plain(_MODALITY, b"ZZ", b"DX"), "Modality is damaged"),
        "modality_injected.dcm": (
            plain(_MODALITY, b"CS", INJECTED),
            r"Modality is CT Skipped '/etc/passwd': \x1b[31m",
        ),
        "modality_long.dcm": (
            plain(_MODALITY, b"CS", b"X" * 60_000),
            "...: perhaps not a radiograph",
        ),
        "lut_shape_zz.dcm": (
            plain(_LUT_SHAPE, b"ZZ", b"IDENTITY"),
            "PresentationLUTShape is damaged",
        ),
        "long_table.dcm": (plain(_VOI_LUT, b"SQ", table * (1 << 19)), "no window"),
        "pages.tif": (pages.getvalue(), "more than one image"),
        "frames.png": (animation.getvalue(), "more than one image"),
    }


def largest_png() -> bytes:
    """A black PNG of 16 bits and the largest size that is allowed, 200 KB long."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 16, 0, 0, 0, 0)
    rows = zeros(10_000 * 20_001, zlib.DEFLATED, zlib.MAX_WBITS)
    chunks = {b"IHDR": header, b"IDAT": rows, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks.items()
    )


def zeros(size: int, method: int, window: int) -> bytes:
    """So many zeros, deflated."""
    packer = zlib.compressobj(1, method, window)
    step = 1 << 22
    parts = [packer.compress(bytes(min(step, size - n))) for n in range(0, size, step)]
    return b"".join(parts) + packer.flush()


def pack(data: bytes) -> bytes:
    """Deflates a data set, as DICOM does."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def meta(syntax: str, *, group_length: int | None = 0) -> bytes:
    """The beginning of a DICOM file.

    Args:
      syntax: The transfer syntax.
      group_length: What is said; 0 says the truth, None nothing.
    """
    entry = element((0x2, 0x10), b"UI", syntax.encode())
    if group_length is not None:
        said = struct.pack("<I", group_length or len(entry))
        entry = element((0x2, 0x0), b"UL", said) + entry
    return bytes(128) + b"DICM" + entry


def data_set(
    changes: Mapping[tuple[int, int], Element] | None = None,
    *,
    bits: int = 16,
    pixels: bytes | None = None,
) -> bytes:
    """A radiograph of 32 x 32 pixels, whose elements may be changed or added to."""
    numbers = {0x2: 1, 0x10: 32, 0x11: 32, 0x100: bits, 0x101: bits, 0x102: bits - 1}
    elements: dict[tuple[int, int], Element] = {
        (0x28, key): (b"US", struct.pack("<H", value))
        for key, value in (numbers | {0x103: 0}).items()
    }
    elements |= {_MODALITY: (b"CS", b"DX"), (0x28, 0x4): (b"CS", b"MONOCHROME2 ")}
    elements |= changes or {}
    parts = [element(name, *elements[name]) for name in sorted(elements)]
    ramp = struct.pack("<1024H", *range(1024))
    end = element((0x7FE0, 0x10), b"OW", ramp) if pixels is None else pixels
    return b"".join(parts) + end


def element(name: tuple[int, int], kind: bytes, value: bytes) -> bytes:
    """An explicit little endian element."""
    value += b"\0" * (len(value) % 2)
    length = struct.pack("<2xI" if kind in _LONG else "<H", len(value))
    return struct.pack("<HH", *name) + kind + length + value


def compressed(syntax: str, stream: bytes) -> bytes:
    """A DICOM file whose pixels are a JPEG of some kind."""
    stream += b"\0" * (len(stream) % 2)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, _ENDLESS)
    pixels += struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    pixels += struct.pack("<HHI", 0xFFFE, 0xE000, len(stream)) + stream
    pixels += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return meta(syntax) + data_set(bits=8, pixels=pixels)


def jpeg(size: int) -> bytes:
    """A JPEG that says it has size x size pixels, far behind its start."""
    out = io.BytesIO()
    Image.new("L", (16, 16)).save(out, "JPEG")
    content = out.getvalue()
    at = content.index(b"\xff\xc0") + 5
    comment = b"\xff\xfe" + struct.pack(">H", 60_002) + bytes(60_000)
    said = struct.pack(">HH", size, size)
    return content[:2] + comment + content[2:at] + said + content[at + 4 :]


def jpeg_2000(size: int) -> bytes:
    """A JPEG 2000 that says it has size x size pixels, behind a box of 6,000 bytes."""
    out = io.BytesIO()
    Image.new("L", (32, 32)).save(out, "JPEG2000", irreversible=False)
    content = out.getvalue()
    box = content.index(b"jp2c") - 4
    start = box + 8
    numbers = struct.pack(">6I", size, size, 0, 0, size, size)
    stream = content[start : start + 8] + numbers + content[start + 32 :]
    free = struct.pack(">I4s", 6008, b"free") + bytes(6000)
    said = struct.pack(">I4s", 8 + len(stream), b"jp2c")
    return content[:box] + free + said + stream


def tiled(width: int, height: int) -> bytes:
    """A TIFF of 8 x 8 pixels in one tile of width x height."""
    data = zlib.compress(bytes(64))
    tags = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: width, 323: height}
    tags |= {324: 8 + 2 + 12 * 10 + 4, 325: len(data)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    start = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    return start + b"".join(entries) + bytes(4) + data


def run_length_bmp(width: int) -> bytes:
    """A BMP of one row in run lengths, which Pillow unpacks in Python."""
    info = struct.pack("<IiiHHIIiiII", 40, width, 1, 1, 8, 1, 0, 0, 0, 256, 0)
    start = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024)
    return start + info + bytes(1024) + b"\x01\x05\0\0" * 3
