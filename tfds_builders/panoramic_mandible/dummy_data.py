"""A made-up release of panoramic_mandible: real tree and quirks, no patient."""

from __future__ import annotations

import cv2
import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

HEIGHT, WIDTH = 44, 96


def write(folder: epath.Path, *, images: int = 40, seed: int = 0) -> None:
    """Writes the release.

    Args:
      folder: Gets a folder `DentalPanoramicXrays`.
      images: How many are readable, at least 10.
      seed: Another seed draws other images.
    """
    rng = np.random.default_rng(seed)
    root = folder / "DentalPanoramicXrays"
    for number in range(1, images + 1):
        inside = jaw(rng)
        picture = dummy_images.draw(rng, HEIGHT, WIDTH) // 2 + 20
        picture[inside] += 90
        mode = "RGB" if number % 3 == 0 else ""
        stored = picture.astype(np.uint16) * 256 + 99 if number % 10 == 4 else picture
        _write(root / f"Images/{number}.png", dummy_images.png(stored, mode))
        wider = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        for expert, region in ((1, inside), (2, wider)):
            if number == 5 and expert == 2:
                continue
            _mask(root / f"Segmentation{expert}", number, picture, region)
    _add_quirks(root)


def jaw(rng: np.random.Generator) -> np.ndarray:
    """A U, open above: bool [HEIGHT, WIDTH]."""
    centre = (rng.uniform(0.25, 0.35), rng.uniform(0.45, 0.55))
    outer = dummy_images.ellipse(HEIGHT, WIDTH, centre, (0.55, 0.4))
    inner = dummy_images.ellipse(HEIGHT, WIDTH, centre, (0.33, 0.28))
    below = np.arange(HEIGHT)[:, None] > 0.2 * HEIGHT
    return outer & ~inner & below


def _mask(
    folder: epath.Path, number: int, picture: np.ndarray, region: np.ndarray
) -> None:
    """Writes the radiograph, black outside the region and at a few pixels inside."""
    values = np.where(region, picture, 0).astype(np.uint8)
    rows, columns = np.nonzero(cv2.erode(region.astype(np.uint8), np.ones((3, 3))))
    values[rows[::40], columns[::40]] = 0
    if number == 7:
        size = (WIDTH // 2, HEIGHT // 2)
        values = cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT)
        values = np.asarray(values)
    suffix = ".jpg" if number == 8 else ".png"
    mode = "RGB" if number % 4 == 1 else ""
    _write(folder / f"{number}{suffix}", dummy_images.encode(values, suffix, mode))


def _add_quirks(root: epath.Path) -> None:
    """Files 901 to 906 that cannot be used, and one mask without an image."""
    picture = dummy_images.draw(np.random.default_rng(99), HEIGHT, WIDTH)
    whole = dummy_images.png(picture)
    black = dummy_images.png(np.zeros_like(picture))
    mask = (root / "Segmentation1" / "1.png").read_bytes()
    tall = picture[:, : HEIGHT // 2].copy()
    tall[:5] = 0
    contents = {
        901: (whole[:200], mask),
        902: (b"", mask),
        903: (whole, black),
        904: (whole, mask[:90]),
        905: (whole, dummy_images.png(tall)),
        906: (whole, whole),
    }
    for number, (image, region) in contents.items():
        _write(root / f"Images/{number}.png", image)
        for expert in (1, 2):
            _write(root / f"Segmentation{expert}/{number}.png", region)
    for expert in (1, 2):
        _write(root / f"Segmentation{expert}/990.png", mask)
    _write(root / "Images" / "._1.png", dummy_images.apple_double())
    _write(root / "Images" / "Thumbs.db", b"\xd0\xcf\x11\xe0")
