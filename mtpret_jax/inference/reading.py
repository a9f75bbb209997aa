"""One file or array to what the network takes, and how to lead its answer back."""

from __future__ import annotations

import dataclasses
import os
import stat

import numpy as np

from mtpret_jax.inference import predictor
from tfds_builders.images import content, polarity, reader, sizes

LONGEST_SIDE = 32_766  # pixels; OpenCV warps no longer ones
LARGEST_FILE = 512 << 20  # bytes; the largest radiographs have a quarter
Unreadable = reader.UnreadableImage
ERRORS = (Unreadable, OSError)  # of one file, after which others may well be read
Picture = str | os.PathLike[str] | np.ndarray
BLANK = "no content: one grey level, or almost"
_TYPES = {8: np.uint8, 16: np.uint16}


@dataclasses.dataclass(frozen=True)
class Radiograph:
    """A picture made ready.

    Attributes:
      image: Normalised, float32 [S, S, 1].
      matrix: From pixels (x, y, 1) of the file to those of the square, [3, 3].
      height: Of the file's picture, pixels.
      width: Likewise.
      is_blank: Whether it has no content.
      warnings: What is odd about it, in words.
    """

    image: np.ndarray
    matrix: np.ndarray
    height: int
    width: int
    is_blank: bool
    warnings: tuple[str, ...]


def read(picture: Picture, preparation: predictor.Preparation) -> Radiograph:
    """Reads a picture and does to it what training did.

    Args:
      picture: A file, or uint8 or uint16 [H, W], bright where rays were stopped.
      preparation: Of the network.

    Raises:
      reader.UnreadableImage: If the file holds no usable picture.
      OSError: If it can't be opened.
      TypeError: If an array is of another type or shape.
    """
    pixels, warnings = open_pixels(picture, bit_depth=preparation.bit_depth)
    if max(pixels.shape) > LONGEST_SIDE:
        raise reader.UnreadableImage(
            f"a side of {max(pixels.shape)} pixels; expected at most {LONGEST_SIDE}"
        )
    height, width = pixels.shape
    stored = sizes.shrink(pixels, preparation.longest_side, is_mask=False)
    is_blank = content.is_blank(stored)
    if is_blank:
        warnings += (BLANK,)
    # Of what is stored, as a builder asks it.
    if preparation.checks_polarity and polarity.looks_inverted(stored):
        warnings += (
            "looks inverted (bone dark, air bright): look at it and, of DICOM, at its "
            "PhotometricInterpretation",
        )
    image, matrix = preparation(stored)
    shrunk = np.diag([stored.shape[1] / width, stored.shape[0] / height, 1.0])
    return Radiograph(image, matrix @ shrunk, height, width, is_blank, warnings)


def open_pixels(
    picture: Picture, *, bit_depth: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """A picture's pixels, uint8 or uint16 [H, W], and what its header leaves open."""
    if isinstance(picture, np.ndarray):
        if picture.ndim != 2 or picture.dtype not in (np.uint8, np.uint16):
            raise TypeError(
                "Expected a picture of uint8 or uint16 [H, W], got "
                f"{picture.dtype} {list(picture.shape)}."
            )
        if not picture.size:
            raise reader.UnreadableImage(f"no pixels: {list(picture.shape)}")
        wanted = _TYPES[bit_depth]
        scale = np.iinfo(wanted).max / np.iinfo(picture.dtype).max
        return np.rint(picture * scale).astype(wanted), ()
    found = os.stat(picture)
    if stat.S_ISDIR(found.st_mode):
        raise reader.UnreadableImage("a folder, not a file")
    if found.st_size > LARGEST_FILE:
        raise reader.UnreadableImage(
            f"{found.st_size:,} bytes; expected at most {LARGEST_FILE:,}"
        )
    return reader.read_with_notes(os.fspath(picture), dtype=_TYPES[bit_depth])
