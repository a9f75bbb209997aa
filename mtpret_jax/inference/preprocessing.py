"""One file or array to what the network takes, and how to lead its answer back."""

from __future__ import annotations

import dataclasses
import os
import stat

import cv2
import numpy as np

from mtpret_jax.data import transforms
from mtpret_jax.inference import description
from mtpret_jax.ops import views
from tfds_builders.images import content, polarity, reader, sizes

LONGEST_SIDE = 32_766  # pixels; OpenCV warps no longer ones
LARGEST_FILE = 512 << 20  # bytes; the largest radiographs have a quarter
Unreadable = reader.UnreadableImage
ERRORS = (Unreadable, OSError)  # of one file, after which others may well be read
Image = str | os.PathLike[str] | np.ndarray
BLANK = "no content: one grey level, or almost"
_TYPES = {8: np.uint8, 16: np.uint16}


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What is done to an image before the network sees it.

    Attributes:
      image_size: Side of the square input, pixels.
      fit: How the image lies in it; see `transforms.fit`.
      statistics: Mean and deviation of intensities in [0, 1], two numbers or, fixed,
        of each channel; None: the image's own.
      longest_side: Side to which longer images are shrunk before, pixels; 0: none is.
      bit_depth: Bits of a pixel, 8 or 16.
      checks_polarity: Whether what looks inverted is told.
      resample: How the image becomes smaller; see `config.InputConfig`.
    """

    image_size: int
    fit: str
    statistics: transforms.Statistics | None
    longest_side: int
    bit_depth: int
    checks_polarity: bool = True
    resample: str = "area"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the network's input; channels are 1 where all are alike."""
        channels = np.size(self.statistics[0]) if self.statistics else 1
        return (self.image_size, self.image_size, channels)

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fits an image to the square and normalises it.

        Args:
          picture: Not longer than `longest_side`, uint8 or uint16 [H, W].

        Returns:
          float32, of `shape`, and the matrix from the image to the square, float64
          [3, 3].
        """
        view = transforms.plain_view(
            picture, size=self.image_size, mode=self.fit, resample=self.resample
        )
        image, statistics = transforms.to_input(view, statistics=self.statistics)
        batch = {"image": image[None], "image_statistics": statistics[None]}
        return views.normalise(batch)["image"][0], view.matrix

    @classmethod
    def of(cls, described: description.Description, task: str) -> Preparation:
        """Does what training did for a task, or for the backbone alone, "".

        Raises:
          ValueError: If statistics of a set are needed and not known.
        """
        statistics: transforms.Statistics | None = None
        prepared = described.prepared_for(task)
        if described.normalisation == "dataset":
            if prepared.pixel_mean is None or prepared.pixel_std is None:
                raise ValueError(
                    "config.input.normalisation was 'dataset', and the description "
                    "has no mean and deviation of it. Prepare the sets again with "
                    "--rebuild and do the run again, or take another run."
                )
            deviation = float(prepared.pixel_std) + transforms.EPSILON
            statistics = (float(prepared.pixel_mean), deviation)
        elif described.normalisation == "fixed":
            statistics = described.fixed.statistics
        return cls(
            image_size=described.side(task),
            fit=described.fit,
            statistics=statistics,
            longest_side=prepared.longest_side,
            bit_depth=prepared.bit_depth,
            checks_polarity=prepared.checks_polarity,
            resample=described.resample,
        )


@dataclasses.dataclass(frozen=True)
class Radiograph:
    """An image that was prepared.

    Attributes:
      image: Normalised, float32 [S, S, 1] or, of channels that differ, [S, S, C].
      matrix: From pixels (x, y, 1) of the file to those of the square, [3, 3].
      height: Height of the file's image, pixels.
      width: Width of the file's image, pixels.
      is_blank: Whether it has no content.
      warnings: What is odd about it, in words.
      second: Index of the class that is told beside it; -1: not known.
    """

    image: np.ndarray
    matrix: np.ndarray
    height: int
    width: int
    is_blank: bool
    warnings: tuple[str, ...]
    second: int = -1

    def to_file(
        self, square: np.ndarray, *, interpolation: int, outside: int = 0
    ) -> np.ndarray:
        """Lays what covers the square, [h, w], on the pixels of the file, [H, W].

        Args:
          square: A grid over the network's input.
          interpolation: A constant of OpenCV.
          outside: Value where the file reaches out of the square.
        """
        cell = len(self.image) / np.array(square.shape[::-1], float)
        matrix = np.diag([1 / cell[0], 1 / cell[1], 1.0]) @ self.matrix
        # OpenCV's coordinates are of pixel centres.
        centred = matrix[:2].copy()
        centred[:, 2] += 0.5 * (matrix[:2, 0] + matrix[:2, 1]) - 0.5
        return cv2.warpAffine(
            square,
            centred,
            (self.width, self.height),
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=outside,
        )


def read(image: Image, preparation: Preparation) -> Radiograph:
    """Reads an image and does to it what training did.

    Args:
      image: A file, or uint8 or uint16 [H, W], bright where rays were stopped.
      preparation: The network's.

    Raises:
      reader.UnreadableImage: If the file holds no usable image.
      OSError: If it can't be opened.
      TypeError: If an array is of another type or shape.
    """
    pixels, warnings = open_pixels(image, bit_depth=preparation.bit_depth)
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
    square, matrix = preparation(stored)
    shrunk = np.diag([stored.shape[1] / width, stored.shape[0] / height, 1.0])
    return Radiograph(square, matrix @ shrunk, height, width, is_blank, warnings)


def open_pixels(image: Image, *, bit_depth: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """An image's pixels, uint8 or uint16 [H, W], and what its header leaves open."""
    if isinstance(image, np.ndarray):
        if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
            raise TypeError(
                "Expected an image of uint8 or uint16 [H, W], got "
                f"{image.dtype} {list(image.shape)}."
            )
        if not image.size:
            raise reader.UnreadableImage(f"no pixels: {list(image.shape)}")
        wanted = _TYPES[bit_depth]
        scale = np.iinfo(wanted).max / np.iinfo(image.dtype).max
        return np.rint(image * scale).astype(wanted), ()
    found = os.stat(image)
    if stat.S_ISDIR(found.st_mode):
        raise reader.UnreadableImage("a folder, not a file")
    if found.st_size > LARGEST_FILE:
        raise reader.UnreadableImage(
            f"{found.st_size:,} bytes; expected at most {LARGEST_FILE:,}"
        )
    return reader.read_with_notes(os.fspath(image), dtype=_TYPES[bit_depth])
