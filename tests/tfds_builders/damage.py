"""Damages files as downloads, disks and people do, for the tests of builders.

Every damage is a pure function of the file's content and of a seed.
"""

from __future__ import annotations

import json
import pathlib
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np

# From a file's content to that of a damaged one.
Damage = Callable[[bytes, np.random.Generator], bytes]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".dcm")
TABLES = (".csv", ".txt")
_CELLS = (
    *("", "nonsense", "-1", "1e999", "nan", "0.5.1", "\0", "\ufffd\u202e", "../../x"),
    *('"', "12,5", "x" * 200_000, "inf", "-9999999999999999999", "NULL", "1|2|3"),
)


def kinds(name: str) -> Mapping[str, Damage]:
    """The damages that suit a file with this name, by what they are called."""
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    if suffix in PICTURES:
        return ANY | PICTURE
    if suffix in TABLES:
        return ANY | TABLE
    if suffix in (".json", ".geojson"):
        return ANY | JSON
    if suffix == ".xml":
        return ANY | XML
    return ANY


def oversized(kind: str, size: int = 60_000) -> bytes:
    """A small file whose header says that it holds size x size pixels.

    Args:
      kind: "PNG", "BMP", "TIFF", "DICOM", or "J2K" for JPEG 2000 in DICOM.
      size: Pixels.
    """
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
        data = b"IDAT" + zlib.compress(bytes(1000))
        parts = [
            struct.pack(">I", len(part) - 4)
            + part
            + struct.pack(">I", zlib.crc32(part))
            for part in (header, data, b"IEND")
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    if kind == "BMP":
        header = struct.pack("<IiiHHIIiiII", 40, size, size, 1, 24, 0, 0, 0, 0, 0, 0)
        return struct.pack("<2sIHHI", b"BM", 154, 0, 0, 54) + header + bytes(100)
    if kind == "TIFF":
        tags = {256: size, 257: size, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1}
        tags |= {278: size, 279: 16}
        entries = [
            struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()
        ]
        start = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        return start + b"".join(entries) + bytes(20)
    if kind == "J2K":
        stream = b"\xff\x4f\xff\x51" + struct.pack(
            ">HHIIIIIIIIHBBB", 41, 0, size, size, 0, 0, size, size, 0, 0, 1, 7, 1, 1
        )
        return _dicom(64, stream + bytes(60), "1.2.840.10008.1.2.4.90")
    return _dicom(min(size, 65_535), bytes(100), "1.2.840.10008.1.2.1")


def _dicom(size: int, pixels: bytes, syntax: str) -> bytes:
    """A DICOM file with an explicit little endian header."""
    is_packed = not syntax.endswith("1.2.1")
    meta = _element(2, 0x10, b"UI", syntax.encode())
    start = bytes(128) + b"DICM" + _element(2, 0, b"UL", struct.pack("<I", len(meta)))
    numbers = {0x02: 1, 0x10: size, 0x11: size, 0x100: 8, 0x101: 8, 0x102: 7, 0x103: 0}
    header = [
        _element(0x28, key, b"US", struct.pack("<H", n)) for key, n in numbers.items()
    ]
    header.insert(1, _element(0x28, 0x04, b"CS", b"MONOCHROME2 "))
    if not is_packed:
        data = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, len(pixels)) + pixels
    else:
        data = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
        data += struct.pack("<HHI", 0xFFFE, 0xE000, 0)
        data += struct.pack("<HHI", 0xFFFE, 0xE000, len(pixels)) + pixels
        data += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return start + meta + b"".join(header) + data


def _element(group: int, key: int, kind: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, key, kind, len(value)) + value


def _half(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, max(2, len(content))))]


def _noise(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes a hundredth of the bytes, at least three."""
    values = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, max(1, len(values)), max(3, len(values) // 100))
    values[places[: len(values)]] = rng.integers(0, 256, len(places[: len(values)]))
    return values.tobytes()


def _zeros_within(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, max(1, len(content))))
    return content[:start] + bytes(20) + content[start + 20 :]


def _not_utf8_within(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, max(1, len(content))))
    return content[:start] + b"\xff\xfe\x80\xc3\x28" + content[start:]


def _cell(content: bytes, rng: np.random.Generator) -> bytes:
    """Puts something else into some cell below the header."""
    lines = content.decode("utf-8", "replace").splitlines()
    if len(lines) < 2:
        return content
    row = int(rng.integers(1, len(lines)))
    separator = max(",;\t ", key=lines[0].count)
    cells = lines[row].split(separator)
    cells[int(rng.integers(len(cells)))] = _CELLS[int(rng.integers(len(_CELLS)))]
    lines[row] = separator.join(cells)
    return "\n".join(lines).encode()


def _column(content: bytes, rng: np.random.Generator) -> bytes:
    """Gives a column another name."""
    header, _, rest = content.decode("utf-8", "replace").partition("\n")
    cells = header.split(",")
    cells[int(rng.integers(len(cells)))] = "renamed"
    return (",".join(cells) + "\n" + rest).encode()


def _value(content: bytes, rng: np.random.Generator) -> bytes:
    """Puts something else into some place of a JSON."""
    data = json.loads(content)
    places: list[tuple[list | dict, int | str]] = []
    pending = [data]
    while pending:
        node = pending.pop()
        if isinstance(node, (list, dict)):
            keys = node if isinstance(node, dict) else range(len(node))
            places += [(node, key) for key in keys]
            pending += node.values() if isinstance(node, dict) else node
    if not places:
        return b"[1]"
    owner, key = places[int(rng.integers(len(places)))]
    others = (None, -1, "x", [], {}, 1e308, [[]], True, 10**400, "../x", {"a": 1})
    owner[key] = others[int(rng.integers(len(others)))]
    return json.dumps(data).encode()


def _without_a_key(content: bytes, rng: np.random.Generator) -> bytes:
    """Leaves a key of some object of a JSON out."""
    text = content.decode()
    keys = [part for part in text.split('"')[1::2] if f'"{part}":' in text]
    if not keys:
        return b"{}"
    return text.replace(
        f'"{keys[int(rng.integers(len(keys)))]}":', '"lost":', 1
    ).encode()


def _tag(content: bytes, rng: np.random.Generator) -> bytes:
    """Gives an element of an XML another name, or its text another content."""
    text = content.decode("utf-8", "replace")
    pieces = text.split(">")
    place = int(rng.integers(1, max(2, len(pieces) - 1)))
    value, _, tag = pieces[min(place, len(pieces) - 1)].rpartition("<")
    pieces[min(place, len(pieces) - 1)] = f"not {value}<{tag}"
    return ">".join(pieces).encode()


def _constant(content: bytes) -> Damage:
    return lambda _, __: content


ANY: dict[str, Damage] = {
    "cut short": _half,
    "empty": _constant(b""),
    "a web page": _constant(b"<!DOCTYPE html><html>Please log in</html>"),
    "noise": _noise,
    "zeros": _constant(bytes(4096)),
}
PICTURE: dict[str, Damage] = {
    "another format": _constant(b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\0;"),
    **{f"oversized {k}": _constant(oversized(k)) for k in ("PNG", "BMP", "TIFF")},
    **{f"oversized {k}": _constant(oversized(k)) for k in ("DICOM", "J2K")},
    # Below the limit in pixels: in colour above that in values, in grey below it.
    **{f"large {k}": _constant(oversized(k, 9_999)) for k in ("PNG", "BMP", "TIFF")},
    "malformed DICOM": _constant(bytes(128) + b"DICM" + bytes(range(256))),
    "zeros within": _zeros_within,
}
TABLE: dict[str, Damage] = {
    "a cell": _cell,
    "another cell": _cell,
    "a third cell": _cell,
    "a column": _column,
    "no rows": lambda content, _: content.splitlines(keepends=True)[0],
    "no header": lambda content, _: b"".join(content.splitlines(keepends=True)[1:]),
    "zeros within": _zeros_within,
    "not UTF-8": _not_utf8_within,
    "UTF-16": lambda content, _: content.decode("utf-8", "replace").encode("utf-16"),
    "open quote": lambda content, _: content.replace(b"\n", b'\n"', 1),
    "rows twice": lambda content, _: content + content,
    "a picture": _constant(oversized("PNG", 4)),
}
JSON: dict[str, Damage] = {
    "a value": _value,
    "another value": _value,
    "a third value": _value,
    "a lost key": _without_a_key,
    "null": _constant(b"null"),
    "a list": _constant(b"[1, 2, 3]"),
    "a number": _constant(b"1e999"),
    "deep": _constant(b"[" * 100_000),
    "not UTF-8": _not_utf8_within,
}
XML: dict[str, Damage] = {
    "a tag": _tag,
    "another tag": _tag,
    "another root": _constant(b"<other/>"),
    "deep": _constant(b"<a>" * 100_000),
    "entities": _constant(
        b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">'
        + b"".join(
            b'<!ENTITY %c "%s">' % (c + 1, b"&%c;" % c * 10) for c in range(98, 108)
        )
        + b"]><a>&l;</a>"
    ),
    "not UTF-8": _not_utf8_within,
}
