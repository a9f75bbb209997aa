"""DICOM: palettes, colours, compressed twins, what is empty, a decoder that crashes."""

import io
import os
import pathlib
import pickle
import signal
import struct
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import dataset, encaps, uid

from tfds_builders.images import dicom_decoders, reader

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
FILES = pathlib.Path(pydicom.__file__).parent / "data" / "test_files"


def make(values: np.ndarray = RAMP, **changes: Any) -> dataset.Dataset:
    """A radiograph of the values, explicit little endian."""
    data = dataset.Dataset()
    data.file_meta = dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPClassUID = uid.SecondaryCaptureImageStorage
    data.SOPInstanceUID = "1.2.3"
    data.Modality, data.PhotometricInterpretation = "DX", "MONOCHROME2"
    data.SamplesPerPixel, data.PixelRepresentation = 1, int(values.dtype.kind == "i")
    data.Rows, data.Columns = values.shape[:2]
    data.BitsAllocated = data.BitsStored = 8 * values.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelData = values.astype(f"<{values.dtype.str[1:]}").tobytes()
    data["PixelData"].VR = "OW"
    for name, value in changes.items():
        setattr(data, name, value)
    return data


def content(data: dataset.Dataset) -> bytes:
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read(data: dataset.Dataset) -> tuple[np.ndarray, str]:
    image, notes = reader.read_with_notes(content(data), dtype=np.uint8)
    return image.astype(int), "; ".join(notes)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("first", [0, 40])
def test_a_palette_gives_the_grey_of_its_colours(bits: int, first: int):
    rng = np.random.default_rng(bits + first)
    colours = rng.integers(0, 1 << bits, (3, 200))
    data = make(RAMP.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name, entries in zip(("Red", "Green", "Blue"), colours, strict=True):
        table = f"{name}PaletteColorLookupTable"
        setattr(data, f"{table}Descriptor", [200, first, bits])
        setattr(data, f"{table}Data", entries.astype(f"<u{bits // 8}").tobytes())

    found, notes = read(data)

    at = np.clip(RAMP.astype(int) - first, 0, 199)
    grey = np.tensordot([0.299, 0.587, 0.114], colours[:, at], 1)
    expected = (grey - grey.min()) / np.ptp(grey) * 255
    np.testing.assert_allclose(found, expected, atol=2)
    assert notes == ""


def test_a_palette_in_segments_is_read():
    data = make(RAMP.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    # One entry of 0, then a line to 255 over 255 entries.
    segments = struct.pack("<6H", 0, 1, 0, 1, 255, 255 * 257)
    for name in ("Red", "Green", "Blue"):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(data, f"Segmented{name}PaletteColorLookupTableData", segments)

    np.testing.assert_allclose(read(data)[0], RAMP, atol=1)


def test_a_palette_that_is_not_there_is_a_reason():
    data = make(RAMP.astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")

    with pytest.raises(reader.UnreadableImage, match="DICOM"):
        read(data)


def test_colours_become_grey():
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    data = make(colours, PhotometricInterpretation="RGB", SamplesPerPixel=3)

    grey = colours @ np.array([0.299, 0.587, 0.114])

    expected = (grey - grey.min()) / np.ptp(grey) * 255
    np.testing.assert_allclose(read(data)[0], expected, atol=1.5)


GDCM = [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless]


@pytest.mark.parametrize("syntax", GDCM, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_compressed_twins_are_equal(
    syntax: str, is_signed: bool, bits: int, kind: str, tmp_path: pathlib.Path
):
    import gdcm

    rng = np.random.default_rng(bits)
    low = -(1 << (bits - 1)) if is_signed else 0
    size = 1 if bits == 8 else 2
    values = rng.integers(low, low + (1 << bits), (32, 48))
    values = values.astype(f"{'i' if is_signed else 'u'}{size}")
    data = make(
        values,
        BitsStored=bits,
        HighBit=bits - 1,
        PhotometricInterpretation=kind,
        RescaleSlope="-2",
        RescaleIntercept="7",
        WindowCenter="0",
        WindowWidth=str(1 << bits),
    )
    stored = values.astype(np.int64) & ((1 << bits) - 1)  # as the standard asks
    data.PixelData = stored.astype(f"<u{size}").tobytes()
    plain = tmp_path / "plain.dcm"
    plain.write_bytes(content(data))
    source = gdcm.ImageReader()
    source.SetFileName(str(plain))
    assert source.Read()
    change = gdcm.ImageChangeTransferSyntax()
    kinds = gdcm.TransferSyntax
    change.SetTransferSyntax(kinds(kinds.GetTSType(str(syntax))))
    change.SetInput(source.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(source.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    assert writer.Write()

    found = reader.read_image(tmp_path / "packed.dcm", dtype=np.uint16)

    assert (
        pydicom.dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID == syntax
    )
    np.testing.assert_array_equal(found, reader.read_image(plain, dtype=np.uint16))


@pytest.mark.parametrize(
    "name",
    ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "expb"],
)
def test_twins_of_other_makers_are_equal(name: str):
    plain = reader.read_image(FILES / "MR_small.dcm", dtype=np.uint16)

    found = reader.read_image(FILES / f"MR_small_{name}.dcm", dtype=np.uint16)

    np.testing.assert_array_equal(found, plain)


def test_jpeg_of_twelve_bits_is_read():
    found = reader.read_image(FILES / "JPGExtended.dcm", dtype=np.uint16)

    assert found.shape == (1024, 256)
    assert len(np.unique(found)) > 200  # Of the 265 greys in it.
    assert found.max() == 65_535


def test_overlay_bits_in_jpeg_2000_are_left_out(tmp_path: pathlib.Path):
    from PIL import Image

    values = (RAMP * 16).astype(np.uint16)
    overlay = np.random.default_rng(0).integers(0, 16, RAMP.shape).astype(np.uint16)
    words = values | overlay << 12
    file = io.BytesIO()
    Image.fromarray(words).save(file, "JPEG2000", irreversible=False)
    data = make(values, BitsStored=12, HighBit=11)
    plain, _ = read(data)
    data.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless
    data.PixelData = encaps.encapsulate([file.getvalue()])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True

    found, notes = read(data)

    np.testing.assert_array_equal(found, plain)
    assert "bits outside of BitsStored" in notes


@pytest.mark.parametrize(
    "name",
    [
        "RescaleSlope",
        "RescaleIntercept",
        "WindowCenter",
        "WindowWidth",
        "VOILUTFunction",
        "VOILUTSequence",
        "ModalityLUTSequence",
        "NumberOfFrames",
        "PixelPaddingValue",
        "BitsStored",
        "HighBit",
        "PlanarConfiguration",
    ],
)
def test_an_element_that_is_there_but_empty_is_as_if_absent(name: str):
    empty = make()
    setattr(empty, name, [] if name.endswith("Sequence") else None)

    found, notes = read(empty)

    np.testing.assert_array_equal(found, RAMP)
    assert "there but empty, taken as absent" in notes
    assert name in notes


@pytest.mark.parametrize(
    "name",
    [
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PixelRepresentation",
        "BitsAllocated",
    ],
)
def test_what_the_pixels_mean_is_not_guessed(name: str):
    empty, absent = make(), make()
    setattr(empty, name, None)
    delattr(absent, name)

    with pytest.raises(reader.UnreadableImage, match=f"{name}: empty"):
        read(empty)
    with pytest.raises(reader.UnreadableImage, match=f"{name}: missing"):
        read(absent)


def test_padding_is_dark_and_no_part_of_the_range():
    values = np.where(RAMP < 32, 4000, RAMP + 100).astype(np.uint16)
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        data = make(values, PhotometricInterpretation=kind)
        data.add_new("PixelPaddingValue", "US", 4000)

        found, _ = read(data)

        assert (found[RAMP < 32] == 0).all()
        shown = found[RAMP >= 32]
        assert (shown.min(), shown.max()) == (0, 255)
        assert (shown[0] < shown[-1]) == (kind == "MONOCHROME2")


def test_padding_beyond_bits_stored_is_dark():
    values = np.where(RAMP < 32, 0xF000, RAMP + 100).astype(np.uint16)
    data = make(values, BitsStored=12, HighBit=11)
    data.add_new("PixelPaddingValue", "US", 0xF000)

    found, _ = read(data)

    assert (found[RAMP < 32] == 0).all()
    shown = found[RAMP >= 32]
    np.testing.assert_allclose(shown, (np.arange(224) / 223 * 255), atol=1)


def test_nothing_but_padding_is_noted():
    data = make(np.full((16, 16), 9, np.uint16))
    data.add_new("PixelPaddingValue", "US", 9)

    found, notes = read(data)

    assert not found.any()
    assert "nothing but padding" in notes


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian]
)
def test_no_transfer_syntax_is_noted(syntax: str):
    data = make()
    file = io.BytesIO()
    is_implicit = syntax == uid.ImplicitVRLittleEndian
    is_little = syntax != uid.ExplicitVRBigEndian
    if not is_little:
        data.PixelData = RAMP.astype(">u2").tobytes()
    del data.file_meta
    data.save_as(file, implicit_vr=is_implicit, little_endian=is_little)

    found, notes = reader.read_with_notes(
        bytes(128) + b"DICM" + file.getvalue(), dtype=np.uint8
    )

    np.testing.assert_array_equal(found, RAMP)
    assert any("no Transfer Syntax UID: read as" in note for note in notes)


def test_a_decoder_that_crashes_costs_one_file():
    path = FILES / "MR_small_jpeg_ls_lossless.dcm"
    before = reader.read_image(path, dtype=np.uint8)
    dicom_decoders._process()._child.kill()

    with pytest.raises(reader.UnreadableImage, match="gdcm, crashed"):
        reader.read_image(path, dtype=np.uint8)

    np.testing.assert_array_equal(reader.read_image(path, dtype=np.uint8), before)


def test_a_decoder_that_hangs_costs_one_file(monkeypatch):
    path = FILES / "MR_small_jpeg_ls_lossless.dcm"
    before = reader.read_image(path, dtype=np.uint8)
    os.kill(dicom_decoders._process()._child.pid, signal.SIGSTOP)
    monkeypatch.setattr(dicom_decoders, "_LONGEST", 0.5)

    with pytest.raises(reader.UnreadableImage, match="took too long"):
        reader.read_image(path, dtype=np.uint8)

    monkeypatch.undo()
    np.testing.assert_array_equal(reader.read_image(path, dtype=np.uint8), before)


def test_a_decoder_that_is_missing_is_named(monkeypatch):
    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("gdcm")

    monkeypatch.setattr(dicom_decoders, "_answer", missing)
    asked, told = io.BytesIO(), io.BytesIO()
    dicom_decoders._send(asked, (str(uid.JPEGLSLossless), {}, b""))
    asked.seek(0)

    dicom_decoders._serve(asked, told)

    _, reason = pickle.loads(told.getvalue()[8:])
    assert "needs python-gdcm, which the extra `dicom` installs" in reason
