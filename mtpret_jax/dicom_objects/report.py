"""`sr`: a measurement report of TID 1500, with boxes and points as image regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from highdicom import sr
from highdicom.sr import CodedConcept

from mtpret_jax.dicom_objects import content, identity

_PROCEDURE = CodedConcept("363680008", "SCT", "Radiographic imaging procedure")
_TITLE = CodedConcept("126000", "DCM", "Imaging Measurement Report")
_FINDING_CERTAINTY = CodedConcept("111012", "DCM", "Certainty of Finding")
_IMAGE_CERTAINTY = CodedConcept("111013", "DCM", "Certainty of Impression")
_NAMES = {"Score": _FINDING_CERTAINTY, "Probability": _IMAGE_CERTAINTY}
_ANSWERS = {
    "yes": CodedConcept("373066001", "SCT", "Yes"),
    "no": CodedConcept("373067005", "SCT", "No"),
}
# Units that a set may name, in UCUM's codes.
_UNITS = {
    content.NUMBER: ("1", "no units"),
    content.PERCENT: ("%", "percent"),
    content.PIXELS: ("{pixels}", "pixels"),
    "months": ("mo", "month"),
    "years": ("a", "year"),
    "mm": ("mm", "millimeter"),
    "cm": ("cm", "centimeter"),
    "degrees": ("deg", "degree"),
}


def make(
    header: Any,
    maker: identity.Maker,
    findings: Sequence[content.Finding],
    options: dict[str, Any],
) -> sr.ComprehensiveSR:
    """The report of an image.

    Args:
      header: The source image's, by `source.read`.
      maker: The model.
      findings: What it says of the image.
      options: By `Maker.options`.
    """
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=maker.uid("device"),
        name="mtpret_jax",
        manufacturer_name="mtpret_jax",
        model_name=maker.name,
        serial_number=maker.digest,
    )
    observer = sr.ObserverContext(CodedConcept("121007", "DCM", "Device"), device)
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[
            _group(header, maker, finding, f"{options['sop_instance_uid']} {number}")
            for number, finding in enumerate(findings, start=1)
        ],
        title=_TITLE,
    )
    return sr.ComprehensiveSR(
        evidence=[header],
        content=report,
        is_complete=True,
        is_verified=False,
        coding_schemes=[identity.scheme()],
        **options,
    )


def _group(
    header: Any, maker: identity.Maker, finding: content.Finding, number: str
) -> Any:
    """The measurements of one finding, at its place where it has one."""
    tracked = sr.TrackingIdentifier(
        uid=maker.uid("finding", number), identifier=identity.text(finding.name)
    )
    shared: dict[str, Any] = {
        "tracking_identifier": tracked,
        "finding_type": identity.code(finding.name),
        "measurements": [
            sr.Measurement(_name(each), each.value, _unit(each.unit))
            for each in finding.measures
        ],
        "qualitative_evaluations": [
            sr.QualitativeEvaluation(
                identity.code(name), _ANSWERS.get(said) or identity.code(said)
            )
            for name, said in finding.said
        ],
    }
    refers = (header.SOPClassUID, header.SOPInstanceUID)
    if not len(finding.points):
        image = sr.SourceImageForMeasurementGroup(*refers)
        return sr.MeasurementsAndQualitativeEvaluations(source_images=[image], **shared)
    kinds = sr.GraphicTypeValues
    region = sr.ImageRegion(
        kinds.POINT if len(finding.points) == 1 else kinds.POLYLINE,
        finding.points,
        sr.SourceImageForRegion(*refers),
    )
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=region, **shared
    )


def _name(measure: content.Measure) -> CodedConcept:
    return _NAMES.get(measure.name) or identity.code(measure.name)


def _unit(unit: str) -> CodedConcept:
    """A unit of UCUM; one that is not in the table as its annotation, in braces."""
    value, meaning = _UNITS.get(unit, ("", ""))
    if not value:
        plain = "".join(c for c in unit if c.isascii() and c.isalnum())
        value, meaning = f"{{{plain[:14] or 'unit'}}}", identity.text(unit)
    return CodedConcept(value, "UCUM", meaning)
