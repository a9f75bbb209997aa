"""A made-up release of chest_xray_masks: real tree, names and quirks, no patient."""

from __future__ import annotations

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

_write = dummy_images.write

HEIGHT, WIDTH = 48, 44
_SHENZHEN = (
    "male 45yrs\nnormal",
    "female24yrs\r\nSTB",
    "femal 32yrs\nnormal",
    "male , 29yrs  \t\nbilateral PTB",
    "male 16month\nnormal",
    "Female, 28yrs\nPTB \xe0 gauche",
)
_MONTGOMERY = "Patient's Sex: {} \r\nPatient's Age: {:03d}Y\r\n{}\r\n"


def write(folder: epath.Path, *, images: int = 48, seed: int = 0) -> None:
    """Writes the release.

    Args:
      folder: Gets `Lung Segmentation` and `data/Lung Segmentation`.
      images: How many are readable, at least 24; five in six have a mask.
      seed: Another seed draws other images.
    """
    rng = np.random.default_rng(seed)
    root = folder / "Lung Segmentation"
    for index in range(images):
        has_tb = index % 2
        home = "MCUCXR" if index % 4 >= 2 else "CHNCXR"
        name = f"{home}_{index + 1:04d}_{has_tb}"
        inside = lungs(rng)
        spots = [(0.4, 0.3), (0.6, 0.7)] if has_tb else []
        picture = dummy_images.draw(rng, HEIGHT, WIDTH, spots)
        picture[inside] //= 2
        mode = "" if home == "MCUCXR" else ("RGB", "RGBA")[index // 4 % 2]
        stored = picture.astype(np.uint16) * 16 if index % 12 == 3 else picture
        content = dummy_images.png(stored, mode)
        _write(root / "CXR_png" / f"{name}.png", content)
        _write(root / "ClinicalReadings" / f"{name}.txt", _reading(home, index))
        if home == "CHNCXR" and index % 12 in (4, 9):
            # These have no mask, and lie in a folder test as well.
            _write(root / "test" / f"{name}.png", content)
            continue
        suffix = "_mask" if home == "CHNCXR" else ""
        mask = dummy_images.png(
            (inside * 255).astype(np.uint8), ("", "1", "RGB")[index % 3]
        )
        _write(root / "masks" / f"{name}{suffix}.png", mask)
    _add_quirks(root)
    for path in sorted(root.glob("*/*_*.*")):
        copy = folder / "data" / "Lung Segmentation" / path.parent.name / path.name
        _write(copy, path.read_bytes())


def lungs(rng: np.random.Generator) -> np.ndarray:
    """Two ellipses: bool [HEIGHT, WIDTH]."""
    y, tall = rng.uniform(0.45, 0.55), rng.uniform(0.25, 0.35)
    sides = [
        dummy_images.ellipse(HEIGHT, WIDTH, (y, x), (tall, 0.15)) for x in (0.28, 0.72)
    ]
    return sides[0] | sides[1]


def _reading(home: str, index: int) -> bytes:
    if home == "CHNCXR":
        return _SHENZHEN[index // 4 % len(_SHENZHEN)].encode("latin-1")
    text = "normal"
    if index == 6:
        text = "no report, same patient as MCUCXR_0004_1"
    return _MONTGOMERY.format("FMO"[index % 3], 20 + index, text).encode()


def _add_quirks(root: epath.Path) -> None:
    """Images 901 to 904 that cannot be used, and a mask without an image."""
    picture = dummy_images.draw(np.random.default_rng(99), HEIGHT, WIDTH)
    whole = dummy_images.png(picture)
    flat = dummy_images.png(picture[: HEIGHT // 2])
    contents = {
        "MCUCXR_0901_0": (whole[:100], whole),
        "MCUCXR_0902_0": (b"", whole),
        "MCUCXR_0903_1": (whole, whole[:100]),
        "MCUCXR_0904_1": (whole, flat),
    }
    for name, (image, mask) in contents.items():
        _write(root / "CXR_png" / f"{name}.png", image)
        _write(root / "masks" / f"{name}.png", mask)
    _write(root / "masks" / "CHNCXR_0999_1_mask.png", whole)
    for folder in ("CXR_png", "masks"):
        _write(root / folder / "Thumbs.db", b"\xd0\xcf\x11\xe0")
        _write(root / folder / "._MCUCXR_0903_1.png", dummy_images.apple_double())
    _write(root / "NLM-MontgomeryCXRSet-ReadMe.pdf", b"%PDF-1.4\n")
