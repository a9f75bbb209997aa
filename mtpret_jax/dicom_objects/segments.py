"""`seg`: the mask as a binary segmentation, a segment for each class, on the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence, seg
from highdicom.sr import CodedConcept

from mtpret_jax.dicom_objects import identity
from mtpret_jax.inference import answers

NOT_SEEN = "not seen by the model"
# What a class is, nobody told the model: a place, whether organ or disease.
_CATEGORY = CodedConcept("309825002", "SCT", "Spatial and Relational Concept")
_FAMILY = CodedConcept("123109", "DCM", "Artificial Intelligence")


def make(
    header: Any,
    maker: identity.Maker,
    mask: np.ndarray,
    classes: Sequence[str],
    options: dict[str, Any],
) -> seg.Segmentation:
    """The masks of an image.

    Args:
      header: The source image's, by `source.read`.
      maker: The model.
      mask: Class of each pixel, uint8 [H, W]; `answers.NOT_SEEN` outside the network's
        square, which becomes a segment of its own where there is some.
      classes: Names, the background first, which is no segment.
      options: By `Maker.options`.
    """
    names = list(classes[1:])
    values = np.where(mask == answers.NOT_SEEN, 0, mask)
    if (mask == answers.NOT_SEEN).any():
        names.append(NOT_SEEN)
        values = np.where(mask == answers.NOT_SEEN, len(names), mask)
    algorithm = AlgorithmIdentificationSequence(maker.name, _FAMILY, maker.version)
    made = seg.Segmentation(
        source_images=[header],
        pixel_array=values.astype(np.uint8),
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            seg.SegmentDescription(
                segment_number=number,
                segment_label=identity.text(name),
                segmented_property_category=_CATEGORY,
                segmented_property_type=identity.code(name),
                algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
            )
            for number, name in enumerate(names, start=1)
        ],
        content_label=identity.LABEL,
        content_description=identity.RESEARCH,
        omit_empty_frames=False,
        coding_schemes=[identity.scheme()],
        **options,
    )
    made.PatientOrientation = header.get("PatientOrientation", "")
    shared = made.SharedFunctionalGroupsSequence[0]
    # Readers want a thickness beside the spacing, and projections have none; they then
    # take the spacing of the image that is referred to.
    if any("SliceThickness" not in m for m in shared.get("PixelMeasuresSequence", ())):
        del shared.PixelMeasuresSequence
    # Drawn anew for each object otherwise.
    dimensions = maker.uid("dimensions", header.SOPInstanceUID)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    # The library's index of its frames, which nobody asks, is never closed otherwise.
    if connection := getattr(made, "_db_con", None):
        connection.close()
    return made
