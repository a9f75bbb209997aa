"""`gsps`: boxes, outlines and points as graphics that a viewer lays on the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from highdicom import PresentationLUTTransformation, pr
from pydicom import dataset

from mtpret_jax.dicom_objects import content, identity, source

_INVERTED = "MONOCHROME1"
_GREY = (_INVERTED, "MONOCHROME2")
_WINDOW = (
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
)
_RESCALE = ("RescaleIntercept", "RescaleSlope")
_PIXEL = pr.AnnotationUnitsValues.PIXEL


def make(
    header: Any, findings: Sequence[content.Finding], options: dict[str, Any]
) -> pr.GrayscaleSoftcopyPresentationState:
    """The graphics of an image, which is shown in the greys that its header asks for.

    Args:
      header: The source image's, by `source.read`.
      findings: What the model says of the image; what is to be shown is drawn.
      options: By `Maker.options`.

    Raises:
      source.Unfit: If the image is in colour.
    """
    if header.get("PhotometricInterpretation") not in _GREY:
        raise source.Unfit("the image is in colour, and such graphics lie on grey ones")
    layer = pr.GraphicLayer("MTPRET", order=1, description=identity.RESEARCH)
    drawn = [f for f in findings if f.is_shown and len(f.points)]
    texts = [_text(f.text, tuple(f.points[0])) for f in drawn if f.text]
    texts.append(_text(identity.RESEARCH, (0.0, 0.0)))
    annotation = pr.GraphicAnnotation(
        referenced_images=[header],
        graphic_layer=layer,
        graphic_objects=[_graphic(f) for f in drawn] or None,
        text_objects=texts,
    )
    is_inverted = header.PhotometricInterpretation == _INVERTED
    made = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[_without_greys(header)],
        content_label=identity.LABEL,
        content_description=identity.RESEARCH,
        graphic_annotations=[annotation],
        graphic_layers=[layer],
        presentation_lut_transformation=PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if is_inverted else "IDENTITY"
        ),
        **options,
    )
    made.Laterality = header.get("Laterality", "")
    _add_greys(made, header)
    _add_aspect(made.DisplayedAreaSelectionSequence[0], header)
    return made


def _graphic(finding: content.Finding) -> pr.GraphicObject:
    kinds = pr.GraphicTypeValues
    kind = kinds.POINT if len(finding.points) == 1 else kinds.POLYLINE
    return pr.GraphicObject(kind, finding.points, _PIXEL)


def _text(words: str, at: tuple[float, ...]) -> pr.TextObject:
    return pr.TextObject(
        identity.text(words),
        _PIXEL,
        anchor_point=(float(at[0]), float(at[1])),
        anchor_point_visible=False,
    )


def _without_greys(header: Any) -> dataset.Dataset:
    """A header without what `_add_greys` adds: highdicom knows fewer ways of it."""
    bare = dataset.Dataset()
    left_out = (*_WINDOW, *_RESCALE, "RescaleType")
    left_out += ("ModalityLUTSequence", "VOILUTSequence")
    for element in header:
        if element.keyword not in left_out:
            bare.add(element)
    return bare


def _add_greys(made: Any, header: Any) -> None:
    """Takes over the modality and VOI transformations, by the rules of the reader."""
    if "ModalityLUTSequence" in header:
        made.ModalityLUTSequence = header.ModalityLUTSequence[:1]
        for item in made.ModalityLUTSequence:
            item.ModalityLUTType = item.get("ModalityLUTType", "US")
    elif header.get("RescaleSlope"):
        made.RescaleIntercept = header.get("RescaleIntercept", 0)
        made.RescaleSlope = header.RescaleSlope
        made.RescaleType = header.get("RescaleType", "US")
    item = dataset.Dataset()
    if "VOILUTSequence" in header:
        item.VOILUTSequence = header.VOILUTSequence
    elif "WindowCenter" in header and _is_window(header):
        for name in _WINDOW:
            if name in header:
                item.add(header[name])
    if len(item):
        made.SoftcopyVOILUTSequence = [item]


def _is_window(header: Any) -> bool:
    """Whether the widths are those of windows; of LINEAR at least 1, else above 0."""
    widths = header.get("WindowWidth")
    if widths is None:
        return False
    widths = widths if isinstance(widths, Sequence) else [widths]
    is_linear = header.get("VOILUTFunction", "LINEAR") == "LINEAR"
    return all(w >= 1 if is_linear else w > 0 for w in map(float, widths))


def _add_aspect(area: Any, header: Any) -> None:
    """Shows pixels that are not square as they are: C.10.4 has one of both elements."""
    spacing = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    if spacing:
        del area.PresentationPixelAspectRatio
        area.PresentationPixelSpacing = spacing
    elif "PixelAspectRatio" in header:
        area.PresentationPixelAspectRatio = header.PixelAspectRatio
