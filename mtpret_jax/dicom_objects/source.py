"""The header of a source image: what objects take over from it, and nothing else."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pydicom
from pydicom import dataset, uid, valuerep

from tfds_builders.images import limits, reader

UNICODE = "ISO_IR 192"  # UTF-8: classes may have any name
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_TEXTS = ("PatientID", "AccessionNumber", "StudyID")
_NAMES = ("PatientName", "ReferringPhysicianName")
_DAYS = {
    "PatientBirthDate": valuerep.DA,
    "StudyDate": valuerep.DA,
    "StudyTime": valuerep.TM,
}
_SEXES = ("M", "F", "O")
# Taken over where they have a value: of the patient and study, then of the image.
_KEPT = (
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "StudyDescription",
    "Modality",
    "Laterality",
    "ImageLaterality",
    "InstanceNumber",
    "PatientOrientation",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "NumberOfFrames",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "PixelSpacingCalibrationDescription",
    "ImagerPixelSpacing",
    "PixelAspectRatio",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "BurnedInAnnotation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
)
_TABLES = ("ModalityLUTSequence", "VOILUTSequence")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
_PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness")
_HEAD = 132  # bytes up to and with DICOM's mark


class Unfit(ValueError):
    """No object can be made; the message is the reason, printable."""

    def __init__(self, reason: str) -> None:
        super().__init__(limits.printable(reason))


def read(path: str) -> Any:
    """What objects take over from an image's header, as a clean data set.

    Texts are decoded, to be written as `UNICODE`; what is invalid, empty, private or
    not needed is left out. Elements that objects must have are there, perhaps empty.

    Args:
      path: A file that was read as an image.

    Raises:
      Unfit: If it is no DICOM file, or has not what an object must refer to.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not reader.is_dicom(head, os.path.basename(path).lower()):
        raise Unfit("not a DICOM file, so there is nothing to refer to")
    wanted = (*_UIDS, *_TEXTS, *_NAMES, *_DAYS, "PatientSex", *_KEPT, *_TABLES)
    data = pydicom.dcmread(
        path,
        force=True,
        stop_before_pixels=True,
        specific_tags=[*wanted, "SpecificCharacterSet"],
    )
    header = dataset.Dataset()
    for name in _UIDS:
        value = uid.UID(str(data.get(name) or ""))
        if not value or not value.is_valid:
            said = limits.printable(str(value), 64) if value else "missing"
            raise Unfit(f"its {name} is {said}, so nothing can refer to it")
        setattr(header, name, value)
    _add_patient(header, data)
    for name in _KEPT:
        if name in data and not data[name].is_empty:
            header.add(data[name])
    _check_geometry(header)
    for name in _TABLES:
        if items := [item for item in data.get(name) or () if item.get("LUTData")]:
            is_little = not data.file_meta.get("TransferSyntaxUID") or (
                data.file_meta.TransferSyntaxUID.is_little_endian
            )
            made = [_table(item, is_little=is_little) for item in items]
            setattr(header, name, made)
    return header


def _add_patient(header: dataset.Dataset, data: Any) -> None:
    """Adds who and which study it is of, in values that may be empty."""
    for name in _TEXTS:
        setattr(header, name, str(data.get(name) or ""))
    for name in _NAMES:
        setattr(header, name, valuerep.PersonName(str(data.get(name) or "")))
    for name, kind in _DAYS.items():
        try:
            setattr(header, name, str(kind(data.get(name) or "") or ""))
        except ValueError:  # Such as "unknown".
            setattr(header, name, "")
    sex = str(data.get("PatientSex") or "").strip()
    header.PatientSex = sex if sex in _SEXES else ""


def _check_geometry(header: dataset.Dataset) -> None:
    """Leaves out spacings that are none, and a plane that is not whole.

    A plane has a thickness; projections, which have none, have no plane either.
    """
    for name in _SPACINGS:
        value = header.get(name)
        if value is not None and (np.size(value) != 2 or min(value) <= 0):
            delattr(header, name)
    ratio = header.get("PixelAspectRatio")
    if ratio is not None and (np.size(ratio) != 2 or ratio[0] == ratio[1]):
        del header.PixelAspectRatio
    is_plane = all(name in header for name in (*_PLANE, _SPACINGS[0]))
    if not is_plane or "NumberOfFrames" in header:
        for name in _PLANE:
            header.pop(name, None)
    # Where highdicom looks, in kinds of images that may have several frames.
    measures = dataset.Dataset()
    if _SPACINGS[0] in header:
        measures.PixelSpacing = header.PixelSpacing
    shared = dataset.Dataset()
    shared.PixelMeasuresSequence = [measures]
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = [dataset.Dataset()]
    header.NumberOfFrames = 1


def _table(item: Any, *, is_little: bool) -> dataset.Dataset:
    """A look-up table as explicit little endian has it."""
    order = "<" if is_little else ">"
    descriptor, content = item.LUTDescriptor, item.LUTData
    if isinstance(descriptor, bytes):
        descriptor = np.frombuffer(descriptor, f"{order}u2").tolist()
    if not isinstance(content, bytes):
        content = np.atleast_1d(np.asarray(content, np.int64)) & 0xFFFF
        content = content.astype("<u2").tobytes()
    elif not is_little:
        content = np.frombuffer(content, ">u2").astype("<u2").tobytes()
    made = dataset.Dataset()
    numbers = [int(number) for number in descriptor]
    kind = "SS" if min(numbers) < 0 else "US"
    made.add_new("LUTDescriptor", kind, numbers)
    made.add_new("LUTData", "OW", content)
    for name in ("LUTExplanation", "ModalityLUTType"):
        if item.get(name):
            made.add(item[name])
    return made
