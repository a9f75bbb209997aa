"""DICOM files of many kinds, each with one bright box whose place is known."""

import dataclasses
import io
import types
from typing import Any

import numpy as np
from pydicom import dataset, uid

from mtpret_jax import config
from mtpret_jax.inference import answers, preprocessing
from mtpret_jax.metrics import regression

COUNT = 200
CLASSES = ("background", "Verschattung, höher als 50 % der Lungenfläche", "heart")
SYNTAXES = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
IMAGES = {
    uid.ComputedRadiographyImageStorage: "CR",
    uid.DigitalXRayImageStorageForPresentation: "DX",
    uid.DigitalXRayImageStorageForProcessing: "DX",
    uid.DigitalMammographyXRayImageStorageForPresentation: "MG",
    uid.SecondaryCaptureImageStorage: "OT",
    uid.XRayAngiographicImageStorage: "XA",
    uid.XRayRadiofluoroscopicImageStorage: "RF",
    uid.CTImageStorage: "CT",
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage: "OT",
}
MULTI_FRAME = list(IMAGES)[5:7] + list(IMAGES)[8:]
SPACINGS = ((0.143, 0.143), (0.1, 0.35), (0.8, 0.2), (1 / 7, 1 / 3))
ORIENTATIONS = (["L", "F"], ["P", "F"], ["R", "H"], ["A", "FL"], ["AL", "FR"])


@dataclasses.dataclass(frozen=True)
class Phantom:
    """A file, its place x0, y0, x1, y1 and what its header says."""

    content: bytes
    box: tuple[int, int, int, int]
    header: dataset.Dataset
    bright: np.ndarray


def draw(seed: int) -> Phantom:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(40, 90, 2))
    x0, y0 = int(rng.integers(0, width - 12)), int(rng.integers(0, height - 12))
    x1 = int(rng.integers(x0 + 4, width + 1))
    y1 = int(rng.integers(y0 + 4, height + 1))
    share = np.add.outer(np.arange(height), np.arange(width)) / (height + width) / 2
    share[y0:y1, x0:x1] = 0.9
    data = _whose(rng, seed)
    _frame(rng, data, height, width)
    _pixels(rng, data, share)
    content = io.BytesIO()
    data.save_as(content, enforce_file_format=True)
    return Phantom(content.getvalue(), (x0, y0, x1, y1), data, share > 0.85)


def _whose(rng: np.random.Generator, seed: int) -> dataset.Dataset:
    data = dataset.Dataset()
    data.file_meta = dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = SYNTAXES[seed % len(SYNTAXES)]
    data.SOPClassUID = list(IMAGES)[seed % len(IMAGES)]
    data.Modality = IMAGES[data.SOPClassUID]
    data.StudyInstanceUID, data.SeriesInstanceUID = f"2.25.7{seed}", f"2.25.8{seed}"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{seed}"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    if rng.random() < 0.8:
        data.SpecificCharacterSet = ["ISO_IR 100", "ISO_IR 192"][seed % 2]
        data.PatientName = "Müßig^Ånne"
        data.StudyDescription = "Thorax stehend, größer"
    if rng.random() < 0.7:
        data.PatientID, data.PatientSex = f"p{seed}", str(rng.choice(["M", "F", "O"]))
        data.PatientBirthDate, data.StudyID = "19501231", "5"
        data.StudyDate, data.StudyTime = "20200229", "235959.123"
        data.AccessionNumber, data.InstanceNumber = "A1", int(rng.integers(0, 9))
    data.ReferringPhysicianName = "Who^Doctor"
    if said := rng.choice(["YES", "NO", ""]):
        data.BurnedInAnnotation = str(said)
    if part := rng.choice(["CHEST", "HAND", ""]):
        data.BodyPartExamined = str(part)
    if (side := rng.choice(["L", "R", "", "none"])) != "none":
        in_image = data.Modality in ("DX", "MG") and side
        setattr(data, "ImageLaterality" if in_image else "Laterality", str(side))
    block = data.private_block(0x0011, "SECRET", create=True)
    block.add_new(1, "LO", "private words")
    data.PatientComments = "lives next door"
    return data


def _frame(
    rng: np.random.Generator, data: dataset.Dataset, height: int, width: int
) -> None:
    data.Rows, data.Columns = height, width
    if data.SOPClassUID in MULTI_FRAME:
        data.NumberOfFrames = 1
    if rng.random() < 0.7:
        data.PatientOrientation = ORIENTATIONS[int(rng.integers(len(ORIENTATIONS)))]
    spacing = list(SPACINGS[int(rng.integers(len(SPACINGS)))])
    kind = rng.choice(["PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio", ""])
    is_plane = data.Modality == "CT" or rng.random() < 0.1
    if is_plane:
        data.ImagePositionPatient = [-10.5, 3.0, 40.0]
        data.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]][
            int(rng.integers(2))
        ]
        data.PixelSpacing = [f"{side:.6f}" for side in spacing]
        if rng.random() < 0.5:
            data.SliceThickness = 1
    elif kind == "PixelAspectRatio":
        data.PixelAspectRatio = [round(1000 * side) for side in spacing]
    elif kind:
        setattr(data, str(kind), [f"{side:.6f}" for side in spacing])
    if is_plane or rng.random() < 0.2:
        data.FrameOfReferenceUID = data.StudyInstanceUID + "1"
        data.PositionReferenceIndicator = ""


def _pixels(rng: np.random.Generator, data: dataset.Dataset, share: np.ndarray) -> None:
    bits = int(rng.choice([8, 10, 12, 14, 16]))
    is_signed = bool(bits > 8 and rng.random() < 0.3)
    allocated = 8 if bits == 8 else 16
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
    data.BitsAllocated, data.BitsStored, data.HighBit = allocated, bits, bits - 1
    data.PixelRepresentation = int(is_signed)
    if data.PhotometricInterpretation == "MONOCHROME1":
        share = 1 - share
    low = -(1 << (bits - 1)) if is_signed else 0
    stored = np.rint(low + share * ((1 << bits) - 1)).astype(np.int64)
    choice = rng.random()
    if choice < 0.3:
        data.WindowCenter, data.WindowWidth = low + (1 << (bits - 1)), 1 << bits
        data.VOILUTFunction = str(rng.choice(["LINEAR", "SIGMOID", "LINEAR_EXACT"]))
    elif choice < 0.4:
        data.WindowCenter, data.WindowWidth = 100, 0  # which no window has
    elif choice < 0.6 and not is_signed:
        data.VOILUTSequence = [_table(bits)]
    if rng.random() < 0.3:
        data.RescaleSlope, data.RescaleIntercept = "1", "0"
    elif rng.random() < 0.3 and not is_signed and choice >= 0.6:
        data.ModalityLUTSequence = [_table(bits)]
        data.ModalityLUTSequence[0].ModalityLUTType = "US"
    is_little = data.file_meta.TransferSyntaxUID.is_little_endian
    order = "<" if is_little else ">"
    words = (stored & ((1 << bits) - 1)).astype(f"{order}u{allocated // 8}")
    content = words.tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    data["PixelData"].VR = "OB" if allocated == 8 else "OW"
    if not is_little:
        for name in ("VOILUTSequence", "ModalityLUTSequence"):
            for item in data.get(name, ()):
                item.LUTData = (
                    np.frombuffer(item.LUTData, "<u2").astype(">u2").tobytes()
                )


def _table(bits: int) -> dataset.Dataset:
    item = dataset.Dataset()
    count = 1 << bits
    item.add_new("LUTDescriptor", "US", [count % 65_536, 0, 16])
    entries = np.linspace(0, 65_535, count).astype("<u2")
    item.add_new("LUTData", "OW", entries.tobytes())
    return item


def stub(kind: type[answers.Answers], **scale: Any) -> Any:
    """What `Writer` asks of a model, without a network."""
    classes = list(CLASSES)
    task = config.TaskConfig(kind="", dataset="", target="", exclusive=True)
    made = kind(classes, task, {}, regression.Scale(**scale))
    description = types.SimpleNamespace(decisions={}, run="run")
    return types.SimpleNamespace(
        answers=made,
        classes=classes,
        kind=kind.__name__.lower(),
        task="task",
        description=description,
        describe=lambda: {"weights_sha256": "0" * 64, "kind": kind.__name__},
        require_head=lambda: None,
    )


def answer(kind: type[answers.Answers], phantom: Phantom) -> answers.Answer:
    """A right answer for a phantom."""
    x0, y0, x1, y1 = phantom.box
    if kind is answers.Detection:
        row = {"class": CLASSES[1], "score": 0.875, "box": [x0, y0, x1, y1]}
        weak = {"class": CLASSES[2], "score": 0.125, "box": [0.0, 0.0, 1.5, 2.5]}
        return {"boxes": [row, weak]}
    if kind is answers.Segmentation:
        mask = phantom.bright.astype(np.uint8)
        share = dict.fromkeys(CLASSES, 0.25)
        return {"mask": mask, "share": share}
    if kind is answers.Landmarks:
        place = {"x": float(x0), "y": float(y1), "spread": 2.5}
        odd = {"x": float("nan"), "y": 1.0, "spread": 1.0}
        return {"landmarks": {CLASSES[0]: odd, CLASSES[1]: place, CLASSES[2]: place}}
    if kind is answers.Regression:
        return {"value": dict.fromkeys(CLASSES, 93.5), "unit": "months", "second": "M"}
    probability = dict(zip(CLASSES, (0.125, 0.75, 0.125), strict=True))
    return {"probability": probability, "predicted": CLASSES[1]}


def radiograph(phantom: Phantom) -> preprocessing.Radiograph:
    """What a phantom was read as, as far as `Writer` asks."""
    height, width = phantom.bright.shape
    none: Any = np.zeros((0,))
    return preprocessing.Radiograph(none, none, height, width, False, ())
