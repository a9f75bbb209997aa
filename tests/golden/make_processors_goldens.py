# pyright: reportMissingImports=false
"""Phantoms as the processors of RAD-DINO and torchxrayvision prepare them.

The pixels come back as grey levels of 255, before mean and deviation.
"""

import pathlib
import sys
from collections.abc import Sequence

import numpy as np
import phantoms
import torchxrayvision
from transformers.models.bit import image_processing_pil_bit

PATH = pathlib.Path(__file__).with_name("processors.npz")
SHAPES = ((300, 225), (171, 240), (200, 200), (40, 51))
RAD_DINO, XRAYVISION = 84, 56  # sides, pixels


def pictures(shapes: Sequence[tuple[int, int]] = SHAPES) -> list[np.ndarray]:
    """Phantoms of these shapes, uint8 [H, W]."""
    made = []
    for number, (height, width) in enumerate(shapes):
        image = phantoms.images(1, max(height, width), f"processor {number}")[0, ..., 0]
        made.append(np.rint(image[:height, :width] * 100 + 90).clip(0, 255))
    return [image.astype(np.uint8) for image in made]


def rad_dino(picture: np.ndarray, size: int) -> np.ndarray:
    """By transformers' processor that RAD-DINO names, on Pillow: float32 [S, S].

    The one on torchvision rounds otherwise: here and there by two grey levels.
    """
    processor = image_processing_pil_bit.BitImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        resample=3,
        image_mean=[0.5307] * 3,
        image_std=[0.2583] * 3,
    )
    colours = np.repeat(picture[..., None], 3, -1)
    made = processor(colours, return_tensors="np")["pixel_values"][0]
    return (made[0] * 0.2583 + 0.5307) * 255


def xrayvision(picture: np.ndarray, size: int) -> np.ndarray:
    """By torchxrayvision's own transforms: float32 [S, S]."""
    image = torchxrayvision.datasets.normalize(picture, 255)[None]
    image = torchxrayvision.datasets.XRayCenterCrop()(image)
    made = torchxrayvision.datasets.XRayResizer(size)(image)
    return (made[0] / 1024 + 1) * 127.5


def prepare(
    given: Sequence[np.ndarray], rad_dino_size: int, xrayvision_size: int
) -> dict[str, np.ndarray]:
    """What both make of each picture, in hundredths of a grey level."""
    arrays = {}
    for number, picture in enumerate(given):
        for name, make, size in (
            ("bicubic", rad_dino, rad_dino_size),
            ("gaussian", xrayvision, xrayvision_size),
        ):
            found = np.rint(make(picture, size) * 100).astype(np.int16)
            arrays[f"{name}_{number}"] = found
    return arrays


if __name__ == "__main__":
    if len(sys.argv) == 3:  # Of benchmarks/processors.py, at their own sizes.
        with np.load(sys.argv[1]) as file:
            given = list(file.values())
        np.savez(sys.argv[2], **prepare(given, 518, 224))
    else:
        made = prepare(pictures(), RAD_DINO, XRAYVISION)
        np.savez_compressed(PATH, **made)
