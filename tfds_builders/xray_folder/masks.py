"""Masks of a folder of X-rays: from a file's codes to indices of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from tfds_builders import xray_features
from tfds_builders.images import reader, sizes
from tfds_builders.sources import files
from tfds_builders.xray_folder import configuration

_THRESHOLD = 127  # of masks="threshold": half of the range of 8 bits


def read(
    config: configuration.XrayFolderConfig, path: epath.Path, height: int, width: int
) -> np.ndarray:
    """Reads a mask and fits it to its image.

    Args:
      config: Says what the pixels mean.
      path: The mask's file.
      height: Height of the image, pixels.
      width: Width of the image, pixels.

    Returns:
      Class index, 0 for background and 255 for not annotated, uint8 [height, width].

    Raises:
      reader.UnreadableImage: If it can't be read or has another shape than the image.
      ValueError: If it holds a value that is in no class.
    """
    if config.masks == "threshold":
        grey = reader.read_image(path, dtype=np.uint8)
        if 0 < grey.max() <= _THRESHOLD:
            raise ValueError(
                f"{path.name}: the mask is not empty, yet no pixel of it is bright. "
                f"{about(config, path)}"
            )
        mask = (grey > _THRESHOLD).astype(np.uint8)
    elif config.masks == "bits":
        mask = decode_bits(reader.read_mask(path), config.classes_of_masks())
    else:
        values = reader.read_mask(path)
        try:
            mask = decode_labels(values, config.classes_of_masks(), config.mask_unknown)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return sizes.fit_mask(mask, height, width)


def about(config: configuration.XrayFolderConfig, path: epath.Path) -> str:
    """What the pixels of a mask hold and how they were taken, for an error."""
    if config.masks == "threshold":
        values = np.unique(reader.read_image(path, dtype=np.uint8))
        taken = f"grey above {_THRESHOLD} is taken for the class"
    else:
        values = np.unique(reader.read_mask(path))
        taken = f"`mask_classes` is {config.classes_of_masks()}"
    shown = files.brief(map(str, values.tolist()), 8)
    return (
        f"For example {path.name} holds the values {shown}, and {taken}. If masks are "
        'drawn dark, in colours or by index, use masks="labels" with their values in '
        "`mask_classes`, or write them black and white."
    )


def decode_labels(
    values: np.ndarray, classes: Mapping[str, Sequence[int]], unknown: Sequence[int]
) -> np.ndarray:
    """Turns a map of values, integer [H, W], into indices of classes, uint8 [H, W].

    Raises:
      ValueError: If a value other than 0 is in no class and not unknown.
    """
    index = {0: 0, **dict.fromkeys(unknown, xray_features.NOT_ANNOTATED)}
    for position, members in enumerate(classes.values(), start=1):
        index.update(dict.fromkeys(members, position))
    present, place = np.unique(values, return_inverse=True)
    strangers = [int(value) for value in present if int(value) not in index]
    if strangers:
        raise ValueError(
            f"the mask holds values that are in no class: {strangers[:12]}. Put them "
            "into `mask_classes` or `mask_unknown`; if the mask is a grey image with "
            'blurred edges, use masks="threshold".'
        )
    codes = np.array([index[int(value)] for value in present], np.uint8)
    return codes[place].reshape(values.shape)


def decode_bits(values: np.ndarray, classes: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Turns a map of bits, integer [H, W], into indices of classes, uint8 [H, W].

    Where bits of several classes are set, the class that comes first wins.
    """
    mask = np.zeros(values.shape, np.uint8)
    for position, bits in reversed(list(enumerate(classes.values(), start=1))):
        mask[(values & sum(1 << bit for bit in bits)) != 0] = position
    return mask
