"""DICOM files of every combination that PS3.3 allows, against its formulas."""

import dataclasses
import io
import struct
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import dataset, encaps, uid

from tfds_builders.images import reader

SIDE, COUNT = 16, 640
DEPTHS = {8: [8, 7], 16: [8, 10, 12, 14, 16], 32: [20, 32]}  # stored, by allocated
SYNTAXES = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A lookup table: its entries, the first value mapped, how it is written."""

    entries: np.ndarray
    first: int
    bits: int
    kind: str  # words, list, packed

    def __call__(self, values: np.ndarray) -> np.ndarray:
        found = []
        for value in values.reshape(-1):
            at = min(max(int(value) - self.first, 0), len(self.entries) - 1)
            found.append(self.entries[at])
        return np.array(found, float).reshape(values.shape)


@dataclasses.dataclass(frozen=True)
class Case:
    """What a header says, and the values that its pixels stand for."""

    syntax: str
    allocated: int
    bits: int
    high: int
    is_signed: bool
    kind: str
    modality: Table | None
    slope: float | None
    intercept: float
    table: Table | None
    function: str | None
    windows: tuple[tuple[float, float], ...]
    padding: tuple[int, ...]
    stored: np.ndarray
    beside: int


def draw(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    allocated = int(rng.choice([8, 16, 16, 16, 32]))
    bits = int(rng.choice(DEPTHS[allocated]))
    high = int(rng.choice([bits - 1, allocated - 1]))
    is_signed = bool(rng.random() < 0.4)
    low = -(1 << (bits - 1)) if is_signed else 0
    most = low + (1 << bits) - 1
    ends = np.sort(rng.integers(low, most + 1, 2))
    if ends[0] == ends[1]:
        ends = np.array([low, most])
    stored = np.linspace(ends[0], ends[1], SIDE * SIDE)
    stored = rng.permutation(np.rint(stored).astype(np.int64)).reshape(SIDE, SIDE)
    padding: tuple[int, ...] = ()
    if allocated <= 16 and rng.random() < 0.35:
        value = int(rng.choice([low, most, int(stored[3, 3])]))
        padding = (value,)
        if rng.random() < 0.3:
            padding += (min(max(value + int(rng.integers(-9, 9)), low), most),)
        stored[:2] = value
    modality = None
    slope, intercept = None, 0.0
    choice = rng.random()
    if choice < 0.2 and allocated <= 16:
        modality = draw_table(rng, int(stored.min()), int(stored.max()), is_signed)
    elif choice < 0.8:
        slope = float(rng.choice([1, -1, 2, 0.5, -0.25, 3.7, -1.3]))
        intercept = float(rng.choice([0, -1024, 4095, 0.5, 17]))
    values = modality(stored) if modality else stored * (slope or 1) + intercept
    table, function, windows = None, None, ()
    choice = rng.random()
    if choice < 0.25 and abs(values).max() < 30_000:
        table = draw_table(rng, int(values.min()), int(values.max()), values.min() < 0)
    if choice > 0.15:
        function = rng.choice([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
        span = float(values.max() - values.min())
        width = rng.choice([0, 0.6, 1, span / 3, span / 2, span, 2 * span])
        centre = values.min() + span * rng.uniform(0.2, 0.8)
        windows = ((round(float(centre), 4), round(float(width), 4)),)
        windows += ((1.0, 5.0),) * int(rng.integers(0, 2))
    return Case(
        syntax=SYNTAXES[seed % len(SYNTAXES)],
        allocated=allocated,
        bits=bits,
        high=high,
        is_signed=is_signed,
        kind=str(rng.choice(["MONOCHROME1", "MONOCHROME2"])),
        modality=modality,
        slope=slope,
        intercept=intercept,
        table=table,
        function=None if function is None else str(function),
        windows=windows,
        padding=padding,
        stored=stored,
        beside=int(rng.integers(0, 1 << allocated)) if rng.random() < 0.5 else 0,
    )


def draw_table(rng, low: int, high: int, is_signed: bool) -> Table:
    bits = int(rng.choice([8, 10, 12, 14, 16]))
    count = int(rng.choice([16, 256, 1001, min(high - low + 1, 65_536)]))
    first = low + int(rng.integers(-5, 5))
    first = max(first, -32_768) if is_signed else min(max(first, 0), 65_535)
    entries = np.sort(rng.integers(0, 1 << bits, max(count, 2)))
    kinds = ["words", "list", "packed"] if bits == 8 else ["words", "list"]
    kind = str(rng.choice(kinds))
    return Table(entries, first, bits, kind)


def right(case: Case) -> np.ndarray:
    """Grey by PS3.3 C.11.1, C.11.2.1 and C.7.5.1.1.2, stretched; float [H, W]."""
    x = case.stored.astype(float)
    slope = 1.0 if case.slope is None else case.slope
    y = case.modality(case.stored) if case.modality else slope * x + case.intercept
    valid = np.ones(x.shape, bool)
    if case.padding:
        valid = (x < min(case.padding)) | (x > max(case.padding))
    z = y
    if case.table:
        z = case.table(np.round(y))
    elif case.windows:
        c, w = case.windows[0]
        function = case.function or "LINEAR"
        if function == "LINEAR" and w >= 1:
            z = np.where(
                y <= c - 0.5 - (w - 1) / 2,
                0.0,
                np.where(
                    y > c - 0.5 + (w - 1) / 2,
                    1.0,
                    ((y - (c - 0.5)) / max(w - 1, 1e-9) + 0.5),
                ),
            )
        if function == "LINEAR_EXACT" and w > 0:
            z = np.where(
                y <= c - w / 2, 0.0, np.where(y > c + w / 2, 1.0, (y - c) / w + 0.5)
            )
        if function == "SIGMOID" and w > 0:
            z = 1 / (1 + np.exp(np.clip(-4 * (y - c) / w, -700, 700)))
    if not valid.any():
        return np.zeros(x.shape)
    if np.ptp(z[valid]) == 0:
        z = y
    if case.kind == "MONOCHROME1":
        z = -z
    low, high = z[valid].min(), z[valid].max()
    if low == high:
        return np.zeros(x.shape)
    return np.where(valid, (z - low) / (high - low) * 255, 0)


def write(case: Case) -> bytes:
    data = dataset.Dataset()
    data.file_meta = dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = case.syntax
    data.SOPClassUID = uid.SecondaryCaptureImageStorage
    data.SOPInstanceUID = "1.2.3"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.Modality = "DX"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, case.kind
    data.Rows = data.Columns = SIDE
    data.BitsAllocated, data.BitsStored = case.allocated, case.bits
    data.HighBit, data.PixelRepresentation = case.high, int(case.is_signed)
    order = "<>"[case.syntax == uid.ExplicitVRBigEndian]
    if case.modality:
        data.ModalityLUTSequence = [item(case.modality, case.is_signed, order)]
    if case.slope is not None:
        data.RescaleSlope, data.RescaleIntercept = case.slope, case.intercept
    elif case.intercept:
        data.RescaleSlope, data.RescaleIntercept = 1, case.intercept
    if case.table:
        slope = 1.0 if case.slope is None else case.slope
        bounds = np.array([-(1 << (case.bits - 1)), (1 << (case.bits - 1)) - 1])
        bounds = bounds if case.is_signed else bounds + (1 << (case.bits - 1))
        lowest = 0 if case.modality else (slope * bounds + case.intercept).min()
        data.VOILUTSequence = [item(case.table, lowest < 0, order)]
    if case.windows:
        data.WindowCenter = [centre for centre, _ in case.windows]
        data.WindowWidth = [width for _, width in case.windows]
    if case.function:
        data.VOILUTFunction = case.function
    names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    for name, value in zip(names, case.padding, strict=False):
        tag = pydicom.datadict.tag_for_keyword(name)
        data.add_new(tag, "SS" if case.is_signed else "US", value)
    shift = case.high + 1 - case.bits
    mask = (1 << case.bits) - 1
    words = ((case.stored & mask) << shift) | (case.beside & ~(mask << shift))
    words = words & ((1 << case.allocated) - 1)
    words = words.astype(f"{order}u{case.allocated // 8}")
    data.PixelData = words.tobytes()
    data["PixelData"].VR = "OB" if case.allocated == 8 else "OW"
    if case.syntax == uid.RLELossless:
        frame = run_lengths(words)
        data.PixelData = encaps.encapsulate([frame])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
    content = io.BytesIO()
    data.save_as(content, enforce_file_format=True)
    return content.getvalue()


def item(table: Table, is_signed: bool, order: str) -> dataset.Dataset:
    found = dataset.Dataset()
    count = len(table.entries) % 65_536
    kind = "SS" if is_signed else "US"
    if is_signed and count > 32_767:
        count -= 65_536
    found.add_new("LUTDescriptor", kind, [count, table.first, table.bits])
    if table.kind == "list":
        found.add_new("LUTData", "US", table.entries.tolist())
        return found
    if table.kind == "words":
        content = table.entries.astype(f"{order}u2").tobytes()
    else:  # Two in a word, the first one low.
        whole = np.append(table.entries, np.zeros(len(table.entries) % 2, int))
        words = whole[::2] | (whole[1::2] << 8)
        content = words.astype(f"{order}u2").tobytes()
    found.add_new("LUTData", "OW", content)
    return found


def run_lengths(words: np.ndarray) -> bytes:
    """Literal runs, PS3.5 annex G: a segment for each byte, the highest first."""
    size = words.dtype.itemsize
    planes = words.astype(f">u{size}").tobytes()
    segments = []
    for number in range(size):
        plane = planes[number::size]
        runs = [plane[at : at + 128] for at in range(0, len(plane), 128)]
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + b"\x80" * (len(segment) % 2))
    places = np.cumsum([64, *map(len, segments)])[:-1].tolist()
    header = struct.pack("<16I", size, *places, *[0] * (15 - size))
    return header + b"".join(segments)


@pytest.mark.parametrize("first", range(0, COUNT, 64))
def test_the_picture_is_the_standard_s(first: int):
    wrong = []
    for seed in range(first, first + 64):
        case = draw(seed)
        expected = right(case)

        found = reader.read_image(write(case), dtype=np.uint8).astype(float)

        largest = np.abs(found - expected).max()
        if largest > 1:
            wrong.append((seed, largest, dataclasses.replace(case, stored=None)))

    assert not wrong, "\n".join(map(str, wrong))


def test_the_matrix_has_every_kind():
    cases: list[Any] = [draw(seed) for seed in range(COUNT)]

    seen = {
        (case.kind, case.is_signed, np.sign(case.slope or 1), case.function)
        for case in cases
        if case.windows and not case.table
    }
    assert len(seen) == 2 * 2 * 2 * 4
    assert {case.syntax for case in cases if case.table} == set(SYNTAXES)
    assert {case.table.bits for case in cases if case.table} == {8, 10, 12, 14, 16}
    assert {case.modality.bits for case in cases if case.modality} >= {8, 12, 16}
    assert {case.table.kind for case in cases if case.table} == {
        "words",
        "list",
        "packed",
    }
    assert sum(case.high >= case.bits for case in cases) > 50
    assert sum(len(case.padding) == 2 for case in cases) > 20
