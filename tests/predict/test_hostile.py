"""Two hundred damaged and hostile inputs through the command: a line each, no more."""

import io
import os
import pathlib
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.tfds_builders import hostile as hostile_files
from tfds_builders.phantom_xray import simulator

REPOSITORY = pathlib.Path(__file__).parents[2]
LEAST = 200
# Above what the command needs for a readable picture: six bytes for each pixel of the
# largest that is allowed, as one such is decoded at a time.
MEMORY_MIB = 600


def chunk(name: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + crc


def png(width: int, height: int, *between: bytes, rows: bytes = b"") -> bytes:
    """A PNG of 8 bits whose header says what is asked."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *between,
            chunk(b"IDAT", zlib.compress(rows, 9)),
            chunk(b"IEND", b""),
        ]
    )


def bmp(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(info), 0, 0, 54) + info


def tiff(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, "TIFF")
    return out.getvalue()


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (16, 16)).save(out, "JPEG")
    content = out.getvalue()
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def dicom(**changes) -> bytes:
    """A small DICOM file; None leaves a field out."""
    data = pydicom.Dataset()
    data.Modality, data.PhotometricInterpretation = "DX", "MONOCHROME2"
    data.Rows, data.Columns, data.SamplesPerPixel = 32, 32, 1
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.add_new("PixelData", "OW", np.arange(1024, dtype=np.uint16).tobytes())
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        elif name == "PixelData":
            data[name].value = value
        else:
            setattr(data, name, value)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    out = io.BytesIO()
    pydicom.dcmwrite(out, data, enforce_file_format=True)
    return out.getvalue()


def pictures() -> dict[str, bytes]:
    """Truthful small pictures by suffix."""
    shot = simulator.simulate("chest", size=64, seed=0, split_index=0, index=0).image
    found = {}
    for suffix, name in ((".png", "PNG"), (".jpg", "JPEG"), (".tif", "TIFF")):
        out = io.BytesIO()
        Image.fromarray(shot).save(out, name)
        found[suffix] = out.getvalue()
    return found | {".bmp": bmp(64, 64) + bytes(64 * 64), ".dcm": dicom()}


def hostile() -> Iterator[tuple[str, bytes]]:
    """Names and contents of what must be skipped."""
    rng = np.random.default_rng(0)
    for suffix, content in pictures().items():
        for n in range(18):  # cut short
            keep = int(len(content) * n / 18)
            yield f"cut{n}{suffix}", content[:keep]
        for n in range(9):
            yield f"noise{n}{suffix}", rng.bytes(1 + 300 * n)
        yield f"text{suffix}", b"patient notes, no picture at all\n" * 9
        yield f"script{suffix}", b"#!/bin/sh\nrm -rf /\n"
        yield f"pickle{suffix}", b"\x80\x04cposix\nsystem\n(S'id'\ntR."
        yield f"zip{suffix}", b"PK\x03\x04" + rng.bytes(200)
        yield f"null{suffix}", bytes(5000)
    for n, (width, height) in enumerate(
        [(60_000, 60_000), (2**31 - 1, 1), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1)]
    ):
        yield f"huge{n}.png", png(width, height)
        yield f"huge{n}.bmp", bmp(min(width, 2**31 - 1), min(height, 2**31 - 1))
        side = min(width, 65_535), min(height, 65_535)
        yield f"huge{n}.dcm", dicom(Columns=side[0], Rows=side[1])
    yield "huge.jpg", jpeg(60_000, 60_000)
    for n, (width, height) in enumerate([(0, 0), (0, 9), (9, 0)]):
        yield f"empty{n}.png", png(width, height)
        yield f"empty{n}.bmp", bmp(width, height)
        yield f"empty{n}.dcm", dicom(Columns=width, Rows=height)
    for n, value in enumerate([np.nan, np.inf, -np.inf]):
        values = np.zeros((8, 8), np.float32)
        values[3, 3] = value
        yield f"not_finite{n}.tif", tiff(values)
    bomb = zlib.compress(bytes(300 << 20), 9)
    yield "text_bomb.png", png(8, 8, chunk(b"zTXt", b"a\0\0" + bomb))
    yield "profile_bomb.png", png(60_000, 60_000, chunk(b"iCCP", b"a\0\0" + bomb))
    for name, (content, _) in hostile_files.refused().items():
        yield name, content
    required = ("Rows", "Columns", "PixelData", "BitsAllocated", "SamplesPerPixel")
    for name in (*required, "PhotometricInterpretation", "PixelRepresentation"):
        yield f"without_{name}.dcm", dicom(**{name: None})
    for name, value in (
        ("BitsAllocated", 7),
        ("SamplesPerPixel", 9),
        ("NumberOfFrames", 10_000_000),
        ("PhotometricInterpretation", "MAGENTA"),
        ("PixelData", b"\0\1"),
    ):
        yield f"wrong_{name}.dcm", dicom(**{name: value})


def readable() -> dict[str, bytes]:
    """Odd pictures that are read all the same; the first is as large as is allowed."""
    noted = hostile_files.noted().items()
    return {
        "largest.png": hostile_files.largest_png(),
        **{name: content for name, (content, _) in noted},
    }


def odd_names() -> list[str]:
    """Names that a truthful picture may have."""
    return [
        "-rf.png",
        "..%2f..%2fetc.png",
        "a\nb.png",
        "a;b$(id).png",
        "ü.png",
        "=1.png",
    ]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The folder, and the names in it that must be skipped."""
    folder = tmp_path_factory.mktemp("inputs")
    skipped = set()
    for name, content in hostile():
        (folder / name).write_bytes(content)
        skipped.add(name)
    for n in range(3):
        (folder / f"loop{n}.png").symlink_to(folder / f"loop{(n + 1) % 3}.png")
        (folder / f"nowhere{n}.png").symlink_to(folder / f"missing{n}")
        skipped |= {f"loop{n}.png", f"nowhere{n}.png"}
    os.mkfifo(folder / "pipe.png")
    skipped.add("pipe.png")
    (folder / "circle").mkdir()
    (folder / "circle" / "again").symlink_to(folder)
    for name in odd_names():
        (folder / name).write_bytes(pictures()[".png"])
    for name, content in readable().items():
        (folder / name).write_bytes(content)
    (folder / os.fsdecode(b"\xff\xfe.png")).write_bytes(pictures()[".png"])
    return folder, skipped


def finish(command: list[str], folder: pathlib.Path) -> tuple[int, str, float]:
    """Runs a command: its status, what it complains of, and its own peak in MiB."""
    environment = dict(os.environ, XLA_FLAGS="", PYTHONPATH=str(REPOSITORY))
    complaints = folder / "complaints"
    with complaints.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=file
        )
        alarm = threading.Timer(300, process.kill)
        alarm.start()
        # Of this child alone: what `resource` tells is the largest of all so far.
        _, status, used = os.wait4(process.pid, 0)
        alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    said = complaints.read_text(errors="backslashreplace")
    return process.returncode, said, used.ru_maxrss / 1024


def test_each_is_said_in_one_line_and_none_fills_the_memory(
    inputs, model_folder, tmp_path
):
    folder, skipped = inputs
    assert len(skipped) >= LEAST
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mtpret_jax.main", "predict", "--quiet"]
    command += [f"--model={model_folder('classification')}"]
    (tmp_path / "one.png").write_bytes(pictures()[".png"])

    alone = [f"--out={tmp_path / 'one'}", str(tmp_path / "one.png")]
    status, said, before = finish([*command, *alone], tmp_path)
    assert status == 0, said
    status, said, after = finish([*command, f"--out={out}", str(folder)], tmp_path)

    assert status == 3, said[-2000:]
    assert "Traceback" not in said
    # The model of these tests does not say by which version pictures were read.
    lines = [line for line in said.splitlines() if "reader 1 reads them" not in line]
    assert len(lines) == len(skipped), lines[-20:]
    for name in skipped:
        found = [line for line in lines if f"/{name}'" in line]
        assert len(found) == 1, (name, found)
        assert found[0].startswith("Skipped '")
        assert len(found[0].partition("': ")[2]) > 10, found
    assert after - before < MEMORY_MIB, (before, after)
    written = [p for p in out.rglob("*") if p.is_file()]
    assert {p.name for p in written} == {
        "SHA256SUMS",
        "settings.json",
        "predictions.jsonl",
        "predictions.csv",
    }
    done_rows = (out / "predictions.jsonl").read_text().count('"status": "done"')
    assert done_rows == len(odd_names()) + 1 + len(readable())
