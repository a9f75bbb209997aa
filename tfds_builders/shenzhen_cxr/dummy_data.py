"""Invented files in the shape of the Shenzhen release."""

from __future__ import annotations

import numpy as np
from etils import epath

from tfds_builders.releases import dummy_images

LAYOUTS = ("nlm", "raddar")
FIRST_ILL = 327

# First lines of readings, all met in the release, with sex and age in years.
SPELLINGS = (
    ("male 45yrs", "M", 45.0),
    ("female24yrs", "F", 24.0),
    ("femal 32yrs", "F", 32.0),
    ("male , 29yrs  \t", "M", 29.0),
    ("Female, 28yrs", "F", 28.0),
    ("male 18month", "M", 1.5),
    ("female 64days", "F", 64 / 365.25),
    ("male 42", "M", 42.0),
)
_SEXES = {"M": "Male", "F": "Female"}


def names(images: int) -> list[str]:
    """Names of the images without suffix: the first half is normal."""
    numbers = [*range(1, images // 2 + 1)]
    ill = range(FIRST_ILL, FIRST_ILL + images - len(numbers))
    return [f"CHNCXR_{n:04}_{int(n >= FIRST_ILL)}" for n in (*numbers, *ill)]


def write(
    folder: epath.Path, *, images: int = 40, seed: int = 0, layout: str = "nlm"
) -> None:
    """Writes a release, half of it normal; three of four images have a lung mask.

    Args:
      folder: Becomes the root of the release.
      images: How many.
      seed: Another seed gives other images.
      layout: "nlm", or "raddar" for the mirror with a table.
    """
    rng = np.random.default_rng(seed)
    place = folder / ("CXR_png" if layout == "nlm" else "images/images")
    masks = folder / "mask" / "mask"
    others = [folder / name for name in ("ClinicalReadings", "Annotations-2")]
    for path in (place, masks, *others):
        path.mkdir(parents=True, exist_ok=True)
    rows = ["study_id,sex,age,findings"]
    for number, key in enumerate(names(images)):
        height, width = 40 + 4 * (number % 3), 44
        pixels, lungs = _picture(rng, height, width, is_ill=key.endswith("1"))
        suffix = ".PNG" if number == 5 else ".png"
        (place / f"{key}{suffix}").write_bytes(dummy_images.png(pixels, "RGB"))
        if number % 4:
            mask = lungs[::2, ::2] if number % 4 == 3 else lungs
            content = dummy_images.png(mask.astype(np.uint8) * 255)
            (masks / f"{key}_mask.png").write_bytes(content)
        line, sex, age = SPELLINGS[number % len(SPELLINGS)]
        finding = "STB" if key.endswith("1") else "normal"
        rows.append(f"{key}.png,{_SEXES[sex]},{age},{finding}")
        if layout == "nlm":
            end = "\r\n" if number % 2 else "\n"
            text = f"{line}{end}{finding}{end}"
            (others[0] / f"{key}.txt").write_bytes(text.encode("latin-1"))
    lesion = dummy_images.png(np.full((40, 44), 255, np.uint8))
    (others[1] / f"CHNCXR_{FIRST_ILL:04}_1.png").write_bytes(lesion)
    if layout == "raddar":
        (folder / "shenzhen_metadata.csv").write_text("\n".join(rows) + "\n")
    for name in ("Thumbs.db", "._CHNCXR_0001_0.png"):
        (place / name).write_bytes(dummy_images.apple_double())


def _picture(
    rng: np.random.Generator, height: int, width: int, *, is_ill: bool
) -> tuple[np.ndarray, np.ndarray]:
    """An image with a black border, and where its lungs are."""
    spots = [(rng.uniform(0.25, 0.4), rng.choice([0.3, 0.7]))] if is_ill else []
    pixels = dummy_images.draw(rng, height, width, spots, radius=0.12)
    pixels[:2] = 1
    lungs = np.zeros((height, width), bool)
    # One is higher and narrower, so that a mask turned around does not fit.
    for y, x, wide in ((0.4, 0.3, 0.12), (0.55, 0.7, 0.18)):
        lungs |= dummy_images.ellipse(height, width, (y, x), (0.33, wide))
    pixels[lungs] = pixels[lungs] // 2 + 5
    return pixels, lungs
