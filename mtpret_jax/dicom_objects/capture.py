"""`sc`: the source with the answer drawn into it, as a picture in colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from highdicom import sc

from mtpret_jax.dicom_objects import identity
from mtpret_jax.inference import overlays

# As the source says it; what it does not say may be there.
_UNKNOWN = "YES"
_SAID = ("YES", "NO")
# Not the body part: whether it may have a laterality is the source's to know.
_KEPT = (
    "StudyDescription",
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "ImageLaterality",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "PixelSpacingCalibrationDescription",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)


def make(header: Any, drawn: np.ndarray, options: dict[str, Any]) -> sc.SCImage:
    """The picture of an image.

    Args:
      header: The source image's, by `source.read`.
      drawn: The source with the answer on it, uint8 [H, W, 3], red, green, blue; words
        on what it is for are written into its lower left corner.
      options: By `Maker.options`.
    """
    overlays.caption(drawn, identity.RESEARCH)
    # Its orientation is copied as it is: highdicom knows fewer words than there are.
    made = sc.SCImage(
        pixel_array=drawn,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        study_instance_uid=header.StudyInstanceUID,
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate,
        patient_sex=header.PatientSex,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate,
        study_time=header.StudyTime,
        referring_physician_name=header.ReferringPhysicianName,
        **options,
    )
    made.PatientOrientation = header.get("PatientOrientation", "")
    if "ImageLaterality" not in header:
        made.Laterality = header.get("Laterality", "")
    said = header.get("BurnedInAnnotation")
    made.BurnedInAnnotation = said if said in _SAID else _UNKNOWN
    made.ImageComments = identity.RESEARCH
    for name in _KEPT:
        if name in header:
            made.add(header[name])
    _add_aspect(made, header)
    _add_source(made, header)
    return made


def _add_aspect(made: Any, header: Any) -> None:
    """Says of pixels that are not square how they are, where no spacing does."""
    if "PixelSpacing" in header:
        return
    if "PixelAspectRatio" in header:
        made.PixelAspectRatio = header.PixelAspectRatio
    elif "ImagerPixelSpacing" in header:
        # Whole numbers; micrometres are fine enough for any detector.
        ratio = [round(1000 * float(side)) for side in header.ImagerPixelSpacing]
        if ratio[0] != ratio[1] and min(ratio) > 0:
            made.PixelAspectRatio = ratio


def _add_source(made: Any, header: Any) -> None:
    """Refers to the image that was drawn on."""
    from pydicom import dataset

    item = dataset.Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    made.SourceImageSequence = [item]
