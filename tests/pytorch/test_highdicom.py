# pyright: reportMissingImports=false
"""Generated DICOM files: highdicom's greys are those of our reader."""

import os
import pathlib

import highdicom
import numpy as np
import pydicom

FOLDER = pathlib.Path(os.environ["EXPORTED"], "dicom")


def _read(path: pathlib.Path) -> np.ndarray:
    """Greys by highdicom, stretched; padding, which it leaves as it is, is 0."""
    data = pydicom.dcmread(path)
    # What it wants of every file, and ours, which show no patient, have not.
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2", "1.3"
    data.PatientID = data.PatientName = "none"
    image = highdicom.Image.from_dataset(data)
    grey = image.get_frame(
        1,
        apply_real_world_transform=False,
        apply_modality_transform=None,
        apply_voi_transform=None,
        apply_presentation_lut=True,
        voi_output_range=(0.0, 1.0),
    ).astype(float)
    is_valid = np.ones(grey.shape, bool)
    if "PixelPaddingValue" in data:
        first = data.PixelPaddingValue
        ends = sorted((first, data.get("PixelPaddingRangeLimit", first)))
        is_valid = (data.pixel_array < ends[0]) | (data.pixel_array > ends[1])
    if not is_valid.any() or np.ptp(grey[is_valid]) == 0:
        return np.zeros(grey.shape)
    low, high = grey[is_valid].min(), grey[is_valid].max()
    return np.where(is_valid, (grey - low) / (high - low) * 255, 0)


def test_greys_are_highdicoms():
    with np.load(FOLDER / "pictures.npz") as pictures:
        ours = {seed: pictures[seed].astype(float) for seed in pictures.files}
    flat, far = 0, {}
    for seed, picture in ours.items():
        theirs = _read(FOLDER / f"{seed}.dcm")
        if not theirs.any():  # A window that shows one grey: ours shows all of it.
            flat += 1
        elif np.abs(picture - theirs).max() > 2:
            far[seed] = np.abs(picture - theirs).max()

    assert len(ours) > 100
    assert flat < 0.1 * len(ours)
    assert not far
